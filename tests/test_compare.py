"""Tables of runs."""

from __future__ import annotations

import json

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import reproduce
from experiments.cli import CONFIG_DIR
from experiments.compare import main, mean_and_spread
from experiments.report.html import all_published, published


def make_run(folder, seed, auc, model="experiments.models.lgatr.LGATrTagger", task="toptagging"):
    folder.mkdir()
    config = {
        "name": "toptagging", "seed": seed, "run_dir": str(folder), "published": task,
        "model": {"_target_": model}, "ckpt_path": "none",
        "data": {"path": "jets.h5", "module": {"seed": seed}},
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
        make_run(tmp_path / "b", 1, 0.98, "experiments.models.slim.SlimTagger"),
    ]


def test_seeds_are_one_row(runs, capsys):
    main([*runs, "--no-published"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| toptagging, LGATrTagger | 3 |")
    assert "0.9860±0.0010" in lines[2] and "500.0±0.0" not in lines[2].split("|")[4]
    assert "| toptagging, SlimTagger | 1 |" in lines[3]
    assert "0.9800±0.0020" in lines[3] and "> 1333 (95 %)" in lines[3]


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


def test_errors(tmp_path, runs, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nothing")])
    assert "no finished run" in capsys.readouterr().err
    other = make_run(tmp_path / "c", 1, 0.9, task="jetclass")
    with pytest.raises(SystemExit):
        main([*runs, other])
    assert "different tasks (jetclass, toptagging)" in capsys.readouterr().err


COMMANDS = [
    (task, row["network"], row["command"])
    for task, entry in all_published().items()
    for row in entry["rows"]
    if "command" in row
]


@pytest.mark.parametrize(("task", "network", "command"), COMMANDS)
def test_commands_of_published_rows_compose(task, network, command):
    program, script, *overrides = command.split()
    assert (program, script) == ("python", "run.py")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=overrides)
    assert cfg.published == task
    assert OmegaConf.to_yaml(cfg, resolve=True)


def test_the_page_shows_runs_that_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "RUNS", tmp_path)
    entry = published("toptagging")
    assert "not run: needs the public data set" in reproduce.table("toptagging", entry)
    folder = tmp_path / "toptagging" / "L-GATr"
    folder.mkdir(parents=True)
    for seed in (1, 2):
        results = {
            "auc": 0.98 + seed / 1000, "accuracy": 0.94, "rejection_at_0.5": 500.0 + seed,
            "rejection_at_0.3": 2000.0, "data": "jets", "device": "cuda:0", "date": "2026-01-01",
        }  # fmt: skip
        (folder / f"{seed}.json").write_text(json.dumps(results))
    text = reproduce.table("toptagging", entry)
    (line,) = [line for line in text.splitlines() if "2 runs, jets, cuda:0, 2026-01-01" in line]
    assert "0.98150±0.00071" in line and "501.50±0.71" in line
