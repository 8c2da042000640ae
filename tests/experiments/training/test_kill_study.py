"""Runs killed at random moments give the figures of runs that nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support import ROOT

TRIALS = int(os.environ.get("KILL_TRIALS", "10"))
"""Each phase of a run, and each kind of run, twice; KILL_TRIALS=30 is a study."""


@pytest.mark.slow(minutes=5)
def test_killed_runs_end_as_whole_ones(tmp_path, capsys):
    script = ROOT / "tests" / "support" / "kill_script.py"
    command = [sys.executable, str(script), str(tmp_path), str(TRIALS), "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(trials) == TRIALS
    failed = [trial for trial in trials if trial["problems"]]
    assert not failed, json.dumps(failed, indent=1)
    # Signals came in every phase, and most met a run that they stopped.
    stopped = [
        kill
        for trial in trials
        for kill, status in zip(trial["kills"], trial["statuses"], strict=False)
        if status != 0
    ]
    assert len(stopped) >= 2 * TRIALS // 3
    assert {kill[0] for kill in stopped} >= {"training", "validation", "test", "report"}
    assert {kill[3] for kill in stopped} == {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"}
    with capsys.disabled():
        print(f"\n{len(stopped)} kills in {TRIALS} trials, {len(trials) - len(failed)} equal")
