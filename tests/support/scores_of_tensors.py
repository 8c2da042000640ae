"""Score modifications that use tensors in every way that Python has."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import nn

from lgatr.attention import (
    ALiBi,
    PairwiseBias,
    RelativePosition,
    ScoreMod,
    ScoreModFunction,
    SoftCap,
)

HEADS, WIDTH = 4, 3
HEAD_WEIGHTS = torch.linspace(-1, 1, HEADS, dtype=torch.float64).requires_grad_()


class Bilinear(nn.Module):
    """A score that is a network."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, HEADS, dtype=torch.float64)
        self.cap = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, score, b, h, q, k):
        features = torch.stack(torch.broadcast_tensors(q - k, q * k), -1).double()
        bias = self.linear(features)
        picked = bias.expand(*torch.broadcast_shapes(h.shape, bias.shape[:-1]), HEADS)
        picked = picked.gather(-1, h.expand(picked.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        return self.cap * torch.tanh((score + picked) / self.cap)

    def method(self, score, b, h, q, k):
        return score * self.cap + self.linear.weight[h, 0]


class Square(torch.autograd.Function):
    """Operations that no mode of torch looks into."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w * w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        grad_w = (grad * 2 * x * w).sum_to_size(w.shape)
        return grad * w * w, grad_w


@dataclass(frozen=True, eq=False)
class OfList(ScoreMod):
    """Tensors inside a list, which nobody looks through."""

    weights: list

    def __call__(self, score, at):
        return score * self.weights[0] + self.weights[1][at.head] * at.k


def closure_of_leaf(tokens):
    w = torch.randn(HEADS, dtype=torch.float64, requires_grad=True)
    x = torch.randn(640, dtype=torch.float64)
    return ScoreModFunction(lambda s, b, h, q, k: s + w[h] * (x[q] - x[k])), [w]


def closure_of_network(tokens):
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = net(torch.randn(640, 2, dtype=torch.float64)).squeeze(-1)
    return ScoreModFunction(lambda s, b, h, q, k: s * x[q] + x[k]), [x, *net.parameters()]


def bound_early(tokens):
    w = torch.randn(HEADS, dtype=torch.float64, requires_grad=True)

    def function(v, s, b, h, q, k, u=w):
        return s * v + u[h]

    v = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    return ScoreModFunction(functools.partial(function, v)), [v, w]


def global_tensor(tokens):
    return ScoreModFunction(lambda s, b, h, q, k: s * HEAD_WEIGHTS[h]), [HEAD_WEIGHTS]


def nested(tokens):
    w = torch.randn(640, dtype=torch.float64, requires_grad=True)

    def outer():
        def inner(i):
            return w[i] ** 2

        return lambda s, b, h, q, k: s + inner(q) * inner(k)

    return ScoreModFunction(outer()), [w]


def module(tokens):
    net = Bilinear()
    return ScoreModFunction(net), list(net.parameters())


def method(tokens):
    net = Bilinear()
    return ScoreModFunction(net.method), [net.cap, net.linear.weight]


def own_function(tokens):
    w = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    return ScoreModFunction(lambda s, b, h, q, k: Square.apply(s, w)), [w]


def attribute(tokens):
    def function(s, b, h, q, k):
        return s + function.w[h] * q

    function.w = torch.randn(HEADS, dtype=torch.float64, requires_grad=True)
    return ScoreModFunction(function), [function.w]


def of_list(tokens):
    weights = [torch.tensor(0.5, dtype=torch.float64), torch.randn(HEADS, dtype=torch.float64)]
    weights = [w.requires_grad_() for w in weights]
    return OfList(weights), weights


def chain(tokens):
    first, some = closure_of_leaf(tokens)
    slopes = torch.rand(HEADS, dtype=torch.float64, requires_grad=True)
    return first >> SoftCap(1.5) >> ALiBi(slopes), [*some, slopes]


def positions(tokens):
    slopes = torch.rand(HEADS, dtype=torch.float64, requires_grad=True)
    table = torch.randn(HEADS, 5, dtype=torch.float64, requires_grad=True)
    return ALiBi(slopes * 2) >> RelativePosition(table), [slopes, table]


def pairs(tokens):
    momenta = torch.randn(tokens, 4, dtype=torch.float64)
    momenta[:, 0] = momenta[:, 1:].norm(dim=1) + 0.5
    momenta.requires_grad_()
    weights = torch.randn(HEADS, 4, dtype=torch.float64, requires_grad=True)
    return PairwiseBias(momenta, weights), [momenta, weights]


def minus_infinity(tokens):
    w = torch.randn(HEADS, dtype=torch.float64, requires_grad=True)
    hidden = lambda s, b, h, q, k: torch.where((q + b) % 3 == 1, -math.inf, s * w[h])  # noqa: E731
    return ScoreModFunction(hidden), [w]


SCORES = {
    f.__name__: f
    for f in (
        closure_of_leaf, closure_of_network, bound_early, global_tensor, nested, module, method,
        own_function, attribute, of_list, chain, positions, pairs, minus_infinity,
    )
}  # fmt: skip
ON_SELF_ONLY = {"pairs"}
