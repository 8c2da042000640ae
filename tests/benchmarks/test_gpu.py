"""The measurements for a GPU, tried on tiny networks without one; and what they count."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu, gpu_device, gpu_floor, gpu_models, gpu_plan
from support import taggers
from support.slow import slow_but_for

CPU = torch.device("cpu")
FEWEST = {"table": 24, "attention": 4, "kinds": 1, "accuracy": 6, "blocks": 1}


@pytest.mark.slow
def test_a_dry_run_measures_everything(tmp_path, capsys):
    path = tmp_path / "new" / "gpu.json"
    gpu.main(["--dry-run", "--models", "transformer", "--out", str(path)])
    shown = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert [file.name for file in path.parent.iterdir()] == ["gpu.json"]
    assert not found["skipped"] and found["ended"] is None
    assert all(rate > 0 for rate in found["rates"].values()) and len(found["rates"]) == 4
    assert found["card"]["torch"] == torch.__version__
    for part, fewest in FEWEST.items():
        rows = [row for row in found[part] if row.get("backend", "native") == "native"]
        assert len(rows) >= fewest, part
        assert not [row for row in rows if "error" in row], part
    for row in found["table"]:
        assert row["ms"] >= (row["gradients_ms"] or 0) > 0 or row["mode"] == "inference"
        assert row["kernels"] > 0
    (kinds,) = found["kinds"]
    assert sum(kind["share"] for kind in kinds["kinds"].values()) == pytest.approx(1)
    assert kinds["floor"]["all"]["byte_ms"] > 0
    for title in ("Steps", "Attention of one layer", "Kernels of one block", "floor of"):
        assert title in shown


@pytest.mark.parametrize("model", slow_but_for(["lgatr_slim"], ["lgatr", "lgatr_slim"]))
def test_equivariant_networks(model, tmp_path):
    path = tmp_path / "gpu.json"
    gpu.main(["--dry-run", "--only", "kinds,accuracy", "--models", model, "--out", str(path)])
    found = json.loads(path.read_text())
    assert "error" not in found["kinds"][0] and found["rates"] and not found["table"]
    normal = [row for row in found["accuracy"] if row["inputs"] == "normal"]
    # On a CPU, TF32 is float32.
    for row in normal:
        limit = 0.1 if row["format"].startswith("bf16") else 1e-4
        assert max(row["logits"], row["gradients"], row["equivariance"]) < limit


@pytest.mark.parametrize("model", gpu_models.MODELS)
def test_sizes_are_those_of_the_configuration(model):
    theirs = taggers.build(model, spec=gpu_models.SPEC)
    ours = gpu_models.tagger(model).double()
    assert repr(ours) == repr(theirs)
    for (name, a), (other, b) in zip(
        ours.state_dict().items(), theirs.state_dict().items(), strict=True
    ):
        assert name == other and a.shape == b.shape
    assert torch.equal(ours.references, theirs.references)
    assert ours.momentum_unit == theirs.momentum_unit


@pytest.mark.slow
@pytest.mark.parametrize("model", gpu_models.MODELS)
def test_heads_of_the_floor(model):
    found = gpu_floor.floor(model, 2)
    assert found["heads"] == [gpu_plan.HEAD_WIDTHS[model]]
    assert found["parts"]["matrix products"]["flop"] > 0


def test_the_floor_of_a_transformer_is_that_of_its_weights():
    found = gpu_floor.floor("transformer", 8)
    network = gpu_models.tagger("transformer")
    weights = sum(block.weight.numel() for block in network.blocks.modules()
                  if isinstance(block, torch.nn.Linear))  # fmt: skip
    flop = found["parts"]["matrix products"]["flop"]
    assert flop == pytest.approx(6 * weights * found["tokens"], rel=2e-3)


def test_a_failure_is_recorded_and_the_rest_measured(tmp_path):
    def fails():
        raise RuntimeError("first line\nsecond line")

    report = gpu.Report(tmp_path / "gpu.json", 60.0)
    tasks = [
        gpu.Task("blocks", "a", 1.0, {"model": "a"}, fails),
        gpu.Task("blocks", "long", 1000.0, {"model": "long"}, fails),
        gpu.Task("blocks", "b", 1.0, {"model": "b"}, lambda: {"forward": 1}),
    ]
    gpu.measure(tasks, report, CPU)
    found = json.loads((tmp_path / "gpu.json").read_text())
    first, last = found["blocks"]
    assert first["error"] == "RuntimeError: first line"
    assert last["forward"] == 1 and found["skipped"] == ["blocks, long"]


@pytest.mark.slow
def test_the_time_is_up_in_the_middle(tmp_path, monkeypatch, capsys):
    def endless():
        while True:
            pass

    tasks = [gpu.Task("blocks", "a", 0.0, {"model": "a"}, endless)]
    monkeypatch.setattr(gpu, "plan", lambda *_: tasks)
    monkeypatch.setattr(gpu, "MARGIN", 0.1)
    gpu.main(["--dry-run", "--minutes", "0.03", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["ended"] == "the time was up in blocks, a"
    assert "Ended early" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dry-run", "--only", "table,tables"], "tables"),
        (["--dry-run", "--minutes", "0"], "--minutes"),
        pytest.param(
            [], "--dry-run", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
        ),
    ],
)
def test_what_cannot_be_run_ends_in_one_line(arguments, named, capsys):
    with pytest.raises(SystemExit) as caught:
        gpu.main(arguments)
    shown = capsys.readouterr().err
    assert caught.value.code == 2 and named in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fmha_cutlassF_f32_aligned_64x128_rf_sm80(PyTorchMemEffAttention)", "attention"),
        ("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>", "matrix products"),
        ("nvjet_hsh_128x128_64x6_1x2_h_bz_coopA_NNT", "matrix products"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "matrix products"),
        ("multi_tensor_apply_kernel<FusedAdamMathFunctor<float>>", "optimizer"),
        ("at::native::elementwise_kernel<direct_copy_kernel_cuda>", "copies and cat"),
        ("at::native::CatArrayBatchedCopy_contig<float>", "copies and cat"),
        ("Memcpy DtoD (Device -> Device)", "copies and cat"),
        ("at::native::vectorized_elementwise_kernel<4, FillFunctor<float>>", "copies and cat"),
        ("at::native::reduce_kernel<512, 1, ReduceOp<float>>", "reductions"),
        ("at::native::vectorized_layer_norm_kernel<float>", "reductions"),
        ("at::native::vectorized_elementwise_kernel<4, MulFunctor<float>>", "elementwise"),
        ("lgatr_gate_gradient_kernel", "Triton: gate_gradient_kernel"),
        ("lgatr_attention_forward_kernel", "attention"),
        ("something", "other"),
    ],
)
def test_kinds_of_kernels(name, kind):
    assert gpu_device.kind_of(name) == kind
