"""Options: every default passes, every mistake is one line, before anything is read or written."""

from __future__ import annotations

import copy
import math
import re
import shlex
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments.cli import CONFIG_DIR, quiet_libraries
from experiments.errors import OptionErrors, UserError
from experiments.options import overrides
from experiments.options.check import check_options
from experiments.options.command_line import checked
from experiments.options.schema import Schema
from experiments.training.checks.run import check_run
from support.option_values import plain
from support.options import composed, refused
from support.slow import every, slow_but_for

CHOICES = [
    f"{file.parent.relative_to(CONFIG_DIR).as_posix()}={file.stem}"
    for file in sorted(CONFIG_DIR.glob("*/**/*.yaml"))
    # Plugins change Hydra alone; data of other tasks go with experiments of their own.
    if file.stem not in ("optuna", "optuna_mse", "slurm", "amplitudes", "events")
    or file.parent.name == "experiment"
]
UNFIT: list[Any] = [
    None, True, "abc", "", "1", -1, 0, 1.5, 10**30, math.inf, -math.inf, math.nan, [], [1, "a"],
    {}, {"a": 1}, {"_target_": "os.system"}, "\0",
]  # fmt: skip


def leaves(value: Any, place: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [x for k, v in value.items() for x in leaves(v, f"{place}.{k}" if place else k)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [x for n, v in enumerate(value) for x in leaves(v, f"{place}[{n}]")]
    return [place]


@pytest.fixture(autouse=True)
def quiet():
    quiet_libraries()


@pytest.mark.parametrize("choice", every(9, CHOICES))
def test_every_configuration_passes(choice):
    cfg, needed = composed(choice), []
    if "${required:" in str(OmegaConf.to_container(cfg)):
        with pytest.raises(OptionErrors, match="must be given: "):
            check_options(cfg)
        needed = ["data.path=x", *["model.backbone=x"] * ("finetune" in choice)]
        cfg = composed(choice, *needed)
    check_options(cfg)
    # As the command line reads it: groups inside of groups are no options.
    assert checked([choice, *needed], CONFIG_DIR)[0] == choice
    # What a run keeps has values in place of references, and is checked again when it is read.
    check_options(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))


WRONG_VALUES = """
seed=1.5|whole number, from 0
seed=null|whole number
seed=-1|from 0
seed=99999999999|from 0 to
seed=true|whole number
data.batch_size=0|at least 1
data.batch_size=1e3|whole number
data.limit=-1|at least 0
data.path=""|not be empty
data.path=5|text
data.features=log_pt|a list such as
data.features=[log_ptt]|did you mean log_pt?
data.features=[1]|entry 1 must be
data.augmentations=[mirorr]|did you mean mirror?
data.smallest_component=-1|at least 0
data.smallest_component=abc|a number, at least 0
data.smallest_component=inf|finite
data.module.batch_size=-1|give data.batch_size instead
data.module.batch_sizes=3|give data.batch_sizes instead
data=streamed data.chunk_size=0|at least 1
data=streamed data.mix=0|at least 1
data=streamed data.eval_batch_size=0|at least 1
data=streamed data.skip_corrupt=maybe|true or false
task.graph_step=abc|whole number
task.graph_step=0.5|whole number
task.graph_step=-1|at least 0
trainer.max_step=10|did you mean trainer.max_steps?
optimizer.foo=1|optimizer.foo: unknown option; choose from
trainer.max_steps=-1|from 1
trainer.val_check_interval=0.5|whole number
trainer.precision=17|bf16-mixed
trainer.accelerator=gpux|did you mean gpu?
trainer.fast_dev_run=true|is set by the run itself
model.network=5|_target_
model.network.hidden=3|unknown option
model.network.num_blocks=1000000000|from 1 to 1000
model.network.in_s_channels=3|set by the run itself
model.network.attention.num_head=3|did you mean model.network.attention.num_heads?
model.network.dropout_prob=2|below 1
model.network.attention=[1]|group of options
model.foo.bar=1|unknown option
model.symmetry_breaking.place=nowhere|tokens, channels
model.symmetry_breaking.beam_spurion=lightlik|did you mean lightlike?
model._target_=lgatr.LGATRR|did you mean LGATr?
model._target_=no_such.Thing|
model._partial_=false|must be true
model=bdt model.max_iter=-1|from 1
model=bdt model.max_itr=3|did you mean model.max_iter?
model=lloca model.network.attn_reps=5|text
model=pelican model.network.hidden=5|unknown option
callbacks.early_stopping.patience=-1|at least 0
callbacks.early_stopping.mode=mox|did you mean max?
callbacks.ema.decay=2|from 0 to 1
callbacks.foo=5|_target_
optimizer.lr=inf|finite
optimizer.lr=0|above 0
optimizer.betas=[0.9]|2 entries
optimizer.betas=[0.9,2]|below 1
optimizer.params=3|set by the run itself
optimizer=soap optimizer.precondition_every=5|did you mean optimizer.precondition_
scheduler.warmup_steps=-1|at least 0
scheduler.final_fraction=2|from 0 to 1
attention.name=flax|did you mean flex?
attention.compute_dtype=float17|did you mean float16?
name=a/b|without slashes
name=..|without slashes
run_dir=|not be empty
ckpt_path=|not be empty
paths.foo=3|unknown option
data.foo=1|unknown option
data.classes=5|unknown option
""".strip().splitlines()
"""Choice of a group, option=value, and a part of the answer."""

WRONG_COMMANDS = """
seed=[1,2]|whole number
data.batch_size={a:1}|whole number
task.efficiencies={signal:2}|above 0 and below 1
+trainer.max_step=10|did you mean trainer.max_steps?
trainer.strategy=foo|strategy
trainer.max_time={day:1}|
trainer.devices=0|at least 1
trainer.devices=-2|at least 1
trainer.devices=999|there are only
trainer.devices=two|must be a number
trainer.devices=1.5|
model=lgatrr|did you mean lgatr?
model=5|choose from
modell=lgatr|did you mean model?
model.network.hidden_s_channels=100000|GB
~model.network.num_blocks|must be given
model=lgatr_slim model.symmetry_breaking.beam_spurion=xyplane|bivector
model=finetune model.backbone=nowhere|no such folder
callbacks.early_stopping.monitor=val/acc|did you mean val/auc?
callbacks.best.filename=other|leave this option out
attention=flash attention.strict=true|flash
run_dir=/dev/null/x|is a file
lr=3|unknown option
+lr=3|unknown option
experiment=toptagging_paper|data.path must be given
experiment=jetclass_paper|data.path must be given
experiment=jetclass_paper_2505|data.path must be given
experiment=toptagxl|data.path must be given
experiment=toptagging_finetune|model.backbone must be given
seed=1 seed=2|given twice
experiment=toptagging experiment=jetclass|given twice
seed=1,2|several values need --multirun
model=lgatr,bdt|several values need --multirun
--multirun seed=1,x|seed=x
--multirun model=lgatr,bbt|did you mean bdt?
-m optimizer.lr=0.1,-1|optimizer.lr=-1
toptagging|did you mean data=toptagging?
seed|options are written NAME=VALUE
data.features=[a|cannot be read
=5|cannot be read
seed=1 2|options are written NAME=VALUE
data.path='a|cannot be read
model.attention.name=flex|give attention.name instead
model.attention._target_=torch.nn.Linear|must be a kind of AttentionChoice
--max-steps=5|unrecognized arguments
--config-dir=/nowhere seed=1|no such folder
""".strip().splitlines()


def problems_with(choices: tuple[str, ...], name: str, value: Any) -> list[str]:
    """What is wrong with a configuration in which one option is changed.

    In memory: to compose each anew would take minutes.
    """
    configs = copy.deepcopy(plain(*choices))
    raw = configs[0]
    *above, last = re.findall(r"\w+", name)
    for config in configs:
        for key in above:
            key = int(key) if isinstance(config, list) else key
            config = config[key] if isinstance(config, list) else config.setdefault(key, {})
        config[int(last) if isinstance(config, list) else last] = value
    for place in [p for p in leaves(raw) if "[" not in p]:  # what takes this option's value
        *above, last = place.split(".")
        outer, inner = raw, configs[1]
        for key in above:
            outer, inner = outer[key], inner[key]
        if isinstance(outer, dict) and outer[last] == f"${{{name}}}":
            inner[last] = value
    return [str(problem) for problem in Schema(*configs).problems()]


@pytest.mark.parametrize("line", WRONG_VALUES)
def test_wrong_values(line):
    words, _, answer = line.partition("|")
    *choices, option = words.split(" ")
    name, _, text = option.partition("=")
    value = {"inf": math.inf, "": ""}.get(text, yaml.safe_load(text))
    found = problems_with(tuple(choices), name, value)
    assert len(found) == 1, found
    assert answer in found[0] and len(found[0]) < 600 and len(found[0].splitlines()) == 1


@pytest.mark.parametrize("line", every(2, WRONG_COMMANDS))
def test_wrong_commands(line):
    arguments, _, answer = line.partition("|")
    lines = refused(*arguments.split(" "))
    assert len(lines) == 1, lines
    assert answer in lines[0] and len(lines[0]) < 700  # the longest lists all models


RIGHT = [
    "trainer.accumulate_grad_batches=4 +trainer.gradient_clip_algorithm=value trainer.devices=auto "
    "++trainer.max_time=00:01:00:00 trainer.gradient_clip_val=null +trainer.detect_anomaly=true",
    "model.network.dropout_prob=0.1 optimizer.betas=[0.9,0.99] data.features=[kinematics,pid] "
    "data.num_workers=0 callbacks.early_stopping=null optimizer.lr=1 seed=1 seed=1",
    "model=bdt model.max_depth=3 ~callbacks.ema \"name='my run'\" \"data.path='a b/c=d.h5'\"",
    "model=transformer model.dropout=0.5 trainer=ddp trainer.devices=2 attention=flex",
    "experiment=jetclass_paper data.path=x trainer=fsdp model.symmetry_breaking.beam_spurion=null",
    "--multirun seed=1,2,3 model=lgatr_small,bdt",
    "--cfg job optimizer.lr=3",
]


@pytest.mark.parametrize("options", RIGHT)
def test_right_options(options):
    flags = [word for word in shlex.split(options) if word.startswith("--")]
    found = checked(shlex.split(options), CONFIG_DIR)
    assert found[: len(flags)] == flags and len(found) == len(shlex.split(options))


def test_all_mistakes_at_once():
    lines = refused("seed=x", "trainer.max_step=3", "optimizer.lr=-1", "+foo=1")
    assert len(lines) == 1 and "foo: unknown option" in lines[0]  # nothing else can be read then
    lines = refused("seed=x", "trainer.max_step=3", "optimizer.lr=-1", "data.path=null")
    assert len(lines) == 4


FUZZED = [
    ("model=lgatr", "optimizer=soap", "trainer=fsdp"), ("model=finetune", "data=streamed"),
    ("model=bdt",), ("model=lloca", "task=jetclass"), ("model=part",), ("model=performer",),
]  # fmt: skip


@pytest.mark.parametrize("choices", slow_but_for(FUZZED[:1], FUZZED))
def test_any_value_anywhere_ends_in_lines_or_a_run(choices):
    """Each option of a configuration with values of every kind."""
    refusals = 0
    for number, name in enumerate(leaves(plain(*choices)[0])):
        for value in UNFIT[number % 3 :: 3]:
            found = problems_with(choices, name, value)
            refusals += bool(found)
            for problem in found:
                assert len(problem.splitlines()) == 1 and len(problem) < 1000, problem
    assert refusals > 150


NAMES = st.sampled_from(leaves(plain("experiment=toptagging")[0]))
KINDS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text("ab", min_size=1), st.integers()),
)  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(NAMES, KINDS)
def test_what_is_accepted_has_a_type_that_the_option_may_have(name, value):
    default = plain("experiment=toptagging")[1]
    for key in re.findall(r"\w+", name):
        default = default[int(key) if isinstance(default, list) else key]
    if problems_with(("experiment=toptagging",), name, value):
        return
    if isinstance(default, bool):
        assert isinstance(value, bool) or value is None
    elif isinstance(default, (int, float)):
        # Devices can be named by text.
        assert value is None or name == "trainer.devices" or isinstance(value, (int, float))
        assert not isinstance(value, float) or math.isfinite(value)


def test_nothing_is_drawn_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    check_run(composed("experiment=toptagging", "run_dir=run"))
    assert torch.equal(torch.get_rng_state(), state) and not list(tmp_path.iterdir())


def test_data_is_not_read(monkeypatch):
    from experiments.data import datamodule

    def forbidden(*_: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(datamodule, "read_jets", forbidden)
    check_run(composed("experiment=toptagging"))


def test_a_group_in_another_place_is_an_option_of_its_own():
    groups = {"model": ["finetune", "lgatr_slim"]}
    both = [
        overrides.read(text, groups, ["model"])
        for text in ("model=finetune", "model@model.tagger=lgatr_slim")
    ]
    overrides.check_repeated(both)
    assert [given.name for given in both] == ["model", "model@model.tagger"]
    with pytest.raises(UserError, match="model@model.tagger=slim: unknown; choose from"):
        overrides.read("model@model.tagger=slim", groups, ["model"])
