"""Arguments of xFormers' function that make no sense, or nothing to compute."""

from __future__ import annotations

import inspect

import pytest
import torch

from lgatr.attention import memory_efficient as ours
from lgatr.attention import memory_efficient_attention

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


def test_the_same_arguments(biases):
    theirs = pytest.importorskip("xformers.ops").fmha
    names = [n for n in dir(ours) if n.startswith(("memory_efficient_attention", "merge_"))]
    assert len(names) == 6
    for name in names:
        given, wanted = (
            inspect.signature(inspect.unwrap(getattr(m, name))).parameters for m in (ours, theirs)
        )
        assert [(p.name, p.kind, p.default) for p in given.values()] == [
            (p.name, p.kind, p.default) for p in wanted.values()
        ]


@pytest.mark.parametrize(("queries", "keys", "batch"), [(5, 0, 2), (0, 5, 2), (5, 5, 0)])
def test_nothing_there(queries, keys, batch):
    q = torch.randn(batch, queries, 3, 8, requires_grad=True)
    k = torch.randn(batch, keys, 3, 8, requires_grad=True)
    for mask in (None, torch.zeros(batch, 3, queries, keys)):
        out = memory_efficient_attention(q, k, k, mask)
        assert out.shape == q.shape and (out == 0).all()
        out, lse = ours.memory_efficient_attention_partial(q, k, k, mask)
        assert out.shape == q.shape and lse.shape == (batch, 3, queries)
        assert (out == 0).all() and (lse == -torch.inf).all()
        (out.sum() + 1).backward()
        assert q.grad is None or (q.grad == 0).all()


Q = torch.zeros(2, 5, 3, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((Q[0, 0], Q[0, 0], Q[0, 0]), "are all"),
        ((Q, Q[:, :, 0], Q), "are all"),
        ((Q, Q[:, :, :1], Q[:, :, :1]), "heads expanded"),
        ((Q, Q, Q[:, :4]), "fit each other"),
        ((Q[:1], Q, Q), "fit each other"),
        ((Q, Q[..., :4], Q), "fit each other"),
        ((Q, Q.double(), Q.double()), "float32, float64, float64"),
        ((Q, Q, Q, torch.zeros(5, 5)), r"\(2, 3, 5, 5\) is needed"),
        ((Q, Q, Q, torch.zeros(2, 5, 5)), r"\(2, 3, 5, 5\) is needed"),
        ((Q, Q, Q, torch.zeros(1, 3, 5, 5)), "expand it"),
        ((Q, Q, Q, torch.ones(2, 3, 5, 5).bool()), "floating-point, not torch.bool"),
        ((Q, Q, Q, None, 1.5), "dropout"),
    ],
)
def test_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        memory_efficient_attention(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parts", [([1], [2]), (None, None), ([], []), ([Q], [None])])
def test_parts_that_are_no_tensors(parts):
    with pytest.raises(TypeError, match="_split is a list of tensors"):
        ours.merge_attentions(*parts)


@pytest.mark.parametrize("p", ["a", torch.zeros(2), None])
def test_dropout_that_is_no_number(p):
    out, lse = ours.memory_efficient_attention_partial(Q, Q, Q)
    with pytest.raises(TypeError, match="^p"):
        ours.memory_efficient_attention_partial(Q, Q, Q, p=p)
    with pytest.raises(TypeError, match="^p"):
        ours.memory_efficient_attention_backward(Q, out, lse, Q, Q, Q, p=p)
