"""Biases from pairs of particles, computed where the score is: no N x N tensor is kept.

Legend: T particles of all events, H heads, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.pattern.number_checks import check_real_table
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores.base import Bias, check_heads
from lgatr.attention.pattern.shapes import Layout
from lgatr.utils.described import described

PAIR_FEATURES = ("delta", "kt", "z", "m2")
# Below, numbers stand in the formulas: a compiler takes names for variables. 1e-8 is the smallest
# argument of a logarithm; 1e-32 makes gradients of square roots at zero numbers, and does not show.


def pair_features(a: Tensor, b: Tensor, names: tuple[str, ...] = PAIR_FEATURES) -> Tensor:
    r"""Logarithms of pairwise observables (Particle Transformer, arXiv:2202.03772, equation 3).

    ``delta``: :math:`\ln\sqrt{(y_a - y_b)^2 + (\phi_a - \phi_b)^2}`; ``kt``:
    :math:`\ln(\min(p_{T,a}, p_{T,b})\,\Delta)`; ``z``:
    :math:`\ln(\min(p_{T,a}, p_{T,b}) / (p_{T,a} + p_{T,b}))`; ``m2``: :math:`\ln (p_a + p_b)^2`.
    Arguments of logarithms are at least 1e-8.

    Parameters
    ----------
    a, b
        Momenta (E, px, py, pz), ``(..., 4)``, broadcasting to each other.
    names
        Which observables.

    Returns
    -------
    ``(..., len(names))``.
    """
    return torch.stack([_feature(n, a.unbind(-1), b.unbind(-1)) for n in names], dim=-1)


def _rapidity(p: tuple[Tensor, ...]) -> Tensor:
    above, below = (p[0] + p[3]).clamp(min=1e-8), (p[0] - p[3]).clamp(min=1e-8)
    return 0.5 * torch.log(above / below)


def _transverse(p: tuple[Tensor, ...]) -> Tensor:
    return torch.sqrt(p[1] * p[1] + p[2] * p[2] + 1e-32)


def _distance(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    y = _rapidity(a) - _rapidity(b)
    # The angle between two vectors needs no wrapping to (-pi, pi].
    phi = torch.atan2(a[1] * b[2] - a[2] * b[1], a[1] * b[1] + a[2] * b[2])
    return torch.sqrt(y * y + phi * phi + 1e-32)


def _feature(name: str, a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    if name == "m2":
        s = [x + y for x, y in zip(a, b, strict=True)]
        value = s[0] * s[0] - s[1] * s[1] - s[2] * s[2] - s[3] * s[3]
    elif name == "delta":
        value = _distance(a, b)
    else:
        smaller = torch.minimum(_transverse(a), _transverse(b))
        if name == "kt":
            value = smaller * _distance(a, b)
        else:
            value = smaller / (_transverse(a) + _transverse(b))
    return torch.log(value.clamp(min=1e-8))


@dataclass(frozen=True, eq=False)
class PairwiseBias(Bias):
    r""":math:`s_{ij} + \sum_f w_{hf}\, u_f(p_i, p_j)`, with :func:`pair_features` u.

    Everything is computed from the momenta of the two particles at hand, so that no backend needs
    a tensor of all pairs.

    Parameters
    ----------
    momenta
        ``(T, 4)``, one for each token of the batch, in the order of the tokens.
    weights
        ``(heads, F)``; learned if it requires gradients.
    names
        F of ``delta``, ``kt``, ``z`` and ``m2``.
    """

    momenta: Tensor
    weights: Tensor
    names: tuple[str, ...] = PAIR_FEATURES
    feature = "pairwise"

    def __post_init__(self) -> None:
        names = self.names
        if not isinstance(names, (list, tuple)):
            raise ValueError(f"names of PairwiseBias are a sequence, not {described(names)}")
        object.__setattr__(self, "names", tuple(names))
        check_real_table(self.weights, "weights of PairwiseBias", "(heads, features)")
        check_real_table(self.momenta, "momenta of PairwiseBias", "(tokens, 4)")
        unknown = [name for name in self.names if name not in PAIR_FEATURES]
        fits = self.weights.dim() == 2 and self.weights.shape[1] == len(self.names)
        if unknown or not self.names or not fits:
            raise ValueError(
                f"PairwiseBias needs weights (heads, {len(self.names)}) for features out of "
                f"{', '.join(PAIR_FEATURES)}; got {tuple(self.weights.shape)} for "
                f"{described(self.names)}"
            )
        if self.momenta.dim() != 2 or self.momenta.shape[1] != 4:
            raise ValueError(
                f"PairwiseBias needs momenta (tokens, 4), not {tuple(self.momenta.shape)}"
            )

    @property
    def symmetry(self) -> str:  # type: ignore[override]
        """Only the invariant mass of pairs is Lorentz invariant."""
        return "lorentz" if set(self.names) <= {"m2"} else "beam"

    def check(self, layout: Layout) -> None:
        """Self-attention of as many particles as there are momenta."""
        queries, keys = sum(layout.queries), sum(layout.keys)
        if not queries == keys == len(self.momenta):
            raise ValueError(
                f"PairwiseBias holds {len(self.momenta)} momenta for self-attention of as many "
                f"tokens, not of {queries} queries and {keys} keys"
            )
        check_heads(self.weights, layout, "PairwiseBias has weights")

    def bias(self, at: Positions) -> Tensor:
        # Component by component: kernels that compute one score at a time have no vectors.
        momenta = self.momenta.unbind(-1)
        a, b = (tuple(p[t] for p in momenta) for t in (at.q_token, at.k_token))
        total = None
        for weight, name in zip(self.weights.unbind(-1), self.names, strict=True):
            term = weight[at.head] * _feature(name, a, b)
            total = term if total is None else total + term
        assert total is not None
        return total
