"""Network files for weaver-core, which takes them as they are."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from experiments.cli import ROOT
from experiments.errors import UserError
from support.jetfiles import random_particles

ak = pytest.importorskip("awkward")
uproot = pytest.importorskip("uproot")
pytest.importorskip("weaver")

FOLDER = ROOT / "examples" / "weaver"
NETWORKS = {
    "lgatr": {"num_blocks": 1, "hidden_mv_channels": 2, "hidden_s_channels": 4, "num_heads": 1},
    "lgatr_slim": {"num_blocks": 1, "hidden_v_channels": 4, "hidden_s_channels": 8, "num_heads": 2},
}


class Config:
    """What networks ask of a data configuration of weaver."""

    def __init__(self, inputs=("pf_features", "pf_vectors", "pf_mask"), classes=3):
        self.input_names = inputs
        self.input_dicts = {"pf_features": ["a", "b"]}
        self.input_shapes = {name: (-1, 4, 9) for name in inputs}
        self.label_value = [f"label_{i}" for i in range(classes)]


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [2, 3])
def test_padding_does_not_matter(name, classes):
    """Neither what stands in it, nor how much of it there is."""
    torch.manual_seed(0)
    model, info = load(name).get_model(Config(classes=classes), **NETWORKS[name])
    generator = torch.Generator().manual_seed(1)
    p = 20 * torch.randn(5, 3, 9, generator=generator)
    vectors = torch.cat([p, p.norm(dim=1, keepdim=True) + 0.1], dim=1)
    features = torch.randn(5, 2, 9, generator=generator)
    mask = (torch.arange(9) < torch.tensor([9, 4, 1, 7, 2])[:, None]).float()[:, None]
    with torch.no_grad():
        found = model(features, vectors, mask)
        again = model(
            *(torch.nn.functional.pad(x, (0, 3)) for x in (features * mask, vectors * mask, mask))
        )
    assert found.shape == (5, classes) and torch.allclose(found, again, atol=1e-5)
    assert info["input_names"] == ["pf_features", "pf_vectors", "pf_mask"]


def test_inputs_and_options_that_are_not_there():
    module = load("lgatr_slim")
    with pytest.raises(UserError, match="no input pf_mask; this network takes pf_vectors"):
        module.get_model(Config(("pf_features", "pf_vectors")))
    with pytest.raises(UserError, match="there is no depth"):
        module.get_model(Config(), depth=3)


def write(path, label, seed):
    names = {"d0": "d0val", "d0_error": "d0err", "dz": "dzval", "dz_error": "dzerr"}
    particles = random_particles(200, seed)
    lengths = particles.pop("lengths")
    branches = {
        f"part_{names.get(name, name)}": ak.unflatten(values.astype(np.float32), lengths)
        for name, values in particles.items()
    }
    for other in ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"):
        branches[f"label_{other}"] = np.full(200, other == label)
    branches |= {name: np.full(200, x, np.float32) for name, x in JET.items()}
    with uproot.recreate(path) as file:
        types = {n: v.type if hasattr(v, "layout") else v.dtype for n, v in branches.items()}
        file.mktree("tree", types)
        file["tree"].extend(branches)


JET = {"jet_pt": 700.0, "jet_eta": 0.5, "jet_sdmass": 80.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_weaver_trains_two_epochs(name, tmp_path):
    for number, label in enumerate(("QCD", "Tbqq")):
        write(tmp_path / f"{label}.root", label, number)
    options = [x for k, v in NETWORKS[name].items() for x in ("-o", k, str(v))]
    command = [
        sys.executable, "-m", "weaver.train", "--network-config", str(FOLDER / f"{name}.py"),
        "--data-config", str(FOLDER / "jetclass.yaml"), "--data-train", str(tmp_path / "*.root"),
        "--data-val", str(tmp_path / "*.root"), "--num-epochs", "2", "--batch-size", "32",
        "--samples-per-epoch", "200", "--samples-per-epoch-val", "100", "--num-workers", "0",
        "--gpus", "", "--start-lr", "1e-3", "--optimizer", "adamW", "--model-prefix",
        str(tmp_path / "net"), *options,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    assert (tmp_path / "net_epoch-1_state.pt").is_file(), text[-3000:]
    losses = [float(x) for x in re.findall(r"(?:Avg)?Loss: *([-+.\w]+)", text)]
    assert losses and np.isfinite(losses).all(), text[-3000:]
