"""Loggers of other services, without network, beside the CSV log that a run always has."""

from __future__ import annotations

import csv

import pytest

from support import commands

LOGGERS = {
    "wandb": ("wandb", ("logger.wandb.offline=true",), "logs/wandb/offline-run-*"),
    "mlflow": ("mlflow", (), "logs/mlflow/*/*/metrics/*"),
    "comet": ("comet_ml", ("logger.comet.online=false",), None),
    "aim": ("aim", (), "logs/aim/.aim"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGGERS)
def test_a_run_logs_there(name, tmp_path, monkeypatch):
    package, options, files = LOGGERS[name]
    pytest.importorskip(package)
    run = tmp_path / "run"
    monkeypatch.setenv("COMET_OFFLINE_DIRECTORY", str(tmp_path))
    done = commands.run(
        "experiment=toptagging", "model=transformer_small", "model.num_blocks=1", "debug=fast",
        "plots=[]",
        "data.limit=200", "data.eval_limit=100", f"logger={name}", *options, f"run_dir={run}",
        cwd=tmp_path, fresh=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    with (run / "logs" / "csv" / "version_0" / "metrics.csv").open() as log:
        assert len(list(csv.DictReader(log))) > 1
    if files is not None:
        assert list(run.glob(files)), [str(p) for p in run.rglob("*")][:40]
