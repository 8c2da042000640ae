"""Runs that are kept with the code, and the page of published figures beside them."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments import archive_run, reproduce
from experiments.cli import CONFIG_DIR
from experiments.errors import UserError
from experiments.report import archive
from experiments.report.published import all_published, published
from support.slow import every

COMMANDS = [
    (task, row["network"], row["command"])
    for task, entry in all_published().items()
    for row in entry["rows"]
    if "command" in row
]


@pytest.mark.parametrize(("task", "network", "command"), every(3, COMMANDS))
def test_commands_of_published_rows_compose(task, network, command):
    program, script, *overrides = command.split()
    assert (program, script) == ("python", "run.py")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=overrides)
    assert cfg.published == task
    assert OmegaConf.to_yaml(cfg, resolve=True)


def test_the_page_shows_runs_that_are_kept(tmp_path, monkeypatch):
    for module in (archive, reproduce):
        monkeypatch.setattr(module, "ARCHIVE", tmp_path)
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
    assert "0.98150±0.00071" in line and "501.50±0.71" in line and "2000±0 " in line


class TestKeep:
    @pytest.fixture(autouse=True)
    def kept(self, tmp_path, monkeypatch):
        for module in (archive, reproduce):
            monkeypatch.setattr(module, "ARCHIVE", tmp_path / "kept")
        return tmp_path / "kept"

    @staticmethod
    def run(folder, seed=1, auc=0.98):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("name: own\n")
        (folder / "metrics.json").write_text(
            json.dumps({"auc": auc, "seed": seed, "device": "cpu", "accuracy": 0.9})
        )
        for part, rows in enumerate(("9,,,0.3\n9,0.95,0.2,\n", "19,0.97,0.1,\n")):
            log = folder / "logs" / "csv" / f"version_{part}" / "metrics.csv"
            log.parent.mkdir(parents=True)
            log.write_text("step,val/auc,val/loss,loss\n" + rows)
        return folder

    def test_figures_and_curves_of_all_parts(self, tmp_path, kept, capsys):
        run = self.run(tmp_path / "run")
        archive_run.main([str(run), "--name", "Mine", "--data", "some jets"])
        assert capsys.readouterr().out.strip() == str(kept / "own" / "Mine" / "1.json")
        assert json.loads((kept / "own" / "Mine" / "1.json").read_text())["data"] == "some jets"
        text = (kept / "own" / "Mine" / "1_curve.csv").read_text()
        assert text.splitlines() == [
            "step,val_auc,val_loss",
            "10,0.95,0.2",
            "20,0.97,0.1",
        ]
        assert archive.learning_curves("own")[1] == {"Mine": [{10: 0.95, 20: 0.97}]}
        reproduce.main(["--curves", str(tmp_path / "plots")])
        printed = capsys.readouterr().out
        assert "| Mine | 1 |" in printed and "plots/learning_own.png" in printed
        assert (tmp_path / "plots" / "learning_own.png").stat().st_size > 1000

    def test_nothing_that_is_kept_is_lost(self, tmp_path, kept, capsys):
        archive.archive(self.run(tmp_path / "a"), "Mine", "jets")
        archive.archive(tmp_path / "a", "Mine", "jets")
        other = self.run(tmp_path / "b", auc=0.5)
        with pytest.raises(SystemExit):
            archive_run.main([str(other), "--name", "Mine", "--data", "jets"])
        assert "another run of this seed is kept" in capsys.readouterr().err
        assert json.loads((kept / "own" / "Mine" / "1.json").read_text())["auc"] == 0.98

    def test_an_unfinished_run(self, tmp_path):
        with pytest.raises(UserError, match="no finished run"):
            archive.archive(tmp_path, "Mine", "jets")

    @pytest.mark.parametrize("text", ['{"auc": 1', '{"auc": 1}', "[]", '{"seed": "one"}'])
    def test_damaged_figures(self, tmp_path, text):
        run = self.run(tmp_path / "run")
        (run / "metrics.json").write_text(text)
        with pytest.raises(UserError, match=r"metrics\.json: (damaged|lacks seed|seed must be)"):
            archive.archive(run, "Mine", "jets")

    @pytest.mark.parametrize("names", [("../Mine", None), ("Mine", "a/b"), ("", None)])
    def test_names_are_not_paths(self, tmp_path, kept, names):
        with pytest.raises(UserError, match="without slashes"):
            archive.archive(self.run(tmp_path / "run"), names[0], "jets", names[1])
        assert not kept.exists()


def test_curves_by_time(tmp_path, monkeypatch):
    """Steps in minutes, of runs that noted how long they took."""
    monkeypatch.setattr(archive, "ARCHIVE", tmp_path)
    folder = tmp_path / "task" / "net"
    folder.mkdir(parents=True)
    for seed, seconds in ((1, 120.0), (2, None)):
        noted = {"steps": 10, "training_seconds": seconds, "data": "x", "device": "cpu"}
        (folder / f"{seed}.json").write_text(json.dumps(noted))
        (folder / f"{seed}_curve.csv").write_text("step,val_mse\n5,0.5\n10,0.1\n")
    figure, curves = archive.learning_curves("task")
    assert figure.logged == "mse" and curves == {"net": [{5: 0.5, 10: 0.1}] * 2}
    assert archive.in_minutes("task", curves) == {"net": [{1.0: 0.5, 2.0: 0.1}]}
