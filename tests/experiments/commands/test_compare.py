"""Tables of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from experiments import archive_run
from experiments.cli import CONFIG_DIR
from experiments.compare import main
from experiments.metrics.ensemble import ensemble_scores
from experiments.metrics.scores import Scores
from experiments.report import archive
from experiments.report.comparison import Run, data_efficiency, mean_and_spread
from experiments.report.published import published, value_with_error
from experiments.saved_runs.same_data import write_identity
from support.slow import every


def make_run(folder, seed, auc, model="experiments.models.lgatr.LGATrTagger", task="toptagging"):
    folder.mkdir()
    config = {
        "name": "toptagging", "seed": seed, "run_dir": str(folder), "published": task,
        "model": {"_target_": model}, "ckpt_path": "none",
        "data": {"path": "jets.h5", "seed": seed},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = {
        "accuracy": 0.94, "accuracy_error": 0.001, "auc": auc, "auc_error": 0.002,
        "rejection_at_0.5": 500.0, "rejection_at_0.5_error": 20.0, "rejection_at_0.3": None,
        "rejection_at_0.3_lower_limit_95": 1333.0,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(results))
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    return [
        *(make_run(tmp_path / f"a{seed}", seed, 0.985 + 0.001 * seed) for seed in range(3)),
        make_run(tmp_path / "b", 1, 0.98, "experiments.models.lgatr_slim.SlimTagger"),
    ]


def test_runs_of_a_regression(tmp_path, capsys):
    """Tables and curves that look for an AUC."""
    runs = [make_run(tmp_path / str(n), n, 0.9, task="amplitudes_z4g") for n in (1, 2)]
    for number, run in enumerate(runs):
        mse = {"mse_times_1e5": 20.0 + number, "mse_times_1e5_error": 1.0}
        results = {**mse, "jets": {"train": 1000}, "seed": number}
        (Path(run) / "metrics.json").write_text(json.dumps(results))
    main([*runs, "--curve", str(tmp_path / "curve.png")])
    out = capsys.readouterr().out
    assert "MSE × 1e5" in out and "20.50±0.71" in out and "| 137±2 |" in out
    figure, curves = data_efficiency([Run.read(Path(run)) for run in runs])
    assert figure.small and list(curves.values()) == [{1000: [20.0, 21.0]}]


def test_seeds_are_one_row(runs, capsys):
    main([*runs, "--no-published"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| toptagging, LGATrTagger | 3 |")
    assert "0.9860±0.0010" in lines[2] and "500.0±0.0" not in lines[2].split("|")[4]
    assert "| toptagging, SlimTagger | 1 |" in lines[3]
    assert "0.9800±0.0020" in lines[3] and "> 1333 (95 %)" in lines[3]


class TestRealConfigurations:
    """What runs of a --multirun write: every reference resolved, paths and seeds in many places."""

    @staticmethod
    def run(folder, seed, *overrides):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            options = ["experiment=toptagging", f"seed={seed}", f"run_dir={folder}", *overrides]
            cfg = compose("run", overrides=options)
        make_run(folder, seed, 0.98 + 0.001 * seed)
        text = OmegaConf.to_yaml(cfg, resolve=True)
        (folder / "config.yaml").write_text(text)
        return str(folder)

    @pytest.mark.parametrize("model", every(3, ["lgatr", "bdt", "part"]))
    def test_seeds_are_one_row(self, tmp_path, model, capsys):
        found = [self.run(tmp_path / str(seed), seed, f"model={model}") for seed in (1, 2, 3)]
        main([*found, "--no-published"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3 and lines[2].split("|")[2].strip() == "3"

    def test_other_options_are_rows_with_names(self, tmp_path, capsys):
        found = [
            self.run(tmp_path / f"{seed}_{limit}", seed, f"data.limit={limit}")
            for seed in (1, 2)
            for limit in (100, 1000)
        ]
        (tmp_path / "together").mkdir()
        (tmp_path / "together" / "multirun.yaml").write_text("hydra: {}\n")
        main([*found, str(tmp_path / "together"), "--no-published"])
        names = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
        assert [n.partition(", ")[2] for n in names] == [
            "LGATrTagger, data.limit=100",
            "LGATrTagger, data.limit=1000",
        ]


def test_other_jets_at_the_same_path_are_a_row(runs, capsys):
    for folder, digest in zip(runs[:3], "aab", strict=True):
        write_identity(Path(folder), {"train": digest})
    main([*runs, "--no-published"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "data.path=jets.h5 (" in lines[2]
    assert "LGATrTagger, data.path=jets.h5 (" in lines[2] and "| 2 |" in lines[2]
    assert "| 1 |" in lines[3]


def test_beside_the_papers(runs, capsys):
    main(runs)
    out = capsys.readouterr().out
    for row in published("toptagging")["rows"]:
        assert row["network"] in out and row["values"][1] in out


def test_latex(runs, capsys):
    main([*runs, "--latex"])
    out = capsys.readouterr().out
    assert out.startswith(r"\begin{tabular}{lrrrrr}") and r"$\pm$" in out
    assert "_B" not in out.replace(r"\_B", "") and "±" not in out


@pytest.mark.parametrize(
    ("values", "text"), [([0.98, 0.99], "0.9850±0.0071"), ([540.0, 560.0, 520.0], "540±20")]
)
def test_digits(values, text):
    assert mean_and_spread(values) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.98765, 0.00021, "0.9877±0.0002"), (540.4, 19.6, "540±20"), (31.362, 0.284, "31.36±0.28"),
        (-32.65, 0.04, "-32.65±0.04"), (540.4, None, "540"), (None, None, "–"),
    ],
)  # fmt: skip
def test_digits_of_one_run(value, error, text):
    assert value_with_error({"x": value, "x_error": error}, "x") == text


def test_errors(tmp_path, runs, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nothing")])
    assert "no finished run" in capsys.readouterr().err
    other = make_run(tmp_path / "c", 1, 0.9, task="jetclass")
    with pytest.raises(SystemExit):
        main([*runs, other])
    assert "different tasks (jetclass, toptagging)" in capsys.readouterr().err


def scores(seed, classes=2):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(300) % classes
    shape = (300,) if classes == 2 else (300, classes)
    logits = torch.randn(shape, generator=generator)
    logits = logits + (2.0 * target if classes == 2 else 2 * F.one_hot(target, classes))
    return Scores(logits, target, torch.linspace(1, 200, 300), torch.linspace(500, 600, 300))


class TestEnsembles:
    @pytest.mark.parametrize("classes", [2, 4])
    def test_mean_of_probabilities(self, classes):
        parts = [scores(seed, classes) for seed in range(3)]
        joined = ensemble_scores(parts).logits.double()
        if classes == 2:
            mean = torch.stack([p.logits.double().sigmoid() for p in parts]).mean(0)
            torch.testing.assert_close(joined.sigmoid(), mean, rtol=1e-5, atol=1e-6)
        else:
            mean = torch.stack([p.logits.double().softmax(1) for p in parts]).mean(0)
            torch.testing.assert_close(joined.softmax(1), mean, rtol=1e-5, atol=1e-6)

    def test_certain_jets_keep_their_order(self):
        logits = torch.tensor([60.0, 61.0, -70.0, -71.0])
        part = Scores(logits, torch.tensor([1, 1, 0, 0]), torch.ones(4), torch.ones(4))
        torch.testing.assert_close(ensemble_scores([part, part]).logits, logits)

    def test_a_row_of_its_own(self, runs, capsys):
        for seed, run in enumerate(runs[:3]):
            scores(seed).save(Path(run) / "test_scores.h5", ("background", "signal"))
        main([*runs, "--no-published", "--ensemble"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5 and lines[3].startswith("| toptagging, LGATrTagger, ensemble | 3 |")
        joined = ensemble_scores([scores(seed) for seed in range(3)])
        truth = roc_auc_score(joined.target, joined.logits)
        assert truth > max(roc_auc_score(s.target, s.logits) for s in map(scores, range(3)))
        assert f"| {truth:.4f}±" in lines[3]

    def test_other_jets(self, runs, capsys):
        for seed, run in enumerate(runs[:3]):
            found = scores(seed)
            mass = found.mass + seed
            Scores(found.logits, found.target, mass, found.pt).save(
                Path(run) / "test_scores.h5", ("background", "signal")
            )
        with pytest.raises(SystemExit):
            main([*runs, "--ensemble"])
        assert "different jets" in capsys.readouterr().err

    def test_no_scores(self, runs, capsys):
        with pytest.raises(SystemExit):
            main([*runs, "--ensemble"])
        assert "test_scores.h5: no such file" in capsys.readouterr().err


def test_data_efficiency(tmp_path, runs):
    for k, run in enumerate(runs):
        file = Path(run) / "metrics.json"
        results = json.loads(file.read_text()) | {"jets": {"train": 1000 * (1 + k % 2)}}
        file.write_text(json.dumps(results))
    figure, curves = data_efficiency([Run.read(Path(run)) for run in runs])
    assert curves["toptagging, LGATrTagger"] == {1000: [0.985, 0.987], 2000: [0.986]}
    assert figure.name == "auc"
    main([*runs, "--curve", str(tmp_path / "curve.png")])
    assert (tmp_path / "curve.png").stat().st_size > 5000


@pytest.mark.parametrize("program", ["compare", "keep"])
def test_a_run_given_twice_is_refused(runs, program, tmp_path, capsys, monkeypatch):
    (tmp_path / "link").symlink_to(runs[0])
    monkeypatch.setattr(archive, "ARCHIVE", tmp_path / "kept")
    named = ["--name", "A", "--data", "x"] if program == "keep" else []
    command = {"compare": main, "keep": archive_run.main}[program]
    for again in (runs[0], f"{runs[0]}/", str(tmp_path / "link")):
        with pytest.raises(SystemExit):
            command([runs[0], runs[1], again, *named])
        assert "given twice" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"high"', "true", "[1]"])
@pytest.mark.parametrize("name", ["auc", "rejection_at_0.5", "accuracy_error"])
def test_figures_that_are_no_numbers_are_refused(runs, value, name, capsys):
    file = Path(runs[0]) / "metrics.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, name: 0}).replace(f'"{name}": 0', f'"{name}": {value}'))
    with pytest.raises(SystemExit):
        main(runs)
    assert f"{file}: {name} must be a finite number" in capsys.readouterr().err


def test_what_a_reader_must_know_is_noted(runs, capsys):
    main([runs[0], runs[3], "--ensemble"])
    notes = capsys.readouterr().err
    assert "* Lorentz-equivariant" in notes and "of the public data set" in notes
    assert "no row has two or more runs" in notes
    main([*runs, "--no-published"])
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--name", ""], ["--name", " "], ["--name", "x", "--task", ""]]
)
def test_empty_names_are_refused(runs, options, capsys):
    with pytest.raises(SystemExit):
        archive_run.main([runs[0], *options, "--data", "x"])
    assert (
        f"error: {options[-2]} {options[-1]!r}: must be the name of a folder"
        in capsys.readouterr().err
    )
