"""Configurations of earlier versions: their names lead to what stands there now."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.cli import CONFIG_DIR
from experiments.options import renamed
from experiments.options.renamed import MODULES, current_option, current_target, upgraded
from experiments.options.signatures import find
from experiments.saved_runs.saved_config import load_config

# As runs of earlier versions kept them.
FORMER = [
    "experiments.callbacks.last_checkpoint.LastCheckpoint",
    "experiments.callbacks.progress.StepProgressBar",
    "experiments.callbacks.random_state.RandomState",
    "experiments.callbacks.throughput.JetsPerSecond",
    "experiments.checkpoint_io.AtomicCheckpointIO",
    "experiments.data.datamodule.JetData",
    "experiments.data.streamed.StreamedData",
    "experiments.models.attention.AttentionChoice",
    "experiments.models.baselines.lloca.LLoCaTransformer",
    "experiments.models.finetune.FineTuned",
    "experiments.models.lgatr.LGATrTagger",
    "experiments.models.slim.SlimTagger",
    "experiments.models.symmetry.SymmetryBreaking",
    "experiments.models.transformer.Transformer",
    "experiments.models.trees.BoostedTrees",
    "experiments.run_log.CurveLog",
    "experiments.run_log.EventLog",
    "experiments.schedules.cosine_with_warmup",
    "experiments.sharded.ShardedStrategy",
    "experiments.tasks.classification.Classification",
]


@pytest.mark.parametrize("name", FORMER)
def test_former_targets_are_found(name):
    assert find(current_target(name)).__name__ == name.rpartition(".")[2]


def test_the_table_has_no_idle_entry():
    assert {old for old in MODULES if any(n.startswith(f"{old}.") for n in FORMER)} == set(MODULES)


def test_a_former_name_is_answered_with_the_present_one():
    with pytest.raises(ValueError, match=r"is now experiments\.models\.lgatr_slim\.SlimTagger"):
        find("experiments.models.slim.SlimTagger")
    assert current_option("data.module.limit") == "data.limit"
    assert current_option("data.limit") == "data.limit"


def present() -> dict:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=["model=lgatr_slim_small", "run_dir=RUN"])
    return OmegaConf.to_container(cfg, resolve=True)


def as_before(config: dict) -> dict:
    """The configuration as the version before wrote it, with the data module's options twice."""
    names = {new: old for old, new in MODULES.items()}

    def renamed(value):
        if isinstance(value, list):
            return [renamed(entry) for entry in value]
        if isinstance(value, dict):
            return {key: renamed(entry) for key, entry in value.items()}
        for new, old in names.items():
            if isinstance(value, str) and value.startswith(f"{new}."):
                return old + value.removeprefix(new)
        return value

    former = renamed(config)
    module = former["data"]
    own = {k: v for k, v in module.items() if k not in ("_target_", "seed", "eval_token_budget")}
    del former["attention"]["_target_"]
    return {**former, "data": {**own, "module": module}}


def test_a_kept_configuration_reads_as_of_today():
    assert as_before(present()) != present()
    assert upgraded(as_before(present())) == present() == upgraded(present())


def test_one_option_may_move(monkeypatch):
    monkeypatch.setattr(renamed, "OPTIONS", {"data.batch_size": "data.jets_per_batch"})
    assert current_option("data.batch_size") == "data.jets_per_batch"
    found = renamed.former_options({"batch_size": 3, "seed": 1}, "data")
    assert found == {"data.batch_size": "data.jets_per_batch"}
    assert upgraded({"data": {"batch_size": 3}}) == {"data": {"jets_per_batch": 3}}


def test_changes_of_earlier_resumptions_count(tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps(as_before(present())))  # YAML too
    entry = {"changes": {"data.num_workers": 1, "data.module.num_workers": 1}}
    (tmp_path / "resumes.json").write_text(json.dumps({"resumes": [entry]}))
    cfg = load_config(tmp_path, ("data", "model"))
    assert cfg.data.num_workers == 1 and "module" not in cfg.data
