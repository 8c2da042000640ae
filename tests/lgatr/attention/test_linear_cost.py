"""Performer and Linformer: what they converge to, packed events, and who refuses them."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATr, Packing
from lgatr.attention.linear_cost import Linformer, Performer
from support import networks

LENGTHS, KEYS = [5, 5, 9, 2], [4, 4, 7, 3]


def exact(q, k, v, lengths, keys):
    outputs = []
    for a, b, c in zip(q.split(lengths), k.split(keys), v.split(keys), strict=True):
        scores = torch.einsum("thd,uhd->htu", a, b) * a.shape[-1] ** -0.5
        outputs.append(torch.einsum("htu,uhd->thd", scores.softmax(-1), c))
    return torch.cat(outputs)


def values(dtype=torch.float64):
    return [torch.randn(sum(n), 2, 8, dtype=dtype) for n in (LENGTHS, KEYS, KEYS)]


class TestPerformer:
    def test_error_falls_like_one_over_root_of_features(self):
        # Features of large vectors have heavy tails; the law shows once they do not rule.
        q, k, v = (0.5 * x for x in values())
        truth = exact(q, k, v, LENGTHS, KEYS)
        errors = []
        for features in (64, 1024, 16384):
            found = [
                Performer(8, features, seed=s)(
                    q, k, v, Packing.from_lengths(LENGTHS), Packing.from_lengths(KEYS)
                )
                for s in range(6)
            ]
            errors.append(torch.stack([(f - truth).square().mean() for f in found]).mean().sqrt())
        for a, b in zip(errors, errors[1:], strict=False):
            assert 2 < a / b < 8  # 4 for a factor of 16
        assert errors[-1] < 0.01

    def test_features_of_a_block_are_orthogonal(self):
        rows = Performer(8, 16).double().projection[:8]
        product = rows @ rows.T
        assert (product - torch.diag(product.diagonal())).abs().max() < 1e-5

    def test_permutation_of_an_event(self):
        q, k, v = (torch.randn(6, 2, 8, dtype=torch.float64) for _ in range(3))
        order, packing = torch.randperm(6), Packing.from_lengths([6])
        net = Performer(8)
        out = net(q, k, v, packing)
        torch.testing.assert_close(net(q[order], k[order], v[order], packing), out[order])

    def test_large_inputs_stay_finite(self):
        q, k, v = (50 * x for x in values(torch.float32))
        packings = Packing.from_lengths(LENGTHS), Packing.from_lengths(KEYS)
        assert Performer(8)(q, k, v, *packings).isfinite().all()


class TestLinformer:
    def test_exact_where_the_projection_is_the_identity(self):
        q, k, v = (torch.randn(12, 2, 8, dtype=torch.float64) for _ in range(3))
        net = Linformer(6, 6).double()
        with torch.no_grad():
            net.key_projection.copy_(torch.eye(6))
            net.value_projection.copy_(torch.eye(6))
        out = net(q, k, v, Packing.from_lengths([6, 6]))
        torch.testing.assert_close(out, exact(q, k, v, [6, 6], [6, 6]))

    def test_events_do_not_see_each_other(self):
        q, k, v = (x.requires_grad_() for x in values())
        net = Linformer(9, 4).double()
        out = net(q, k, v, Packing.from_lengths(LENGTHS), Packing.from_lengths(KEYS))
        out[10:19].sum().backward()
        for x, n in ((q, LENGTHS), (k, KEYS), (v, KEYS)):
            touched = [bool(g.abs().sum() > 0) for g in x.grad.split(n)]
            assert touched == [False, False, True, False]

    def test_too_long(self):
        q, k, v = (torch.randn(5, 2, 8) for _ in range(3))
        with pytest.raises(ValueError, match="built for 4"):
            Linformer(4)(q, k, v, Packing.from_lengths([5]))


@pytest.mark.parametrize(
    ("name", "why"), [("performer", "Lorentz equivariance"), ("linformer", "permutation symmetry")]
)
def test_lgatr_refuses(name, why):
    net = networks.build(LGATr)
    with pytest.raises(ValueError, match=why):
        net(*networks.inputs(LGATr, 5), packing=Packing.from_lengths([5]), backend=name)


def test_packing_must_fit():
    q, k, v = values()
    with pytest.raises(ValueError, match="describes 3"):
        Performer(8)(q, k, v, Packing.from_lengths([3]))
