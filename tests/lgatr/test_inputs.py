"""Whatever is given to a public entry, it ends in the right result or in one clear error."""

from __future__ import annotations

import copy
import random
from collections import Counter

import numpy as np
import pytest
import torch

from lgatr import ConditionalLGATr, LGATr, LGATrSlim, Packing, interface, layers, primitives
from lgatr.layers import MLPConfig, SelfAttentionConfig
from support import networks

REFUSALS = (ValueError, TypeError, NotImplementedError)
FORMATS = [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8]
MV, S, V = (5, 2, 16), (5, 3), (5, 2, 4)
SLIM_V = (5, 4, 2)
ATTENTION = {"num_heads": 2}
VECTORS = ("vector", "axialvector", "bivector", "scalar", "pseudoscalar")
WIDTHS = dict(zip(VECTORS, (4, 4, 6, 1, 1), strict=True))


def targets():
    """Name of each public entry: what to call, and the shapes of its tensors."""
    made = {
        "EquiLinear": (layers.EquiLinear(2, 3, in_s_channels=3, out_s_channels=1), MV, S),
        "EquiLayerNorm": (layers.EquiLayerNorm(2, 3, elementwise_affine=True), MV, S),
        "EquiLayerNorm without gains": (layers.EquiLayerNorm(), MV, S),
        "GradeDropout": (layers.GradeDropout(0.5), MV, S),
        "ScalarGatedNonlinearity": (layers.ScalarGatedNonlinearity("silu"), MV, S),
        "GeometricBilinear": (layers.GeometricBilinear(2, 3, None, 4, 3, 1), MV, S),
        "GeoMLP": (layers.GeoMLP(MLPConfig(mv_channels=2, s_channels=3)), MV, S),
        "SelfAttention": (layers.SelfAttention(SelfAttentionConfig(2, 2, 3, 3)), MV, S),
        "LGATrBlock": (layers.LGATrBlock(2, 3, ATTENTION, {}), MV, S),
        "ConditionalLGATrBlock": (
            layers.ConditionalLGATrBlock(2, 3, 2, 3, ATTENTION, ATTENTION, {}),
            *(MV, MV, S, S),
        ),
        "SlimLinear": (layers.SlimLinear(2, 3, 3, 1), SLIM_V, S),
        "SlimRMSNorm": (layers.SlimRMSNorm(2, 3), SLIM_V, S),
        "SlimDropout": (layers.SlimDropout(0.5), SLIM_V, S),
        "SlimGLU": (layers.SlimGLU(2, 3, 3, 1), SLIM_V, S),
        "SlimMLP": (layers.SlimMLP(2, 3), SLIM_V, S),
        "SlimSelfAttention": (layers.SlimSelfAttention(2, 3, 2), SLIM_V, S),
        "SlimCrossAttention": (layers.SlimCrossAttention(2, 2, 3, 3, 2), SLIM_V, SLIM_V, S, S),
        "SlimBlock": (layers.SlimBlock(2, 3, 2), SLIM_V, S),
        "geometric_product": (primitives.geometric_product, MV, MV),
        "inner_product": (primitives.inner_product, MV, MV),
        "abs_squared_norm": (primitives.abs_squared_norm, MV),
        "equi_layer_norm": (primitives.equi_layer_norm, MV),
        "equi_linear": (primitives.equi_linear, MV, (3, 2, 10)),
        "grade_project": (primitives.grade_project, MV),
        "grade_involute": (primitives.grade_involute, MV),
        "reverse": (primitives.reverse, MV),
        "gated_gelu": (primitives.gated_gelu, MV, (5, 2, 1)),
        "sdp_attention": (primitives.sdp_attention, *[(2, *MV)] * 3, *[(2, *S)] * 3),
        "scaled_dot_product_attention": (primitives.scaled_dot_product_attention, *[MV] * 3),
    }
    for name in VECTORS:
        made[f"embed_{name}"] = (getattr(interface, f"embed_{name}"), (5, WIDTHS[name]))
        made[f"extract_{name}"] = (getattr(interface, f"extract_{name}"), MV)
    for kind in networks.KINDS:
        shapes = [tuple(x.shape) for x in networks.inputs(kind, 5) if x is not None]
        made[kind.__name__] = (networks.build(kind, torch.float32), *shapes)
    return made


def strided(x: torch.Tensor, how: str) -> torch.Tensor:
    """The same numbers at other places of the memory; ``expanded`` repeats the first row."""
    if how == "transposed":
        return x.movedim(0, -1).contiguous().movedim(-1, 0) if x.dim() else x
    if how == "every second":
        return x.repeat_interleave(2, -1)[..., ::2] if x.dim() else x
    if how == "in the middle":
        return torch.nn.functional.pad(x, (3, 2))[..., 3:-2] if x.dim() and x.numel() else x
    if how == "expanded":
        return x[:1].expand(x.shape) if x.dim() and x.numel() else x
    if how == "one number":
        return x.flatten()[:1].expand(x.shape) if x.dim() and x.numel() else x
    return x


HOWS = ["contiguous", "transposed", "every second", "in the middle", "expanded", "one number"]


def other_shape(shape: tuple[int, ...], draw: random.Random) -> tuple[int, ...]:
    sizes = list(shape)
    match draw.randrange(6):
        case 0:
            sizes[-1] = draw.choice([0, 1, 2, 3, 4, 8, 15, 16, 17, 20, 32])
        case 1:
            sizes[draw.randrange(len(sizes))] = draw.choice([0, 1, 2, 7])
        case 2:
            del sizes[draw.randrange(len(sizes))]
        case 3:
            sizes.insert(draw.randrange(len(sizes) + 1), draw.choice([0, 1, 2]))
        case 4:
            draw.shuffle(sizes)
        case _:
            sizes = sizes[: draw.randrange(len(sizes))]
    return tuple(sizes)


def argument(shape: tuple[int, ...], draw: random.Random, wrong: float):
    """A tensor of this shape; with some probability of another shape, format, place, or kind."""
    dtype = torch.float32
    if draw.random() < wrong:
        what = draw.randrange(8)
        if what == 0:
            return draw.choice([None, [1.0], np.zeros(shape, np.float32), "x", 3, 2.5, {}])
        if what == 1:
            return torch.zeros(shape, device="meta")
        if what == 2:
            return torch.zeros(shape).to_sparse()
        if what == 3:
            dtype = draw.choice([*FORMATS, torch.float64])
        else:
            shape = other_shape(shape, draw)
    x = torch.randn(shape)
    return strided(x.to(dtype), draw.choice(HOWS)).requires_grad_(
        dtype == torch.float32 and draw.random() < 0.5
    )


def outputs(value) -> list[torch.Tensor]:
    values = value if isinstance(value, tuple) else (value,)
    return [v for v in values if v is not None]


def trial(function, double, arguments, options) -> str:
    """Call; what it ended in. Results are compared with those of ``double`` precision."""
    try:
        found = outputs(function(*arguments, **options))
    except REFUSALS as error:
        lines = str(error).splitlines()
        assert 0 < len(lines) <= 4, f"{len(lines)} lines: {error}"
        return "refused"
    tensors = [x for x in arguments if isinstance(x, torch.Tensor)]
    if any(x.dtype is not torch.float32 or x.device.type != "cpu" for x in tensors):
        return "other formats"
    exact = [
        x.detach().double().contiguous() if isinstance(x, torch.Tensor) else x for x in arguments
    ]
    with torch.no_grad():
        expected = outputs(double(*exact, **options))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        error = (a.detach().double() - b).abs().max().item() if b.numel() else 0.0
        assert error <= 2e-4 * scale, f"differs by {error:.1e} of {scale:.1e}"
    if any(x.requires_grad for x in tensors) and found[0].requires_grad:
        sum(a.sum() for a in found).backward()
        for x in tensors:
            assert x.grad is None or x.grad.shape == x.shape
    return "computed"


def options_for(name: str, draw: random.Random) -> dict:
    """Keyword arguments: a packing, which fits or not, for those that attend."""
    attends = ("LGATr", "LGATrSlim", "SelfAttention", "LGATrBlock", "SlimBlock")
    if name not in (*attends, "SlimSelfAttention") or draw.random() < 0.5:
        return {}
    lengths = draw.choice([[5], [2, 3], [1] * 5, [4], [3, 3], [1, 1]])
    return {"packing": Packing.from_lengths(lengths)}


def fuzz(seed: int, count: int) -> Counter:
    """``count`` calls of each entry; how many ended in what."""
    torch.manual_seed(seed)
    ends: Counter = Counter()
    for name, (function, *shapes) in targets().items():
        if isinstance(function, torch.nn.Module):
            function.eval()
            double = copy.deepcopy(function).double()
        else:
            double = function
        for number in range(count):
            draw = random.Random(f"{seed} {name} {number}")
            wrong = draw.choice([0.0, 0.3, 0.7])
            arguments = [argument(shape, draw, wrong) for shape in shapes]
            try:
                ends[trial(function, double, arguments, options_for(name, draw))] += 1
            except Exception as error:
                given = [
                    f"{x.dtype} {tuple(x.shape)} {x.stride()}"
                    if isinstance(x, torch.Tensor) and x.layout is torch.strided
                    else repr(x)[:30]
                    for x in arguments
                ]
                raise AssertionError(f"{name}, number {number}: {', '.join(given)}") from error
    return ends


def test_any_input_is_computed_or_refused():
    ends = fuzz(0, 12)
    assert ends["computed"] > 100 and ends["refused"] > 100


@pytest.mark.slow
def test_many_inputs_are_computed_or_refused(capsys):
    ends = Counter()
    for seed in range(1, 9):
        ends += fuzz(seed, 20)
    with capsys.disabled():
        print(f"\n{sum(ends.values())} trials: {dict(ends)}")
    assert ends["computed"] > 2000 and ends["refused"] > 2000


class TestMessages:
    @pytest.mark.parametrize(
        ("x", "says"),
        [
            (torch.zeros(5, 4), r"embed_vector\(momenta\).unsqueeze\(-2\)"),
            (torch.zeros(5, 2, 4), r"embed_vector\(momenta\)$"),
            (torch.zeros(5, 2, 17), "16 coefficients"),
            (torch.zeros(5, 16), "unsqueeze"),
            (torch.zeros(5, 3, 16), "number of channels must be 2, not 3"),
            (torch.zeros(5, 2, 16).double(), r"torch.float64, .* multivectors.to\(torch.float32\)"),
            (torch.zeros(5, 2, 16).long(), "torch.int64, .* floating-point"),
            (torch.zeros(5, 2, 16, device="meta"), "on meta, but cpu"),
            (torch.zeros(5, 2, 16).to_sparse(), "dense"),
            (torch.zeros(5, 2, 16, dtype=torch.complex64).conj().imag, "resolve_neg"),
        ],
    )
    def test_multivectors(self, x, says):
        with pytest.raises(ValueError, match=says):
            networks.build(LGATr, torch.float32)(x, torch.zeros(5, 3))

    @pytest.mark.parametrize(
        ("x", "says"),
        [
            (torch.zeros(5, 4), "unsqueeze"),
            (torch.zeros(5, 2, 3), "E, px, py, pz"),
            (torch.zeros(5, 4, 2), "transpose"),
            (torch.zeros(5, 2, 16), "extract_vector"),
            (torch.zeros(5, 1, 4), "number of channels must be 2, not 1"),
        ],
    )
    def test_vectors(self, x, says):
        with pytest.raises(ValueError, match=says):
            networks.build(LGATrSlim, torch.float32)(x, torch.zeros(5, 3))

    @pytest.mark.parametrize(
        ("s", "says"),
        [
            (None, "scalars are missing"),
            (torch.zeros(5, 4), "must be 3, not 4"),
            (torch.zeros(4, 3), r"same tokens; wanted are scalars \(5, 3\)"),
            (torch.zeros(1, 5, 3), "same tokens"),
            (torch.zeros(5, 3).double(), "torch.float64"),
        ],
    )
    def test_scalars(self, s, says):
        with pytest.raises(ValueError, match=says):
            networks.build(LGATr, torch.float32)(torch.zeros(5, 2, 16), s)

    def test_scalars_that_were_not_announced(self):
        net = networks.build(LGATr, torch.float32, in_s_channels=0)
        with pytest.raises(ValueError, match="leave them out, or build with 3"):
            net(torch.zeros(5, 2, 16), torch.zeros(5, 3))

    def test_names_of_the_condition(self):
        x, x_cond, s, s_cond = networks.inputs(ConditionalLGATr, 5)
        net = networks.build(ConditionalLGATr)
        with pytest.raises(ValueError, match="multivectors_cond have shape"):
            net(x, x_cond[..., :4], s, s_cond)
        with pytest.raises(ValueError, match="scalars_cond are missing"):
            net(x, x_cond, s)

    def test_compiled_networks_check_too(self):
        net = torch.compile(networks.build(LGATr, torch.float32, num_blocks=0), backend="eager")
        assert net(torch.zeros(5, 2, 16), torch.zeros(5, 3))[0].shape == (5, 1, 16)
        with pytest.raises(ValueError, match="embed_vector"):
            net(torch.zeros(5, 2, 4), torch.zeros(5, 3))

    def test_autocast_chooses_formats(self):
        net = networks.build(LGATr, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            net(torch.zeros(5, 2, 16).bfloat16(), torch.zeros(5, 3))
            with pytest.raises(ValueError, match="torch.float64"):
                net(torch.zeros(5, 2, 16).double(), torch.zeros(5, 3))


class TestConstructors:
    @pytest.mark.parametrize("kind", networks.KINDS)
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("num_blocks", -1),
            ("num_blocks", 1.5),
            ("num_blocks", "2"),
            ("num_blocks", True),
            ("hidden_{}_channels", 0),
            ("hidden_{}_channels", -4),
            ("in_{}_channels", 2.0),
            ("out_{}_channels", None),
            ("in_s_channels", -1),
            ("hidden_s_channels", float("nan")),
            ("dropout_prob", 1.5),
            ("dropout_prob", -0.1),
            ("dropout_prob", float("nan")),
            ("dropout_prob", "0.1"),
        ],
    )
    def test_networks(self, kind, name, value):
        name = name.format("v" if networks.is_slim(kind) else "mv")
        with pytest.raises(REFUSALS, match=f"{name} must be") as caught:
            networks.build(kind, **{name: value})
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
    def test_heads(self, value):
        with pytest.raises(REFUSALS, match="num_heads must be"):
            networks.build(LGATr, attention={"num_heads": value})
        with pytest.raises(REFUSALS, match="num_heads must be"):
            networks.build(LGATrSlim, num_heads=value)

    def test_nonlinearities(self):
        with pytest.raises(ValueError, match="nonlinearity must be one of"):
            networks.build(LGATr, mlp={"nonlinearity": "swish"})
        with pytest.raises(ValueError, match="nonlinearity must be one of"):
            networks.build(LGATrSlim, nonlinearity="swish")

    def test_places_of_channels(self):
        for places in ((2,), (-1,), (0.5,)):
            with pytest.raises(REFUSALS, match="reinsert_mv_channels"):
                networks.build(LGATr, reinsert_mv_channels=places)

    def test_no_blocks(self):
        for kind in networks.KINDS:
            values = networks.inputs(kind, 5)
            assert networks.build(kind, num_blocks=0)(*values)[0].shape[:2] == (5, 1)
