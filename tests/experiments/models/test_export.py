"""Taggers on padded jets and in ONNX Runtime: every model of config/model, or one sentence."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from data.errors import DataError
from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec, EventBatch
from experiments.data.features import compute_features, feature_names
from experiments.errors import UserError
from experiments.models import onnx_export as command
from experiments.models.onnx_padded_tagger import PaddedTagger
from experiments.saved_runs import run_directory
from lgatr import Packing
from support.flows import PAIRS
from support.slow import every, slow_but_for
from support.taggers import TAGGERS

_FRAMES = "at random"
WITHOUT = {
    "bdt": "skl2onnx", "lloca": _FRAMES, "lloca_sized": _FRAMES,
    "pelican": "whose length ONNX cannot know",
}  # fmt: skip
MODELS = sorted(set(TAGGERS) - set(WITHOUT))
OF_OTHER_TASKS = {"amplitudes", "amplitudes_paper", "ttbar", "ttbar_paper", "unfolding", "zmumu"}
EXPERIMENTS = sorted(
    {path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml")} - OF_OTHER_TASKS
)
FEATURES = ("log_pt", "delta_r", "charge", "d0")


def configuration(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def tagger_of(cfg, features=FEATURES):
    torch.manual_seed(0)
    model = instantiate(cfg.model)(spec=DataSpec(len(features), ("a", "b", "c")))
    # Norms over batches as after a training.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def packed_logits(model, inputs, features, keep=None):
    """Logits of the particles with energy (and ``keep``), through the packed network."""
    momenta, *columns = inputs.values()
    real = momenta[..., 0] > 0 if keep is None else keep
    packing, momenta = Packing.from_lengths(real.sum(1)), momenta[real]
    named = {name: c[real] for name, c in zip(list(inputs)[1:], columns, strict=True)}
    scalars = compute_features(momenta, packing, features, named)
    with torch.no_grad():
        return model(EventBatch(momenta, scalars, packing, real[:, 0].long()))


def widened(inputs, places):
    """More padding."""
    return {
        name: torch.nn.functional.pad(x, (0, 0, 0, places) if x.ndim == 3 else (0, places))
        for name, x in inputs.items()
    }


# Other sizes are exported by the same operations, and those of a family by those of its members.
OTHER_SIZES = ("_small", "_medium", "_sized")
SOME = [name for name in MODELS if not name.endswith(OTHER_SIZES)]


@pytest.mark.parametrize("name", slow_but_for(SOME, MODELS))
def test_padded_equals_packed(name):
    model = tagger_of(configuration("experiment=toptagging", f"model={name}"))
    padded = PaddedTagger(copy.deepcopy(model), FEATURES, 0).eval()
    inputs = widened(command.example_inputs(padded, 5, 9, seed=1), 3)
    expected = packed_logits(model, inputs, FEATURES)
    with torch.no_grad():
        torch.testing.assert_close(padded(*inputs.values()), expected, rtol=1e-4, atol=1e-5)
    assert expected.std(dim=0).min() > 1e-4


@pytest.mark.parametrize("name", every(3, EXPERIMENTS))
def test_features_of_every_experiment(name):
    features = feature_names(configuration(f"experiment={name}").data.features)
    small = configuration(
        "experiment=toptagging", "model=lgatr_small", "model.network.num_blocks=1"
    )
    model = tagger_of(small, features)
    padded = PaddedTagger(model, features, 0).eval()
    inputs = command.example_inputs(padded, 5, 9, seed=1)
    expected = packed_logits(model, inputs, features)
    with torch.no_grad():
        torch.testing.assert_close(padded(*inputs.values()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [0, 4])
def test_particles_that_a_run_leaves_out(most):
    cfg = configuration("experiment=toptagging", "model=lgatr_small", "model.network.num_blocks=1")
    model = tagger_of(cfg)
    padded = PaddedTagger(model, FEATURES, most, smallest_component=5.0).eval()
    inputs = command.example_inputs(padded, 20, 9, seed=1)
    momenta = inputs["fourmomenta"]
    keep = (momenta.abs() > 5.0).all(-1)
    keep[:, 0] |= ~keep.any(1)  # a jet of nothing else keeps its first particle
    if most:
        keep &= keep.cumsum(1) <= most
    expected = packed_logits(model, inputs, FEATURES, keep)
    with torch.no_grad():
        torch.testing.assert_close(padded(*inputs.values()), expected, rtol=1e-4, atol=1e-5)
    assert 0.2 < keep.sum() / (momenta[..., 0] > 0).sum() < 0.8


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_models_without_this_form_say_why(name):
    model = tagger_of(configuration("experiment=toptagging", f"model={name}"))
    with pytest.raises(UserError, match=f"does not export to ONNX: .*{WITHOUT[name]}"):
        PaddedTagger(model, FEATURES, 0)


def test_linformer_with_gaps():
    cfg = configuration("experiment=toptagging", "model=linformer", "model.num_blocks=1")
    with pytest.raises(UserError, match="there would be gaps"):
        PaddedTagger(tagger_of(cfg), FEATURES, 0, smallest_component=1e-5)


def test_a_model_from_elsewhere():
    with pytest.raises(UserError, match="Linear does not export to ONNX: it has no form for padde"):
        PaddedTagger(torch.nn.Linear(2, 2), FEATURES, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SOME if n != "finetune"])  # which is one of them
def test_onnx_of_every_model(name, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    cfg = configuration("experiment=toptagging", f"model={name}")
    tagger = cfg.model.get("tagger", {})
    for network in (cfg.model, cfg.model.get("network"), tagger, tagger.get("network")):
        if network is not None and network.get("num_blocks", 0):
            network.num_blocks = 3 if name == "lgatr_slim" else 1  # one network has several
    padded = PaddedTagger(tagger_of(cfg), FEATURES, 0).eval()
    command.write_onnx(padded, tmp_path / "tagger.onnx")
    assert command.onnx_deviation(padded, tmp_path / "tagger.onnx") <= command.TOLERANCE


class TestNothingHalfDone:
    """An export that fails leaves the folder as it was."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        model = tagger_of(configuration("experiment=toptagging", "model=lgatr_small"))
        padded = PaddedTagger(model, FEATURES, 0).eval()
        monkeypatch.setattr(command, "load_tagger", lambda run, trust: padded)
        monkeypatch.setattr(command, "write_onnx", lambda tagger, path: path.write_bytes(b"new"))
        monkeypatch.setattr(command, "onnx_deviation", lambda tagger, path: 1e-6)
        (tmp_path / "export").mkdir()
        (tmp_path / "export" / "mine.txt").write_bytes(b"old")
        return tmp_path

    def content(self, run):
        return {p.relative_to(run).as_posix() for p in run.rglob("*")}

    def test_success(self, run, capsys):
        files, deviation = command.export(run, run / "export")
        assert [file.name for file in files] == ["model.safetensors", "tagger.onnx"]
        assert (run / "export" / "tagger.onnx").read_bytes() == b"new" and deviation == 1e-6
        assert self.content(run) == {
            "export", "export/tagger.onnx", "export/model.safetensors", "export/mine.txt",
        }  # fmt: skip
        assert len(capsys.readouterr().out.splitlines()) == 3

    @pytest.mark.parametrize("name", ["tagger.onnx", "model.safetensors"])
    def test_files_of_another_export_are_kept(self, run, name, monkeypatch):
        monkeypatch.setattr(command, "load_tagger", lambda run, trust: pytest.fail("too late"))
        (run / "export" / name).symlink_to("nowhere")
        with pytest.raises(DataError, match=f"{name}: exists; choose another name, or delete it"):
            command.export(run, run / "export")
        assert self.content(run) == {"export", f"export/{name}", "export/mine.txt"}

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
    def test_failure(self, run, monkeypatch, error):
        def fail(tagger, path):
            path.write_bytes(b"half")
            raise error("no")

        monkeypatch.setattr(command, "write_onnx", fail)
        with pytest.raises(error):
            command.export(run, run / "export")
        assert self.content(run) == {"export", "export/mine.txt"}

    @pytest.mark.parametrize("deviation", [1e-3, np.nan])
    def test_other_numbers(self, run, monkeypatch, deviation):
        monkeypatch.setattr(command, "onnx_deviation", lambda tagger, path: deviation)
        with pytest.raises(UserError, match="nothing was kept"):
            command.export(run, run / "export")
        assert self.content(run) == {"export", "export/mine.txt"}

    def test_a_missing_package(self, run, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"needs onnxscript; .*pip install -e '\.\[onnx\]'"):
            command.export(run, run / "export")


@pytest.mark.parametrize("spec", [DataSpec(0, (), "amplitude"), DataSpec(0, (), final_state=PAIRS)])
def test_other_runs_are_none_of_taggers(finished, tmp_path, spec):
    folder = shutil.copytree(finished, tmp_path / "run")
    run_directory.write_spec(folder, spec)
    with pytest.raises(UserError, match="taggers alone are exported"):
        command.load_tagger(folder)
