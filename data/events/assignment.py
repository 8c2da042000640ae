"""Which jets come from which top quark, by the masses of W bosons and top quarks."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from data.events.final_state import FloatArray, transverse_momentum

W_MASS, TOP_MASS = 80.4, 172.5
"""GeV."""
_WIDTHS = 10.0, 20.0
"""Resolutions of the masses of W and top, in GeV."""


def _mass(p: FloatArray) -> float:
    return float(np.sqrt(max(p[0] ** 2 - (p[1:] ** 2).sum(), 0.0)))


def assign_tops(jets: FloatArray, tagged: list[bool]) -> FloatArray:
    """Jets in the order b1, q1, q2, b2, q3, q4, then all others by transverse momentum.

    The pairs of light jets and the two bottom jets are combined so that
    :math:`\\chi^2 = \\sum (m_W - 80.4)^2 / 10^2 + \\sum (m_t - 172.5)^2 / 20^2` over both tops is
    least, in GeV. The top of larger transverse momentum is the first, and so is the harder quark
    of each W.

    Parameters
    ----------
    jets
        ``(jets, 4)`` by falling transverse momentum.
    tagged
        Whether each has a bottom hadron; exactly two do.
    """
    bottom = [i for i, is_tagged in enumerate(tagged) if is_tagged]
    light = [i for i, is_tagged in enumerate(tagged) if not is_tagged]
    width_w, width_top = _WIDTHS

    def cost(b: int, pair: tuple[int, int]) -> float:
        w = jets[pair[0]] + jets[pair[1]]
        w_part = ((_mass(w) - W_MASS) / width_w) ** 2
        return w_part + ((_mass(w + jets[b]) - TOP_MASS) / width_top) ** 2

    pairs = list(combinations(light, 2))
    costs = {(b, pair): cost(b, pair) for b in bottom for pair in pairs}
    first_b, second_b = bottom
    _, first, second = min(
        (costs[first_b, one] + costs[second_b, other], one, other)
        for one in pairs
        for other in pairs
        if not set(one) & set(other)
    )
    tops = [[first_b, *first], [second_b, *second]]
    tops.sort(key=lambda top: -float(transverse_momentum(jets[top].sum(axis=0))))
    used = [i for top in tops for i in top]
    rest = [i for i in range(len(jets)) if i not in used]
    return jets[used + rest]
