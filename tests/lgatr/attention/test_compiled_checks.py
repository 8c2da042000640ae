"""What attention refuses is refused in a compiled network too, in the same words."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATrSlim, Packing
from lgatr.attention import (
    ALiBi,
    ColumnRanges,
    GappyKeys,
    GlobalTokens,
    PaddedKeys,
    PagedCache,
    PrefixLM,
    SlidingWindow,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.*lru_cache"),
]
TOKENS = 10
EVENTS = Packing.from_lengths([3, 5, 2])
PACKED = {
    "heads of ALiBi": {"score": ALiBi(torch.ones(3))},
    "columns": {"mask": ColumnRanges(torch.full((7,), 100))},
    "marks": {"mask": GlobalTokens(torch.ones(17, dtype=torch.bool))},
    "prefixes": {"mask": PrefixLM([1] * 5)},
    "width": {"head_width": 77},
    "limit": {"max_seqlen_q": 2},
    "tokens": {"packing": Packing.from_lengths([3, 5])},
    "places": {"kv_packing": PaddedKeys(5, [3, 5, 2])},
    "keyword": {"nonsense": 1},
}
DENSE = {
    "events of a mask": {"attn_mask": torch.ones(3, 1, 10, 10, dtype=torch.bool)},
    "items of a mask": {"attn_mask": torch.ones(9, 9, dtype=torch.bool)},
    "heads of a bias": {"attn_mask": torch.ones(1, 3, 10, 10)},
    "width": {"head_width": 77},
}
# Each is traced anew, for seconds; by default one.
BY_DEFAULT = ("packed tokens",)


def wrong(shape, options, name):
    marks = [] if name in BY_DEFAULT else [pytest.mark.slow]
    return pytest.param(shape, options, marks=marks, id=name)


WRONG = [
    *(wrong((TOKENS,), {"packing": EVENTS} | o, f"packed {name}") for name, o in PACKED.items()),
    *(wrong((1, TOKENS), o, f"dense {name}") for name, o in DENSE.items()),
]


@pytest.fixture(scope="module")
def net():
    return LGATrSlim(1, 1, 1, 4, 1, 1, 8, 2)


def inputs(*shape):
    return torch.randn(*shape, 1, 4), torch.randn(*shape, 1)


def refusal(net, values, options):
    with pytest.raises((ValueError, TypeError)) as caught:
        net(*values, **options)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(("shape", "options"), WRONG)
def test_compiled_refuses_what_eager_refuses(net, shape, options):
    torch._dynamo.reset()
    values = inputs(*shape)
    fast = torch.compile(net, backend="eager")
    assert refusal(fast, values, options) == refusal(net, values, options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"mask": SlidingWindow(1)}, marks=pytest.mark.slow),
        pytest.param({"score": ALiBi(torch.ones(2))}, marks=pytest.mark.slow),
        {"kv_packing": GappyKeys([7, 0, 5], [3, 5, 2])},
        {"max_seqlen_q": 5},
    ],
    ids=["mask", "score", "storage", "limit"],
)
def test_compiled_runs_what_eager_runs(net, options):
    torch._dynamo.reset()
    values = inputs(TOKENS)
    fast = torch.compile(net, backend="eager")
    for a, b in zip(
        fast(*values, packing=EVENTS, **options), net(*values, packing=EVENTS, **options),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def state(cache):
    sequences = {n: (list(s.pages), s.length) for n, s in cache._sequences.items()}
    users = +cache._pages.users
    return cache.free_pages, users, sequences, len(cache._storage)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_failed_step_leaves_the_cache_as_it_was(net, compiled):
    torch._dynamo.reset()
    fast = torch.compile(net, backend="eager") if compiled else net
    cache = PagedCache(12, 4)
    first = cache.new()
    prompt = {"packing": Packing.from_lengths([TOKENS])}
    before = state(cache)
    with pytest.raises(ValueError, match="no_grad"):
        fast(*inputs(TOKENS), **prompt, cache=(cache, [first]))
    assert state(cache) == before
    with torch.no_grad():
        fast(*inputs(TOKENS), **prompt, cache=(cache, [first]))
        # The shared last page is copied by the step, and shared again after it fails.
        sequences = [first, cache.fork(first)]
        before = state(cache)
        step = {"packing": Packing.from_lengths([1, 4]), "cache": (cache, sequences)}
        with pytest.raises(ValueError, match="tokens"):
            fast(*inputs(3), **step)
        assert state(cache) == before
        last, net.linear_out.forward_hidden = net.linear_out.forward_hidden, lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            net(*inputs(5), **step)
        net.linear_out.forward_hidden = last
        assert state(cache) == before
        fast(*inputs(5), **step)
    assert [cache.length(s) for s in sequences] == [TOKENS + 1, TOKENS + 4]


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_with_dropout(randomness):
    from lgatr.attention import prepare_attention

    def attend(x):
        return prepare_attention(x.device, x.dtype, packing=EVENTS, dropout_p=0.5)(x, x, x)

    x = torch.randn(TOKENS, 2, 8).expand(3, -1, -1, -1)
    out = torch.vmap(attend, randomness=randomness)(x)
    assert torch.equal(out[0], out[1]) == (randomness == "same")
