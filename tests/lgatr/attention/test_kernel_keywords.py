"""Keywords of other libraries' kernels; in pairs they are tried beside test_attention_arguments."""

from __future__ import annotations

import pytest
import torch

from lgatr import Packing
from lgatr.attention import (
    ALiBi,
    Causal,
    SlidingWindow,
    SoftCap,
    prepare_attention,
)
from lgatr.attention.pattern import kernel_keywords

DEVICE = torch.device("cpu")
SLOPES = torch.tensor([0.5, 0.25], dtype=torch.float64)


def test_keywords_that_have_no_meaning_here():
    for name, advice in kernel_keywords.REFUSED.items():
        for nothing in (None, False, {}):
            prepare_attention(DEVICE, torch.float64, **{name: nothing})
        with pytest.raises(TypeError, match=f"does not take {name}=.*{advice[:20]}") as caught:
            prepare_attention(DEVICE, torch.float64, **{name: (1, 2)})
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="p is another library's name of dropout_p"):
        prepare_attention(DEVICE, torch.float64, p=0.1, dropout_p=0.2)
    with pytest.raises(ValueError, match=r"both cu_seqlens.*cu_seq_q is cu_seqlens_q here"):
        prepare_attention(DEVICE, torch.float64, cu_seq_q=torch.tensor([0, 4, 8]))


def test_windows_of_kernels_are_counted_from_the_end():
    q, k, v = torch.randn(3, 8, 2, 6, dtype=torch.float64)
    q, queries = q[:2], Packing.from_lengths([2])
    keys = Packing.from_lengths([8])
    for options, mask in (
        ({"causal": True}, Causal(bottom_right=True)),
        ({"causal": True, "window_size": (3, 5)}, SlidingWindow(3, 0, bottom_right=True)),
        ({"window_size": (3, -1)}, SlidingWindow(3, None, bottom_right=True)),
    ):
        cross = {"packing": queries, "kv_packing": keys}
        a, b = (
            prepare_attention(DEVICE, torch.float64, **cross, **given)(q, k, v)
            for given in (options, {"mask": mask})
        )
        assert torch.equal(a, b)
    score = {"softcap": 1.5, "alibi_slopes": SLOPES}
    a = prepare_attention(DEVICE, torch.float64, **cross, **score)(q, k, v)
    b = prepare_attention(DEVICE, torch.float64, **cross, score=SoftCap(1.5) >> ALiBi(SLOPES))
    assert torch.equal(a, b(q, k, v))
