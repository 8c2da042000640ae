"""Operators that torch keeps in traced programs, called by themselves."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lgatr.layout import Sectors, to_sectors
from lgatr.ops.product import operator  # noqa: F401 - registers it
from lgatr.ops.product.formula import product_by_matrices


def factors(tokens):
    parts = [*to_sectors(torch.randn(tokens, 3, 16)), *to_sectors(torch.randn(tokens, 3, 16))]
    return [x.detach().requires_grad_() for x in parts]


@pytest.mark.parametrize("tokens", [5, 0])
def test_a_product_and_its_gradients_are_those_of_the_formula(kernels, tokens):
    given = factors(tokens)
    found = torch.ops.lgatr.geometric_product(*given)
    expected = product_by_matrices(Sectors(*given[:3]), Sectors(*given[3:]))
    grads = [torch.randn_like(x) for x in expected]
    torch.testing.assert_close(found, tuple(expected), rtol=1e-5, atol=1e-5)
    ours, theirs = (torch.autograd.grad(tuple(x), given, grads) for x in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_attention_is_that_of_single_events(causal):
    lengths, shape = (4, 1, 6), (2, 8)
    ptr = torch.tensor([0, 4, 5, 11], dtype=torch.int32)
    given = [torch.randn(11, *shape, requires_grad=True) for _ in range(3)]
    found = torch.ops.lgatr.packed_attention(*given, ptr, ptr, causal, None)
    single = [
        scaled_dot_product_attention(*(x.transpose(0, 1) for x in event), is_causal=causal)
        for event in zip(*(x.split(lengths) for x in given), strict=True)
    ]
    expected = torch.cat([x.transpose(0, 1) for x in single])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(x, given, grad) for x in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_packed_attention_refuses_other_numbers_of_events():
    q = torch.randn(6, 1, 4)
    ptr, other = (torch.tensor(x, dtype=torch.int32) for x in ([0, 6], [0, 3, 6]))
    with pytest.raises(ValueError, match="queries come from 1 events, keys from 2"):
        torch.ops.lgatr.packed_attention(q, q, q, ptr, other, False, None)


@pytest.mark.filterwarnings("ignore")
def test_torch_can_trace_them():
    torch.library.opcheck(torch.ops.lgatr.geometric_product, tuple(factors(4)))
    ptr = torch.tensor([0, 4, 5], dtype=torch.int32)
    given = tuple(torch.randn(5, 2, 8, requires_grad=True) for _ in range(3))
    torch.library.opcheck(torch.ops.lgatr.packed_attention, (*given, ptr, ptr, True, None))
