"""Run folders of strangers: nothing but parts of runs is called, damage ends in one line."""

from __future__ import annotations

import json
import random

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.cli import CONFIG_DIR
from experiments.errors import UserError
from experiments.saved_runs.run_directory import read_spec
from experiments.saved_runs.saved_config import load_config, read_json
from experiments.saved_runs.trust import check_targets
from support.slow import every

CHOICES = [
    f"{folder}={file.stem}"
    for folder in ("experiment", "model", "optimizer", "trainer", "scheduler", "data")
    for file in sorted((CONFIG_DIR / folder).glob("*.yaml"))
]

FOREIGN = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "shutil.rmtree",
    "hydra.utils.get_method",
    "torch.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load_inline",
    # Attributes of trusted modules that belong to others.
    "experiments.training.runner.os.system",
    "experiments.saved_runs.run_directory.subprocess.run",
    "experiments.training.runner.json.loads",
    "experiments.training.runner.Path.write_text",
    "experiments.training.runner.instantiate",
    "lightning.os.system",
    "lightning.pytorch.cli.LightningCLI",
    "lightning.fabric.utilities.seed.os.system",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.os.system",
    "torch.optim.optimizer.torch.load",
    # Our own functions write files.
    "experiments.saved_runs.run_directory.claim",
    "experiments.archive_run.keep",
    "data.atomic.atomic_path",
    "data.formats.packed.write",
    "lgatr.load_checkpoint",
    "lgatr.LGATr.from_pretrained",
    "lgatr.LGATr.__init__",
    "lgatr.LGATr.__init__.__globals__",
    "lgatr.attention.__main__.main",
    # No names at all.
    "",
    ".",
    "lgatr",
    "lgatr.",
    "lgatr..LGATr",
    "lgatr.LGATr ",
    "lgatr.NoSuchThing",
    "experiments.no_such_module.Thing",
    "lgatr/LGATr",
    5,
    None,
    ["lgatr.LGATr"],
]


@pytest.mark.parametrize("choice", every(9, CHOICES))
def test_our_own_configurations_are_trusted(choice):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        check_targets(compose("run", overrides=[choice]), "here")


@pytest.mark.parametrize("target", FOREIGN)
def test_other_code_is_not_called(target):
    for config in ({"_target_": target}, {"model": {"network": [{"_target_": target}]}}):
        with pytest.raises(UserError) as caught:
            check_targets(config, "config.yaml")
        assert len(str(caught.value).splitlines()) == 1


def test_every_attribute_of_a_trusted_module_is_checked_by_its_home():
    """Whatever our modules import is not reachable through them."""
    import lightning.pytorch.callbacks.model_checkpoint as theirs

    import experiments.training.runner

    for module in (experiments.training.runner, theirs):
        for name, value in vars(module).items():
            home = str(getattr(value, "__module__", "")).split(".")[0]
            if name.startswith("__") or home in ("experiments", "lightning", "lgatr", "torch"):
                continue
            with pytest.raises(UserError):
                check_targets({"_target_": f"{module.__name__}.{name}"}, "here")


def test_a_package_can_be_trusted(tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(
        "import os\nclass Model:\n    pass\ndef make(): return Model()\n"
        "open(os.path.join(os.path.dirname(__file__), 'imported'), 'w').close()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {"model": {"_target_": "my_package.models.Model"}}
    with pytest.raises(UserError, match=r"model names .*; .* --trust my_package"):
        check_targets(config, "here")
    assert not (package / "imported").exists(), "refused code was run"
    check_targets(config, "here", ["my_package"])
    check_targets({"_target_": "my_package.models.make"}, "here", ["my_package.models"])
    for name in ("my_package.models.os.system", "my_package.models.os.remove"):
        with pytest.raises(UserError):
            check_targets({"_target_": name}, "here", ["my_package"])


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
DAMAGED = {
    "empty": b"",
    "text": b"hello",
    "list": b"- 1\n- 2\n",
    "number": b"5",
    "binary": bytes(range(256)) * 20,
    "utf16": "model: 1".encode("utf-16"),
    "null": b"\0" * 100,
    "half": b"model: {_target_: lgatr.LGATr",
    "tabs": b"model:\n\t- x",
    "python": b"model: !!python/object/apply:os.system [touch hacked]",
    "python name": b"model: !!python/name:os.system",
    "own tag": b"model: !mine {a: 1}",
    "bomb": BOMB.encode(),
    "deep": b"model: " + b"[" * 5000 + b"]" * 5000,
    "large": b"# " + b"x" * (1 << 21),
    "environment": b"model: {x: '${oc.env:HOME}'}",
    "decode": b"model: {x: '${oc.decode:1}'}",
    "reference": b"model: ${data}\ndata: {}",
    "two": b"model: {}\n---\nmodel: {}\n",
    "twice": b"model: {}\nmodel: 5\n",
    "key": b"? [a, b]\n: 1\nmodel: {}",
    "wrong shape": b"model: 5",
    "no section": b"data: {}",
    "nothing": b"model: null",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_configurations(content, tmp_path):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path, needs=["model"])
    assert len(str(caught.value).splitlines()) == 1 and "config.yaml" in str(caught.value)


def test_flipped_bytes_end_in_one_line_or_the_same_parts(tmp_path):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        whole = OmegaConf.to_yaml(compose("run", overrides=["run_dir=x"]), resolve=True).encode()
    draw = random.Random(1)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 3, 20))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        (tmp_path / "config.yaml").write_bytes(content)
        try:
            load_config(tmp_path, needs=["model", "data"])
        except UserError as error:
            assert len(str(error).splitlines()) == 1


SPECS = [
    b"", b"{", b"5", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"num_scalars": 1}',
    *(
        json.dumps({"num_scalars": scalars, "classes": classes}).encode()
        for scalars, classes in [
            ("x", ["a", "b"]), (-1, ["a", "b"]), (1.5, ["a", "b"]), (True, ["a", "b"]),
            (10**12, ["a", "b"]), (1, "ab"), (1, [1, 2]), (1, []), (1, ["a", "a"]),
            (1, {"a": 1, "b": 2}),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize("note", SPECS)
def test_damaged_descriptions(note, tmp_path):
    (tmp_path / "data_spec.json").write_bytes(note)
    with pytest.raises(UserError) as caught:
        read_spec(tmp_path)
    assert len(str(caught.value).splitlines()) == 1 and "data_spec.json" in str(caught.value)


def test_json_of_a_run(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "metrics.json")
    (tmp_path / "metrics.json").write_text(json.dumps({"auc": 0.5}))
    assert read_json(tmp_path / "metrics.json") == {"auc": 0.5}
