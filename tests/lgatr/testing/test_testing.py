"""The public test helpers, against transformations and models whose symmetry is known."""

from __future__ import annotations

import pytest
import torch

from lgatr import (
    LGATr,
    LGATrSlim,
    Packing,
    embed_axialvector,
    embed_bivector,
    embed_pseudoscalar,
    embed_vector,
    extract_scalar,
    extract_vector,
    get_spurions,
)
from lgatr.layers import EquiLinear, SlimLinear
from lgatr.testing import (
    GROUPS,
    PARITY,
    REPRESENTATIONS,
    assert_equivariant,
    boost,
    equivariance_error,
    random_lorentz,
    random_momenta,
    random_rotation,
    report,
    rotation,
    transform,
)
from support import lorentz, networks
from support.slow import every

METRIC = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", GROUPS)
def test_elements_preserve_the_metric(name):
    generator = torch.Generator().manual_seed(0)
    for n in range(8):
        matrix = GROUPS[name].draw(n, 1.5, generator)
        torch.testing.assert_close(matrix.T @ METRIC @ matrix, METRIC, rtol=0, atol=1e-13)
        determinant = torch.linalg.det(matrix).item()
        if name in ("O(1,3)", "O(3)"):
            assert abs(determinant) == pytest.approx(1)
        else:
            assert determinant == pytest.approx(1) and matrix[0, 0] >= 1 - 1e-12
        if name in ("O(3)", "SO(3)", "SO(2)"):
            assert matrix[0].tolist() == pytest.approx([1, 0, 0, 0])
        if name in ("SO(2)", "SO(1,1) x SO(2)"):
            assert matrix[1:3, [0, 3]].abs().max() == 0


def test_analytic_boost_and_rotation():
    e, z = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], dtype=torch.float64)
    boosted = boost(2.0, (0, 0, 3.0)) @ e
    assert boosted.tolist() == pytest.approx([3.76219569, 0, 0, 3.62686041])
    quarter = rotation(torch.pi / 2, (1, 0, 0)) @ z
    assert quarter.tolist() == pytest.approx([0, 0, -1, 0])
    # Rapidities along one axis add; a light-like momentum scales by exp(rapidity).
    torch.testing.assert_close(boost(0.5) @ boost(0.7), boost(1.2))
    assert (boost(1.0) @ (e + z)).tolist() == pytest.approx([torch.e, 0, 0, torch.e])
    with pytest.raises(ValueError, match="direction"):
        boost(1.0, (0, 0, 0))


def test_random_rotations_are_uniform():
    generator = torch.Generator().manual_seed(0)
    images = torch.stack([random_rotation(generator)[1:, 3] for _ in range(4000)])
    assert images.mean(0).abs().max() < 0.05
    torch.testing.assert_close(
        images.T @ images / 4000, torch.eye(3).double() / 3, rtol=0, atol=0.03
    )


def test_momenta_are_physical():
    p = random_momenta(5, 7)
    mass = (p.square() @ METRIC.diagonal()).sqrt()
    assert p.shape == (5, 7, 4) and mass.min() >= 0.1 and mass.max() <= 1


@pytest.mark.parametrize("parity", [False, True])
def test_representations_agree_with_the_multivector(parity):
    matrix = random_lorentz(1.5)
    matrix = PARITY @ matrix if parity else matrix
    full = lorentz.on_multivectors(matrix)
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(transform(x, matrix, "multivector"), x @ full.T)
    embeddings = {
        "vector": (embed_vector, 4),
        "bivector": (embed_bivector, 6),
        "axialvector": (embed_axialvector, 4),
        "pseudoscalar": (embed_pseudoscalar, 1),
    }
    for name, (embed, size) in embeddings.items():
        x = torch.randn(3, size, dtype=torch.float64)
        torch.testing.assert_close(
            embed(transform(x, matrix, name)), transform(embed(x), matrix, "multivector")
        )
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(
        transform(x, matrix, "slim vector").mT, transform(x.mT, matrix, "vector")
    )
    assert transform(x, matrix, "scalar") is x and len(REPRESENTATIONS) == 6


def test_almost_no_boost_is_no_boost():
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(transform(x, boost(1e-311, (1, 2, 3)), "multivector"), x)


@pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
def test_networks_declare_what_they_are(kind):
    net = networks.build(kind)
    values = networks.inputs(kind, 2, 5)
    assert_equivariant(net, values, rapidity=2.0)
    with pytest.raises(AssertionError, match=r"not equivariant under O\(1,3\): relative deviation"):
        assert_equivariant(EquiLinear(2, 2), torch.randn(2, 16), group="O(1,3)")
    assert_equivariant(SlimLinear(2, 2, 1, 1), (torch.randn(4, 2), torch.randn(1)), group="O(1,3)")


def test_layers_declare_what_they_are():
    import lgatr.layers as layers

    modules = [getattr(layers, name) for name in layers.__all__ if not name.endswith("Config")]
    assert [m.__name__ for m in modules if not hasattr(m, "representations")] == []


# The symmetry each reference vector leaves over.
SYMMETRIES = {
    "SO+(1,3)": dict(beam_spurion=None, add_time_spurion=False),
    "SO(3)": dict(beam_spurion=None, add_time_spurion=True),
    "SO(1,1) x SO(2)": dict(beam_spurion="xyplane", add_time_spurion=False),
    "SO(2)": dict(beam_spurion="lightlike", add_time_spurion=True),
}


class Tagger(torch.nn.Module):
    """A user's model: momenta in, one number per event out."""

    def __init__(self, **spurions):
        super().__init__()
        self.register_buffer("spurions", get_spurions(**spurions))
        torch.manual_seed(0)
        self.net = LGATr(
            num_blocks=2,
            in_mv_channels=1 + len(self.spurions),
            out_mv_channels=1,
            hidden_mv_channels=4,
            in_s_channels=0,
            out_s_channels=0,
            hidden_s_channels=8,
            attention={"num_heads": 2},
            mlp={},
        )

    def forward(self, p):
        x = embed_vector(p).unsqueeze(-2)
        spurions = self.spurions.to(p.dtype).expand(*p.shape[:-1], -1, -1)
        out, _ = self.net(torch.cat([x, spurions], dim=-2))
        return extract_scalar(out).mean(dim=(1, 2, 3))


@pytest.mark.parametrize("expected", every(2, SYMMETRIES))
def test_report_finds_the_symmetry_that_spurions_leave(expected):
    tagger = Tagger(**SYMMETRIES[expected])
    with torch.no_grad():  # freshly drawn networks hardly break parity: by less than 1e-8
        for parameter in tagger.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    found = report(tagger, inputs="vector", outputs="scalar")
    assert found.symmetry == expected and not found.trivial
    assert next(tagger.parameters()).dtype == torch.float32  # a copy was measured
    text = str(found)
    assert f"symmetry: {expected}" in text and "rotations about the beam" in text


def minkowski(p):
    return (p.sum(1).square() @ METRIC.diagonal()).unsqueeze(-1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (minkowski, "O(1,3)"),
        (lambda p: p[..., 0], "O(3)"),
        (lambda p: p[..., 1:3].norm(dim=-1), "SO(1,1) x SO(2)"),
        (lambda p: p[..., 3], "SO(2)"),
        (lambda p: p[..., 1], "none"),
    ],
)
def test_report_on_observables(function, expected):
    assert report(function, inputs="vector", outputs="scalar").symmetry == expected


def test_report_says_when_it_means_nothing():
    found = report(lambda p: torch.ones(len(p)), inputs="vector", outputs="scalar")
    assert found.trivial and "do not depend" in str(found)


def test_report_with_several_inputs_and_options():
    net = networks.build(LGATr, torch.float32)
    values = networks.inputs(LGATr, 9, dtype=torch.float32)
    found = report(net, values, packing=Packing.from_lengths([4, 5]))
    assert found.symmetry == "SO+(1,3)" and found.tolerance == 1e-8
    slim = networks.build(LGATrSlim)
    assert report(slim, networks.inputs(LGATrSlim, 2, 5)).symmetry == "O(1,3)"
    function = lambda x, names: extract_vector(x) if names else None  # noqa: E731
    x = torch.randn(2, 16)
    assert equivariance_error(
        function, (x, ["a"]), boost(0.3), inputs=("multivector", None), outputs="vector"
    ) == pytest.approx(0, abs=1e-6)


def test_not_a_number_is_no_symmetry():
    with pytest.raises(AssertionError, match="inf"):
        assert_equivariant(lambda p: p / 0 - p / 0, torch.ones(4), "vector", "vector")


class TestErrors:
    def test_unknown_representation(self):
        with pytest.raises(ValueError, match="choose from scalar, vector"):
            transform(torch.ones(4), boost(1), "spinor")

    def test_wrong_size(self):
        with pytest.raises(ValueError, match="bivector has 6 components"):
            transform(torch.ones(4), boost(1), "bivector")

    def test_unknown_group(self):
        with pytest.raises(ValueError, match=r"choose from O\(1,3\)"):
            assert_equivariant(minkowski, random_momenta(), "vector", "scalar", group="SU(2)")

    def test_nothing_declared(self):
        with pytest.raises(ValueError, match="say how inputs and outputs transform"):
            report(minkowski)

    def test_too_few_representations(self):
        with pytest.raises(ValueError, match="2 values, but representations of 1"):
            equivariance_error(torch.add, (torch.ones(4),) * 2, boost(1), "vector", "vector")


def test_outputs_that_are_not_finite_are_called_undefined():
    found = report(lambda p: p[..., 0].log().sum(-1), inputs="vector", outputs="scalar")
    assert "inf" not in str(found) and "undefined: some transformed inputs" in str(found)
    assert "O(1,3)" not in found.holds
