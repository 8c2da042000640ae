"""Observables of whole events: of each particle, of pairs, and of what decayed.

Legend: N events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data.events.final_state import (
    FinalState,
    FloatArray,
    azimuth,
    distance,
    mass_squared,
    pseudorapidity,
    transverse_momentum,
)

Resonances = Mapping[str, Sequence[str]]
"""Particles that each comes from, such as ``{"W1": ["q1", "q2"]}``."""


def members(state: FinalState, resonances: Resonances) -> dict[str, list[int]]:
    """Which particles each resonance decays to.

    Raises
    ------
    ValueError
        If a name is none of the particles.
    """
    found = {}
    for name, parts in resonances.items():
        if not parts:
            raise ValueError(f"task.resonances.{name}: name the particles that it decays to")
        if unknown := [part for part in parts if part not in state.names]:
            raise ValueError(
                f"task.resonances.{name}: no particle {', '.join(unknown)}; events have "
                f"{', '.join(state.names)}"
            )
        found[name] = [state.names.index(part) for part in parts]
    return found


def resonance_momenta(events: FloatArray, parts: Sequence[int]) -> FloatArray:
    """Sums of the momenta of decay products, ``(N, 4)``."""
    return events[:, list(parts)].sum(axis=1)


def mass(p: FloatArray) -> FloatArray:
    """In GeV; zero for spacelike momenta."""
    return np.sqrt(np.maximum(mass_squared(p), 0.0))


def pair_distances(events: FloatArray) -> FloatArray:
    """:math:`\\Delta R` of all pairs, ``(N, P (P - 1) / 2)``."""
    eta, phi = pseudorapidity(events), azimuth(events)
    first, second = np.triu_indices(events.shape[1], 1)
    return distance(eta[:, first] - eta[:, second], phi[:, first] - phi[:, second])


def features(events: FloatArray, state: FinalState, resonances: Resonances) -> FloatArray:
    """What a classifier of events is given, ``(N, F)``.

    Logarithm of transverse momentum above the cut, azimuth as cosine and sine, pseudorapidity and
    logarithm of the squared mass of each particle, the distances of all pairs, and transverse
    momentum, pseudorapidity and mass of each resonance (arXiv:2411.00446).
    """
    pt = transverse_momentum(events)
    least = np.array([state.cuts.pt if m is None else 0.0 for m in state.masses])
    phi = azimuth(events)
    columns = [
        np.log(np.maximum(pt - least, 1e-3)), np.cos(phi), np.sin(phi), pseudorapidity(events),
        np.log(np.maximum(mass_squared(events), 1e-2)), pair_distances(events),
    ]  # fmt: skip
    for parts in members(state, resonances).values():
        p = resonance_momenta(events, parts)
        columns += [
            np.log(transverse_momentum(p) + 1.0)[:, None], pseudorapidity(p)[:, None],
            mass(p)[:, None],
        ]  # fmt: skip
    return np.concatenate(columns, axis=1)


def observables(
    events: FloatArray, state: FinalState, resonances: Resonances
) -> dict[str, tuple[FloatArray, str]]:
    """One-dimensional observables with the labels of their axes."""
    found: dict[str, tuple[FloatArray, str]] = {}
    pt, eta, phi, m = (
        transverse_momentum(events), pseudorapidity(events), azimuth(events), mass(events),
    )  # fmt: skip
    for i, name in enumerate(state.names):
        found[f"pt_{name}"] = pt[:, i], rf"$p_T$ of {name} [GeV]"
        found[f"eta_{name}"] = eta[:, i], rf"$\eta$ of {name}"
        found[f"phi_{name}"] = phi[:, i], rf"$\phi$ of {name}"
        if state.masses[i] is None:
            found[f"mass_{name}"] = m[:, i], f"mass of {name} [GeV]"
    first, second = np.triu_indices(events.shape[1], 1)
    for place, apart in enumerate(pair_distances(events).T):
        a, b = state.names[first[place]], state.names[second[place]]
        found[f"delta_r_{a}_{b}"] = apart, rf"$\Delta R$ of {a}, {b}"
    for name, parts in members(state, resonances).items():
        p = resonance_momenta(events, parts)
        found[f"mass_{name}"] = mass(p), f"mass of {name} [GeV]"
        found[f"pt_{name}"] = transverse_momentum(p), rf"$p_T$ of {name} [GeV]"
    return found
