"""Programs that torch traces: compilation, export, ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.export import Dim

from lgatr import ConditionalLGATrSlim, LGATr, LGATrSlim, Packing
from lgatr.utils.compile import compile_model
from support import commands, networks
from support.slow import slow_but_for

# Inductor needs a C++ compiler; the graph is what is ours. test_inductor runs the whole way.
GRAPH_ONLY = {"fullgraph": True, "dynamic": True, "backend": "aot_eager"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.*lru_cache"),
]


def assert_equal(kind, first, second, lengths):
    values = networks.inputs(kind, sum(lengths), cond=(sum(lengths),), dtype=torch.float32)
    packing = Packing.from_lengths(lengths)
    options = networks.attention(kind, packing=packing, kv_packing=packing)
    with torch.no_grad():
        for a, b in zip(first(*values, **options), second(*values, **options), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def assert_equal_with_gradients(kind, first, second, lengths, cond=None):
    cond = cond or lengths
    values = networks.inputs(kind, sum(lengths), cond=(sum(cond),), dtype=torch.float32)
    options = {"packing": Packing.from_lengths(lengths)}
    if kind in networks.CONDITIONAL:
        options["kv_packing"] = Packing.from_lengths(cond)
    gradients = []
    outputs = []
    for net in (first, second):
        out = net(*values, **networks.attention(kind, **options))
        outputs.append(out)
        total = sum((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() for t in out)
        parameters = [p for _, p in sorted(net.named_parameters()) if p.requires_grad]
        gradients.append(torch.autograd.grad(total, [*values, *parameters]))
    for a, b in (*zip(*outputs, strict=True), *zip(*gradients, strict=True)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# One of the other kinds is compiled block by block.
@pytest.mark.slow
def test_whole_network_compiles_to_one_graph(kind=ConditionalLGATrSlim):
    torch._dynamo.reset()
    net = networks.build(kind, torch.float32, num_blocks=1)
    fast = torch.compile(net, **GRAPH_ONLY)
    for lengths in ([5, 6, 9], [1, 7, 7, 13]):
        assert_equal_with_gradients(kind, fast, net, lengths, lengths[::-1])


@pytest.mark.parametrize("kind", slow_but_for((), networks.KINDS)[::2])
def test_compiled_once_for_all_blocks(kind):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    options = {"num_blocks": 2, "compile": True, "compile_kwargs": GRAPH_ONLY}
    net = networks.build(kind, torch.float32, **options)
    plain = kind(**net.arguments)
    plain.load_state_dict(net.state_dict())
    for lengths in ([5, 6, 9], [1, 7, 7, 13]):
        assert_equal_with_gradients(kind, net, plain, lengths)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


def test_dropout_of_packed_weights_is_refused_when_compiled():
    torch._dynamo.reset()
    options = {"backend": "eager", "fullgraph": True}
    net = networks.build(LGATr, num_blocks=1, compile=True, compile_kwargs=options)
    with pytest.raises(Exception, match="no dropout of packed attention weights"):
        net(*networks.inputs(LGATr, 9), packing=Packing.from_lengths([4, 5]), dropout_p=0.1)


def test_other_backends_are_refused_while_tracing():
    torch._dynamo.reset()
    fast = torch.compile(networks.build(LGATr, num_blocks=1), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="only native"):
        fast(*networks.inputs(LGATr, 2, 5), backend="flash")


def test_compile_model_on_any_module():
    torch._dynamo.reset()
    linear = torch.nn.Linear(2, 3)
    x = torch.randn(4, 2)
    expected = linear(x)
    compile_model(linear, compile_kwargs={"backend": "eager"}, activation_memory_budget=0.5)
    torch.testing.assert_close(linear(x), expected)
    with pytest.raises(ValueError, match="between 0 and 1"):
        compile_model(linear, activation_memory_budget=2.0)


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("kind", [LGATr, ConditionalLGATrSlim], ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore")
def test_inductor(kind):
    """One with its gradients, the other without: each is a minute of a C++ compiler."""
    torch._dynamo.reset()
    options = {"compile": True, "compile_kwargs": {"dynamic": True, "fullgraph": True}}
    net = networks.build(kind, torch.float32, num_blocks=1, **options)
    plain = kind(**net.arguments)
    plain.load_state_dict(net.state_dict())
    for lengths in ([5, 6, 9], [1, 7, 7, 13]):
        if kind is LGATr:
            assert_equal_with_gradients(kind, net, plain, lengths)
        else:
            assert_equal(kind, net, plain, lengths)


class Dense(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, s, mask):
        return self.net(x, s, attn_mask=mask)


class Packed(Dense):
    def forward(self, x, s, ptr):
        return self.net(x, s, packing=Packing.from_ptr(ptr))


@pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS)[::2])
class TestExport:
    @pytest.mark.slow
    def test_dense_with_any_number_of_events_and_items(self, kind):
        net = networks.build(kind, torch.float32)
        events, items = Dim("events"), Dim("items")
        shapes = ({0: events, 1: items}, {0: events, 1: items}, {0: events, 2: items, 3: items})
        example = (*self.values(kind, 5, 7), torch.ones(5, 1, 7, 7, dtype=torch.bool))
        program = torch.export.export(Dense(net), example, dynamic_shapes=shapes)
        # Nothing of ours is left in it: any runtime can run it.
        assert not any("lgatr" in str(node.target) for node in program.graph.nodes)
        for sizes in ((1, 1), (3, 11), (9, 2)):
            mask = torch.rand(sizes[0], 1, sizes[1], sizes[1]) > 0.3
            mask |= torch.eye(sizes[1], dtype=torch.bool)
            values = self.values(kind, *sizes)
            for a, b in zip(
                program.module()(*values, mask), net(*values, attn_mask=mask), strict=True
            ):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

    def test_packed_with_any_number_of_events_and_particles(self, kind, tmp_path):
        net = networks.build(kind, torch.float32)
        tokens, offsets = Dim("tokens", min=2), Dim("offsets", min=2)
        ptr = torch.tensor([0, 4, 11, 13], dtype=torch.int32)
        program = torch.export.export(
            Packed(net),
            (*self.values(kind, 13), ptr),
            dynamic_shapes=({0: tokens}, {0: tokens}, {0: offsets}),
        )
        torch.export.save(program, tmp_path / "net.pt2")
        again = torch.export.load(tmp_path / "net.pt2").module()
        for lengths in ([20], [1, 2, 30], [5] * 7):
            packing = Packing.from_lengths(lengths)
            values = self.values(kind, sum(lengths))
            for a, b in zip(
                again(*values, packing.ptr), net(*values, packing=packing), strict=True
            ):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

    @staticmethod
    def values(kind, *shape):
        return tuple(v.detach() for v in networks.inputs(kind, *shape, dtype=torch.float32))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of a few steps, taken to ONNX by the command."""
    pytest.importorskip("onnxscript")
    run = tmp_path_factory.mktemp("run") / "run"
    small = ("model=lgatr_small", "model.network.num_blocks=1")  # ten blocks export no differently
    options = ("experiment=toptagging", *small, "debug=fast", "plots=[]", f"run_dir={run}")
    commands.run(*options, check=True)
    done = commands.module("experiments.export", str(run), check=True)
    assert done.stderr == "" and "logits differ by at most" in done.stdout
    return run


@pytest.mark.slow
def test_onnx_runtime_gives_the_logits_of_the_packed_tagger(exported):
    onnxruntime = pytest.importorskip("onnxruntime")
    from data.formats import read_jets
    from experiments.data.loader import JetDataset
    from experiments.data.preparation import Preparation
    from experiments.models.onnx_export import load_tagger

    padded = load_tagger(exported)
    jets = read_jets("data/toptagging_mini.h5", "test", 64)
    batch = JetDataset(jets, Preparation(padded.features, padded.max_constituents))[np.arange(64)]
    with torch.no_grad():
        expected = padded.tagger(batch).numpy()
    pieces = list(batch.fourmomenta.split(batch.packing.lengths))
    fourmomenta = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True).numpy()
    session = onnxruntime.InferenceSession(
        exported / "export" / "tagger.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"fourmomenta": fourmomenta})
    assert np.abs(logits - expected).max() <= 1e-4
    assert np.ptp(expected) > 1e-3


@pytest.mark.slow
def test_exported_weights_build_the_network(exported):
    from experiments.models.onnx_export import load_tagger

    net = LGATr.from_pretrained(exported / "export")
    trained = load_tagger(exported).tagger.network
    for name, tensor in trained.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor)


@pytest.mark.parametrize(("place", "padding"), [("tokens", 3), ("channels", 0), ("tokens", 0)])
def test_padded_tagger_equals_packed_tagger(place, padding):
    from experiments.data.batch import DataSpec, EventBatch
    from experiments.data.features import SETS, compute_features
    from experiments.models.lgatr import LGATrTagger
    from experiments.models.onnx_padded_tagger import PaddedTagger
    from experiments.models.symmetry import SymmetryBreaking
    from experiments.options.attention_choice import AttentionChoice

    def network(**channels):
        return LGATr(
            num_blocks=1,
            hidden_mv_channels=4,
            hidden_s_channels=8,
            attention={"num_heads": 2},
            mlp={},
            **channels,
        )

    names = list(SETS["kinematics"]) if padding else []
    tagger = LGATrTagger(
        DataSpec(len(names), ("a", "b", "c")),
        network,
        SymmetryBreaking("lightlike", True, True, place),
        AttentionChoice("native", True),
        20.0,
    )
    from experiments.models.onnx_export import example_jets

    jets = example_jets(6, 9, seed=1)
    real = jets[..., 0] > 0
    packing = Packing.from_lengths(real.sum(1))
    momenta = jets[real]
    batch = EventBatch(momenta, compute_features(momenta, packing, names), packing, real[:, 0])
    wide = torch.nn.functional.pad(jets, (0, 0, 0, padding))
    padded = PaddedTagger(tagger, names, max_constituents=0)
    torch.testing.assert_close(padded(wide), tagger(batch), rtol=1e-4, atol=1e-5)


def test_export_of_no_run(tmp_path):
    from experiments.errors import UserError
    from experiments.models.onnx_export import load_tagger

    with pytest.raises(UserError, match="not the folder of a run"):
        load_tagger(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_tagger(tmp_path)
