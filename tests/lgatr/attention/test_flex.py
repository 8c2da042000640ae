"""Flex: the same results, and how often its compiler has to start again."""

from __future__ import annotations

import itertools

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    GlobalTokens,
    Packing,
    PrefixLM,
    SlidingWindow,
    SoftCap,
    prepare_attention,
)
from support import attention_reference as reference
from support.attention_cases import MASKS, ON_SELF_ONLY, SCORES, agree, packed_spec, tensors, usable
from support.attention_reference import KEYS, LENGTHS

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")

# The compiled kernel takes seconds for each pattern; without it every mask and every
# score is tried.
FLEX_CASES = [(mask, "none") for mask in MASKS] + [("none", s) for s in SCORES if s != "none"]


def eager_cases():
    """Every twelfth once, one of them across sequences in half precision too; the rest is slow."""
    for (mask, score), cross, dtype in itertools.product(
        FLEX_CASES, (False, True), (torch.float32, torch.bfloat16)
    ):
        usual = not cross and dtype == torch.float32 and (mask, score) in FLEX_CASES[::12]
        other = cross and dtype == torch.bfloat16 and score == "alibi_softcap"
        marks = [] if usual or other else [pytest.mark.slow]
        name = f"{mask}-{score}-{'cross' if cross else 'self'}-{str(dtype)[6:]}"
        yield pytest.param(mask, score, cross, dtype, marks=marks, id=name)


@pytest.mark.parametrize(("mask", "score", "cross", "dtype"), list(eager_cases()))
@pytest.mark.filterwarnings("ignore")
def test_flex_equals_the_definition(mask, score, cross, dtype, monkeypatch):
    """Without compilation, which changes no numbers; compiled in the slow tests."""
    from lgatr.attention.backends import flex

    monkeypatch.setattr(flex, "_compiler", lambda device, with_lse: "eager")
    flex_inference("flex", mask, score, cross, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "score"), FLEX_CASES[::4])
@pytest.mark.filterwarnings("ignore")
def test_compiled_flex_equals_the_definition(mask, score):
    flex_inference("flex", mask, score, False, torch.float32)


def flex_inference(name, mask, score, cross, dtype):
    if cross and {mask, score} & ON_SELF_ONLY:
        pytest.skip("made for self-attention")
    keys = KEYS if cross else LENGTHS
    spec = packed_spec(mask, score, Packing.from_lengths(keys) if cross else None)
    usable(name, spec, dtype, training=False)
    values = tensors(LENGTHS, keys, dtype)
    allowed, bias = reference.tables(mask, score, LENGTHS, keys)
    with torch.no_grad():
        attend = prepare_attention(torch.device("cpu"), dtype, spec=spec, backend=name)
        assert attend.backend.name == name
        ours, lse = attend(*values), attend.partial(*values)[1]
    theirs, their_lse = reference.attention(*values, allowed, bias, reference.SCORES[score][1])
    agree(ours, theirs, dtype)
    finite = their_lse.isfinite()
    assert torch.equal(lse.isfinite(), finite)
    agree(lse[finite], their_lse[finite], dtype)


class TestCompilations:
    """Batches of different shapes, and how often the compiler had to start again."""

    def compilations(self, batches, make_mask, score=None):
        from torch._dynamo.utils import counters

        torch._dynamo.reset()
        backends_of_flex = __import__("lgatr.attention.backends.flex", fromlist=["flex"])
        backends_of_flex._function.cache_clear()
        counters.clear()
        generator = torch.Generator().manual_seed(0)
        for batch in range(batches):
            events = int(torch.randint(2, 40, (1,), generator=generator))
            lengths = torch.randint(3, 90, (events,), generator=generator).tolist()
            values = [torch.randn(sum(lengths), 2, 16) for _ in range(3)]
            spec = AttentionSpec(
                packing=Packing.from_lengths(lengths), mask=make_mask(batch, events), score=score
            )
            with torch.no_grad():
                out = prepare_attention(
                    torch.device("cpu"), torch.float32, spec=spec, backend="flex"
                )(*values)
                if batch % 25 == 0:
                    ours = prepare_attention(torch.device("cpu"), torch.float32, spec=spec)(*values)
                    torch.testing.assert_close(out, ours, rtol=1e-4, atol=1e-5)
        return counters["stats"]["unique_graphs"]

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["packed", "window", "prefix", "alibi"])
    @pytest.mark.filterwarnings("ignore")
    def test_as_on_cuda(self, case, monkeypatch):
        """Tables of any size, as on CUDA; only the tracing, not the code behind it."""
        from lgatr.attention.backends import flex

        monkeypatch.setattr(flex, "_compiler", lambda device, with_lse: "eager")
        monkeypatch.setattr(flex, "_padded_table", lambda x: x)
        assert self.compilations(60, *self.CASES[case]) <= 3

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_on_a_cpu(self):
        assert self.compilations(60, *self.CASES["window"]) <= 3

    CASES = {
        "packed": (lambda batch, events: None,),
        "window": (lambda batch, events: SlidingWindow(3 + batch % 7) | GlobalTokens(1),),
        "prefix": (lambda batch, events: PrefixLM(torch.arange(events) % 3),),
        "alibi": (lambda batch, events: Causal(), ALiBi.geometric(2) >> SoftCap(4.0)),
    }
