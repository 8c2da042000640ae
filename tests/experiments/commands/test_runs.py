"""Configurations compose, experiments run, bad commands end in one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from data.amplitudes import phase_space
from data.events import files
from experiments.cli import CONFIG_DIR, ROOT
from support.commands import python, run
from support.slow import slow_but_for

EXPERIMENTS = sorted(p.stem for p in (CONFIG_DIR / "experiment").glob("*.yaml"))
OTHER_TASKS = {
    "amplitudes": ("mse", "median_relative_error"),
    "amplitudes_paper": ("mse", "median_relative_error"),
    "ttbar": ("nll", "classifier_auc", "mass_t1_generated"),
    "ttbar_paper": ("nll", "classifier_auc", "mass_t1_generated"),
    "unfolding": ("nll", "classifier_auc", "mass_W2_data"),
    "zmumu": ("nll", "classifier_auc", "mass_Z_generated"),
}
"""Figures of experiments without classes; two of them run in tests of their tasks."""
MINI = {
    name: f"data.path={ROOT / 'data' / file}"
    for name, file in [
        ("toptagging_paper", "toptagging_mini.h5"),
        ("toptagxl", "toptagging_mini.h5"),
        ("jetclass_paper", "jetclass_mini.h5"),
        ("jetclass_paper_2505", "jetclass_mini.h5"),
        ("jetclass_guide", "jetclass_mini.h5"),
        ("toptagging_finetune", "toptagging_mini.h5"),
    ]
}
"""Data for experiments that are nothing without data of the user's own."""

RESULTS = ("accuracy", "auc", "loss", "calibration_error")
SINGLE = ("rejection_at_0.5", "rejection_at_0.3")
TEN = ("rejection_Hbb_at_0.5", "rejection_Hqql_at_0.99", "rejection_Tbl_at_0.995")


def write_rows(folder):
    """Rows of numbers as in the public data sets: momenta and amplitudes, and whole events."""
    random = np.random.default_rng(0)
    energy = random.uniform(500.0, 1500.0, 200)
    masses = (91.188, 0.0, 0.0, 0.0, 0.0)
    flat = phase_space.massless(energy, len(masses), random)
    outgoing = phase_space.massive(flat, energy, masses)
    momenta = np.concatenate([phase_space.beams(energy), outgoing], axis=1).reshape(200, -1)
    amplitudes = np.exp(random.normal(size=(200, 1)))
    np.save(folder / "amplitudes_paper.npy", np.concatenate([momenta, amplitudes], axis=1))
    events = files.read(ROOT / "data" / "ttbar_mini.h5", "train", 1000).momenta
    np.save(folder / "ttbar_paper.npy", events.reshape(1000, -1))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(set(OTHER_TASKS) - {"amplitudes", "ttbar"}))
def test_experiments_of_other_tasks_take_a_step(experiment, tmp_path):
    folder, options = tmp_path / "run", []
    if experiment.endswith("_paper"):
        write_rows(tmp_path)
        options = [f"data.path={tmp_path / experiment}.npy", "data.shares=[0.5,0.2,0.3]"]
    if "amplitudes" not in experiment:
        options += ["task.solver.step=0.25", "task.test_nll_events=8"]
    drawn = "[]" if experiment.endswith("_paper") else "[png]"
    given = (f"experiment={experiment}", *options, "attention=native", "debug=fast")
    done = run(*given, f"plots={drawn}", f"run_dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    results = json.loads((folder / "metrics.json").read_text())
    assert results["steps"] == 2 and results.keys() >= {*OTHER_TASKS[experiment]}
    for name in ("config.yaml", "report.html", "checkpoints/last.ckpt"):
        assert (folder / name).is_file()


def test_experiment_files_are_short():
    for path in (CONFIG_DIR / "experiment").glob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 40


def experiments():
    """By default that of the README."""
    return slow_but_for(["toptagging"], [e for e in EXPERIMENTS if e not in OTHER_TASKS])


@pytest.mark.parametrize("experiment", experiments())
def test_experiments_take_a_step(experiment, tmp_path):
    folder, attention = tmp_path / "run", "xformers"
    drawn = experiment in ("toptagging", "jetclass")  # one of each kind
    done = run(
        f"experiment={experiment}",
        *([MINI[experiment]] if experiment in MINI else []),
        *(["model.backbone=none"] if experiment == "toptagging_finetune" else []),
        # Twelve blocks are built and measured as one is.
        *(["model.network.num_blocks=1"] if experiment.startswith("jetclass_paper") else []),
        f"attention={attention}",
        "debug=fast",
        *([] if drawn else ["plots=[]"]),
        f"run_dir={folder}",
        cwd=tmp_path,
        fresh=experiment == "toptagging",  # the README's command, with nothing imported before
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(warnings) <= 1, warnings
    results = json.loads((folder / "metrics.json").read_text())
    several = experiment.startswith("jetclass")
    assert results.keys() >= {*RESULTS}
    for name in TEN if several else SINGLE:
        assert name in results and f"{name}_error" in results
    assert results["attention_requested"] == attention
    assert results["attention_executed"] in ("native", "xformers")
    assert results["steps"] == 2 and results["seed"] == 1 and results["parameters"] > 0
    for name in ("config.yaml", "report.html", "checkpoints/last.ckpt"):
        assert (folder / name).is_file()
    own = ("confusion",) if several else ("scores", "mass_sculpting")
    wanted = ("roc", "calibration", "loss", "learning_rate", *own)
    for name in [f"{plot}.{suffix}" for plot in wanted for suffix in ("png", "pdf") if drawn]:
        assert (folder / "plots" / name).stat().st_size > 1000
    report = (folder / "report.html").read_text()
    assert ("src='data:image/png;base64," in report) == (folder / "plots").is_dir() == drawn
    if experiment.startswith("toptagging"):
        assert ".9423±.0002" in report
    assert "src='http" not in report and "<link" not in report and "<script" not in report
    assert OmegaConf.load(folder / "config.yaml").attention.name == attention
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lgatr_slim_small", "bdt"])
def test_other_models_run(model, tmp_path):
    folder = tmp_path / "run"
    done = run(
        "experiment=toptagging", f"model={model}", "debug=fast", "plots=[]", f"run_dir={folder}"
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    results = json.loads((folder / "metrics.json").read_text())
    assert 0 <= results["auc"] <= 1 and results["waiting_for_data"] is None
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_the_best_validation_is_named_by_what_chose_it(tmp_path):
    """A loss that metrics.json calls an AUC, and that a search maximises."""
    options = ("callbacks.best.monitor=val/loss", "callbacks.best.mode=min")
    done = run(
        "debug=fast", "plots=[]", "model=lgatr_slim_small", *options, f"run_dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["best_val_loss"] > 0 and "best_val_auc" not in results


def assert_one_line(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0]


class TestBadCommands:
    def test_unknown_choices(self, tmp_path):
        assert_one_line(run("attention=flasch"), "auto, flash, flex, native, varlen, xformers")
        assert_one_line(run("experiment=toptag"), *EXPERIMENTS)

    def test_unknown_option(self):
        assert_one_line(run("trainer.max_stepz=3"), "did you mean trainer.max_steps?")

    def test_several_mistakes_are_told_at_once(self):
        done = run("seed=x", "trainer.max_stepz=3", "data.batch_size=0")
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["error"] * 3
        for word in ("seed=x", "max_stepz", "data.batch_size=0"):
            assert word in done.stderr

    def test_diverging_training(self, tmp_path):
        done = run("debug=fast", "optimizer.lr=1e30", "trainer.max_steps=4", cwd=tmp_path)
        assert_one_line(done, "lower the learning rate")
        assert not list(tmp_path.rglob("metrics.json"))

    @pytest.mark.parametrize(
        ("option", "word"),
        [
            ("data.features=[colour]", "log_pt"),
            ("trainer.devices=99", "there are only"),
            ("attention=flex attention.strict=true", "attention=flex: "),
            ("experiment=toptagging_finetune", "model.backbone must be given"),
            ("experiment=toptagging_paper", "data.path must be given"),
            ("data.batch_size=0", "at least 1"),
            ("model.network.attention.num_heads=0", "from 1 to 1024"),
        ],
    )
    def test_wrong_values(self, option, word, tmp_path):
        assert_one_line(run("debug=fast", *option.split(), cwd=tmp_path), word)
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(torch.cuda.is_available(), reason="xformers runs here")
    def test_strict_attention(self, tmp_path):
        done = run("debug=fast", "attention=xformers", "attention.strict=true", cwd=tmp_path)
        assert_one_line(done, "usable here: native")

    def test_checkpoint_that_is_none(self, tmp_path):
        (tmp_path / "junk.ckpt").write_bytes(b"junk" * 1000)
        assert_one_line(run("ckpt_path=junk.ckpt", cwd=tmp_path), "not a checkpoint")

    def test_missing_data(self, tmp_path):
        folder = tmp_path / "run"
        done = run("data.path=nowhere.h5", f"run_dir={folder}", cwd=tmp_path)
        assert_one_line(done, "nowhere.h5", "no such file")
        assert not folder.exists()

    def test_directory_of_another_run(self, tmp_path):
        (tmp_path / "metrics.json").write_text("precious")
        assert_one_line(run(f"run_dir={tmp_path}"), "already holds results", f"resume={tmp_path}")
        assert (tmp_path / "metrics.json").read_text() == "precious"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.slow
    def test_another_optimizer(self, tmp_path, finished):
        done = run("debug=fast", "optimizer=soap", "optimizer.lr=-1", cwd=tmp_path)
        assert_one_line(done, "optimizer.lr=-1: must be above 0")
        config = shutil.copytree(finished, tmp_path / "runs/toptagging/one") / "config.yaml"
        before = config.read_bytes()
        done = run("debug=fast", "ckpt_path=last", "optimizer=soap", cwd=tmp_path)
        assert_one_line(done, "optimizer=soap would change")
        assert config.read_bytes() == before
        # A new run that starts from the checkpoint is as little possible, and leaves nothing.
        last = config.parent / "checkpoints/last.ckpt"
        options = ("model=transformer_small", f"ckpt_path={last}", "run_dir=other")
        done = run("debug=fast", "optimizer=soap", *options, cwd=tmp_path)
        assert_one_line(done, "of another optimizer")
        assert not (tmp_path / "other").exists()

    def test_nothing_to_resume(self, tmp_path):
        done = run(f"run_dir={tmp_path}", "ckpt_path=last")
        assert_one_line(done, "the folder of a run?")
        assert_one_line(run("ckpt_path=last", cwd=tmp_path), "no run in")
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_last_run_is_found_and_extended(self, tmp_path):
        # Shorter than the interval between checkpoints: the end is saved all the same.
        short = run("debug=fast", "trainer.val_check_interval=5", cwd=tmp_path)
        assert short.returncode == 0
        assert short.stderr.startswith("warning: trainer.val_check_interval=5 is more than")
        assert len(short.stderr.splitlines()) == 1
        done = run("debug=fast", "ckpt_path=last", "trainer.max_steps=3", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / "runs" / "toptagging").iterdir()
        assert json.loads((folder / "metrics.json").read_text())["steps"] == 3

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("limit", "words"),
        [
            (10_000, "name another folder by TMPDIR"),  # a file of HDF5
            (300_000, "File too large; go on by: python run.py resume="),  # a checkpoint
        ],
    )
    def test_disk_full(self, tmp_path, limit, words):
        # The limit on file sizes stands in for a full disk.
        folder = tmp_path / "run"
        script = (
            "import resource, runpy, signal, sys\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"sys.argv = ['run.py', 'debug=fast', 'run_dir={folder}']\n"
            f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
        )
        done = python("-c", script, fresh=True)
        assert_one_line(done, words)
        assert not (folder / "metrics.json").exists()
        assert not list(folder.rglob("*.ckpt")) and not list(folder.rglob("*partial*"))


def test_figures_of_cost_go_on_after_a_resume(monkeypatch):
    from experiments.training.callbacks import throughput

    now, module = 0.0, SimpleNamespace(log=lambda *a, **k: None)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now))

    def train(counter, steps):
        nonlocal now
        counter.on_train_start()
        now += 5  # of preparation
        for _ in range(steps):
            counter.on_train_batch_start()
            now += 2
            counter.on_train_batch_end(None, module, None, "jets")

    first = throughput.JetsPerSecond(skip_steps=0)
    train(first, 3)
    second = throughput.JetsPerSecond(skip_steps=0)
    second.load_state_dict(first.state_dict())
    assert second.before == 11.0
    now += 1000
    train(second, 2)
    assert second.jets == 5 * len("jets") and second.rate == 2.0
    assert second.state_dict()["trained"] == 20.0


def test_a_log_that_is_being_rewritten(tmp_path):
    from experiments.saved_runs.curves import read_curves

    folder = tmp_path / "version_0"
    folder.mkdir()
    log = folder / "metrics.csv"
    whole = "step,loss,val/loss\n9,0.5,\n19,0.4,0.6\n"
    log.write_text(whole)
    assert read_curves(tmp_path) == {"loss": {9: 0.5, 19: 0.4}, "val/loss": {19: 0.6}}
    for length in range(len(whole)):
        log.write_text(whole[:length])
        read_curves(tmp_path)
    log.write_text("9,0.5,\n19,0.4,0.6\n")  # the header is still to come
    assert read_curves(tmp_path) == {}
