"""A problem of attention inside events: by the kernels on CUDA, and by its definition."""

from __future__ import annotations

import math

import torch

from lgatr.attention import ALiBi, AttentionSpec, Packing, SoftCap
from lgatr.attention.backends.native.backend import NativeBackend
from lgatr.attention.backends.native.cuda import packed_events

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = 3e-6
"""Of the largest entry."""
LENGTHS = (1, 5, 20)
NAMES = ("outputs", "log-sum-exp", "gradient of q", "gradient of k", "gradient of v")


class Case:
    """A pattern, its stage, and the same from its definition."""

    def __init__(self, lengths=LENGTHS, keys=None, mask=None, score=None, scale=None):
        self.lengths, self.keys, self.mask = lengths, keys or lengths, mask
        parts = () if score is None else getattr(score, "parts", (score,))
        self.cap = next((p.cap for p in parts if isinstance(p, SoftCap)), None)
        self.slopes = next((p.slopes for p in parts if isinstance(p, ALiBi)), None)
        self.scale = scale
        packings = [Packing.from_lengths(n).to(DEVICE) for n in (self.lengths, self.keys)]
        spec = AttentionSpec(
            packing=packings[0], kv_packing=packings[1], mask=mask, score=score, scale=scale
        )
        self.stage = packed_events(spec, lambda *x: NativeBackend._scored(*x, spec, False)[0])

    def tensors(self, heads=2, width=16, sizes=(1.0, 1.0, 1.0, 1.0), dtype=torch.float32):
        """q, k, v, and a gradient of the outputs."""
        tokens = [sum(n) for n in (self.lengths, self.keys, self.keys, self.lengths)]
        return [
            (size * torch.randn(n, heads, width, dtype=torch.float64)).to(DEVICE, dtype)
            for n, size in zip(tokens, sizes, strict=True)
        ]

    def run(self, q, k, v, grad):
        """By the kernels: outputs, log-sum-exp, gradients."""
        from lgatr.attention.backends.native import triton_launch

        out, lse, largest = triton_launch.attention(self.stage, q, k, v)
        gradients = triton_launch.attention_gradients(
            self.stage, (q, k, v), out, grad, lse, largest
        )
        return [out, lse, *gradients]

    def definition(self, q, k, v):
        """Outputs and log-sum-exp in float64: all scores of an event at once."""
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        found = []
        events = q.split(self.lengths), k.split(self.keys), v.split(self.keys)
        for x, y, z in zip(*events, strict=True):
            s = scale * torch.einsum("ihd,jhd->hij", x, y)
            s = s if self.cap is None else self.cap * torch.tanh(s / self.cap)
            distance = torch.arange(len(y)) - torch.arange(len(x))[:, None]
            from_last = distance - (len(y) - len(x))
            if self.slopes is not None:
                s = s - self.slopes.double()[:, None, None] * from_last.abs()
            allowed = torch.ones(len(x), len(y), dtype=torch.bool)
            if self.mask is not None:
                left, right, bottom_right = self.mask.band()
                distance = from_last if bottom_right else distance
                allowed &= distance <= (math.inf if right is None else right)
                allowed &= distance >= (-math.inf if left is None else -left)
            lse = s.masked_fill(~allowed, -math.inf).logsumexp(-1)
            base = lse.masked_fill(lse == -math.inf, 0.0)
            weights = (s - base[..., None]).exp() * allowed
            found.append((torch.einsum("hij,jhd->ihd", weights, z), lse.T))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def exact(self, q, k, v, grad):
        """From the definition: what :meth:`run` gives."""
        exact = [x.detach().double().cpu().requires_grad_() for x in (q, k, v)]
        out, lse = self.definition(*exact)
        gradients = torch.autograd.grad(out, exact, grad.double().cpu())
        return [out.detach(), lse.detach(), *gradients]


def agree(ours, theirs, tolerance=TOLERANCE):
    for name, a, b in zip(NAMES, ours, theirs, strict=True):
        none = b == -math.inf
        assert torch.equal(a.cpu() == -math.inf, none), name
        a, b = a.double().cpu()[~none], b[~none]
        error, largest = (a - b).abs().max(), b.abs().max()
        assert error <= tolerance * largest, f"{name}: {error:.1e} of {largest:.1e}"


def check(case, *inputs, tolerance=TOLERANCE):
    agree(case.run(*inputs), case.exact(*inputs), tolerance)
