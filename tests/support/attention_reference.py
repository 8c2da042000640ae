"""Attention from its definition: float64, all N x N scores, masks entry by entry in Python."""

from __future__ import annotations

import math

import torch

LENGTHS, KEYS, HEADS, WIDTH = (7, 3, 1, 7, 5), (6, 4, 2, 9, 5), 4, 6

SLOPES = [2 ** (-8 * (h + 1) / HEADS) for h in range(HEADS)]
TABLE = torch.linspace(-1, 1, HEADS * 7, dtype=torch.float64).view(HEADS, 7)
PAIR_WEIGHTS = torch.linspace(-0.4, 0.5, HEADS * 4, dtype=torch.float64).view(HEADS, 4)
PREFIXES = [2, 1, 1, 3, 0]
_generator = torch.Generator().manual_seed(4)
MOMENTA = torch.randn(sum(LENGTHS), 4, generator=_generator, dtype=torch.float64)
MOMENTA[:, 0] = MOMENTA[:, 1:].norm(dim=1) + 0.2
COLUMNS = torch.randint(0, 8, (4, sum(LENGTHS)), generator=_generator)


def window(left, right):
    return lambda e: (
        (left is None or e["q"] - e["k"] <= left) and (right is None or e["k"] - e["q"] <= right)
    )


def from_corner(rule):
    return lambda e: rule({**e, "q": e["q"] + e["m"] - e["n"]})


def neighbourhood(size):
    def rule(e):
        start = min(max(e["q"] - size // 2, 0), max(e["m"] - size, 0))
        return start <= e["k"] < start + size

    return rule


def columns(e):
    lower, lower_end, upper, upper_end = (int(c[e["kt"]]) for c in COLUMNS)
    return not (lower <= e["q"] < lower_end or upper <= e["q"] < upper_end)


# What may be seen: from an event's numbers of queries n and keys m, positions q and k, tokens qt
# and kt, event i and head h.
MASKS = {
    "none": lambda e: True,
    "causal": window(None, 0),
    "causal_bottom_right": from_corner(window(None, 0)),
    "window": window(2, 1),
    "window_bottom_right": from_corner(window(2, 1)),
    "window_causal": window(2, 0),
    "window_causal_bottom_right": from_corner(window(2, 0)),
    "prefix_lm": lambda e: e["k"] < PREFIXES[e["i"]] or e["k"] <= e["q"],
    "longformer": lambda e: abs(e["q"] - e["k"]) <= 1 or e["q"] < 1 or e["k"] < 1,
    "shifted_windows": lambda e: (e["q"] + 1) // 3 == (e["k"] + 1) // 3,
    "neighbourhood": neighbourhood(3),
    "column_ranges": columns,
    "mask_mod": lambda e: (e["q"] + e["k"] + e["h"] + e["i"]) % 3 != 0,
    "combined": lambda e: (
        e["k"] <= e["q"] and not abs(e["q"] - e["k"]) <= 1 and (e["q"] + e["k"]) % 2 == 0
    ),
}


def pair_observables(a, b):
    def rapidity(p):
        return 0.5 * math.log((p[0] + p[3]) / (p[0] - p[3]))

    def pt(p):
        return math.hypot(p[1], p[2])

    phi = math.atan2(a[2], a[1]) - math.atan2(b[2], b[1])
    phi = math.remainder(phi, 2 * math.pi)
    delta = math.hypot(rapidity(a) - rapidity(b), phi)
    smaller = min(pt(a), pt(b))
    s = [x + y for x, y in zip(a, b, strict=True)]
    m2 = s[0] ** 2 - s[1] ** 2 - s[2] ** 2 - s[3] ** 2
    values = (delta, smaller * delta, smaller / (pt(a) + pt(b)), m2)
    return [math.log(max(v, 1e-8)) for v in values]


def pairwise(e):
    a, b = MOMENTA[e["qt"]].tolist(), MOMENTA[e["kt"]].tolist()
    return float(PAIR_WEIGHTS[e["h"]] @ torch.tensor(pair_observables(a, b), dtype=torch.float64))


def distance(e):
    return min(max(e["k"] - e["q"], -3), 3)


# What is added to a score, then what is done to the sum.
SCORES = {
    "none": (lambda e: 0.0, lambda s: s),
    "alibi": (lambda e: -SLOPES[e["h"]] * abs(e["q"] + e["m"] - e["n"] - e["k"]), lambda s: s),
    "relative_position": (lambda e: float(TABLE[e["h"], distance(e) + 3]), lambda s: s),
    "softcap": (lambda e: 0.0, lambda s: 1.5 * torch.tanh(s / 1.5)),
    "pairwise": (pairwise, lambda s: s),
    "score_mod": (lambda e: 0.125 * (e["q"] - 2 * e["k"] + e["h"]), lambda s: s),
    "alibi_softcap": (
        lambda e: -SLOPES[e["h"]] * abs(e["q"] + e["m"] - e["n"] - e["k"]),
        lambda s: 1.5 * torch.tanh(s / 1.5),
    ),
}


def tables(mask, score, queries=LENGTHS, keys=LENGTHS, heads=HEADS):
    """Which scores there are, and what is added to them: ``(heads, T, U)``."""
    shape = (heads, sum(queries), sum(keys))
    allowed, bias = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.float64)
    rule, addition = MASKS[mask], SCORES[score][0]
    q0 = k0 = 0
    for i, (n, m) in enumerate(zip(queries, keys, strict=True)):
        for h in range(heads):
            for q in range(n):
                for k in range(m):
                    e = dict(i=i, h=h, q=q, k=k, n=n, m=m, qt=q0 + q, kt=k0 + k)
                    if rule(e):
                        allowed[h, q0 + q, k0 + k] = True
                        bias[h, q0 + q, k0 + k] = addition(e)
        q0, k0 = q0 + n, k0 + m
    return allowed, bias


def attention(q, k, v, allowed, bias, change=lambda s: s, scale=None):
    """Outputs ``(T, H, D)`` and log-sum-exp ``(T, H)`` in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = change(torch.einsum("thd,uhd->htu", q, k) * scale + bias)
    exponentials = torch.where(allowed, torch.exp(scores), 0.0)
    total = exponentials.sum(-1)
    weights = exponentials / total.clamp(min=1e-300).unsqueeze(-1)
    return torch.einsum("htu,uhd->thd", weights, v), total.log().T
