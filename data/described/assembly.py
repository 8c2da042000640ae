"""Make jets of the fields that a description names.

Legend: J jets, N constituents of all jets together.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.described.description import UNITS, Description, FileName
from data.described.expressions import Expression
from data.errors import DataError
from data.jets import FloatArray, IntArray, Jets

Values = Mapping[str, Any]
"""Fields by name, arrays of awkward with an entry for each jet."""


class Assembly:
    """Fields of some jets of a file, seen through a description.

    Parameters
    ----------
    path
        The file.
    description
        Which field holds what.
    values
        The fields.
    """

    def __init__(self, path: Path, description: Description, values: Values) -> None:
        self.path, self.description, self.values = path, description, values

    def jets(self, labelled: bool) -> Jets:
        """The jets, not checked; without labels, all are of the first class."""
        import awkward as ak

        momenta = self._momenta()
        kept = self._kept(momenta)

        def flat(array: Any, name: str) -> FloatArray:
            return self._flat(array if kept is None else array[kept], name)

        lengths = np.asarray(ak.num(momenta[0] if kept is None else momenta[0][kept], axis=1))
        particles = {}
        for name, expression in self.description.particles.items():
            column = self._like(self._computed(expression), momenta[0], expression)
            particles[name] = flat(column, f"particles.{name}")
        constituents = np.stack([flat(x, "momenta") for x in momenta], axis=1)
        jets = {n: self.per_jet(x, f"jets.{n}") for n, x in self.description.jets.items()}
        classes = tuple(self.description.classes)
        labels = self._labels(len(lengths)) if labelled else np.zeros(len(lengths), np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Jets(
            constituents, offsets, labels, str(self.path), classes, particles,
            {name: column.astype(np.float32) for name, column in jets.items()},
        )  # fmt: skip

    def wanted(self, count: int, labelled: bool) -> npt.NDArray[np.bool_]:
        """Which of ``count`` jets are wanted."""
        found = np.ones(count, np.bool_)
        if self.description.select is not None:
            found &= self.per_jet(self.description.select, "select") != 0
        if labelled and self.description.drops_unclassified:
            found &= np.any([self._belong(n, count) for n in self.description.classes], axis=0)
        return found

    def per_jet(self, expression: Expression, name: str) -> npt.NDArray[np.float64]:
        """A number for each jet, ``(J,)``."""
        found = self._computed(expression)
        if getattr(found, "ndim", 0) != 1:
            kind = getattr(found, "type", "one number")
            raise DataError(
                f"{self.path}: {name}: {expression.text} is {kind}, where a number for each jet is "
                "wanted"
            )
        return np.asarray(found, dtype=np.float64)

    def _momenta(self) -> list[Any]:
        given = self.description.momenta
        components = {n: self._computed(x) for n, x in given.items()}
        for name, values in components.items():
            if getattr(values, "ndim", 0) != 2:
                raise DataError(
                    f"{self.path}: momenta.{name}: {given[name].text!r}, not a list of numbers for "
                    "each jet"
                )
        first = next(iter(components))
        found = _four_momenta(
            {n: self._like(x, components[first], given[n]) for n, x in components.items()}
        )
        unit = UNITS[self.description.unit]
        return [unit * component for component in found]

    def _kept(self, momenta: list[Any]) -> Any | None:
        """Which particles are real; None for all."""
        import awkward as ak

        if self.description.keep is not None:
            kept = self._like(
                self._computed(self.description.keep), momenta[0], self.description.keep
            )
            return ak.from_regular(kept != 0)
        if "var" in str(momenta[0].type):
            return None
        real = momenta[0] != 0
        for component in momenta[1:]:
            real = real | (component != 0)
        return ak.from_regular(real)

    def _computed(self, expression: Expression) -> Any:
        try:
            return expression(self.values)
        except ValueError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _like(self, values: Any, momenta: Any, expression: Expression) -> Any:
        """Values with a number for each particle; those of jets are repeated."""
        import awkward as ak

        try:
            found, _ = ak.broadcast_arrays(values, momenta)
        except ValueError as error:
            raise DataError(
                f"{self.path}: {expression.text!r} has other lengths than the momenta"
            ) from error
        return found

    def _flat(self, array: Any, name: str) -> FloatArray:
        import awkward as ak

        try:
            flat = ak.to_numpy(ak.flatten(array, axis=1), allow_missing=False)
            return np.asarray(flat, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: {name} is {array.type}, where numbers are wanted"
            ) from error

    def _labels(self, count: int) -> IntArray:
        names = tuple(self.description.classes)
        if not names:
            return np.zeros(count, np.int64)
        flags = np.stack([self._belong(name, count) for name in names], axis=1)
        wrong = flags.sum(axis=1) != 1
        if wrong.any():
            jet = int(np.argmax(wrong))
            of = [name for name, flag in zip(names, flags[jet], strict=True) if flag]
            what = f"is of {' and '.join(of)}" if of else "is of no class"
            raise DataError(
                f"{self.path}: jet {jet} {what}; see classes in the description, or leave out such "
                "jets by select or unclassified: drop"
            )
        return flags.argmax(axis=1).astype(np.int64)

    def _belong(self, name: str, count: int) -> npt.NDArray[np.bool_]:
        condition = self.description.classes[name]
        if isinstance(condition, FileName):
            return np.full(count, fnmatch.fnmatch(self.path.name, condition.pattern))
        found = self.per_jet(condition, f"classes.{name}")
        if not np.isin(found, (0, 1)).all():
            jet = int(np.argmin(np.isin(found, (0, 1))))
            raise DataError(
                f"{self.path}: classes.{name}: {condition.text} is {found[jet]} for jet {jet}, "
                "where 0 or 1 is expected"
            )
        return found == 1


def _four_momenta(given: Mapping[str, Any]) -> list[Any]:
    """Components (E, px, py, pz) in float64 from those that are given."""
    import awkward as ak

    given = {name: ak.values_astype(array, np.float64) for name, array in given.items()}
    if "px" in given:
        px, py, pz = (given[name] for name in ("px", "py", "pz"))
    else:
        pt, phi = given["pt"], given["phi"]
        px, py = pt * np.cos(phi), pt * np.sin(phi)
        if "eta" in given:
            pz = pt * np.sinh(given["eta"])
        else:
            transverse = np.hypot(pt, given["mass"])
            return [
                transverse * np.cosh(given["rapidity"]), px, py,
                transverse * np.sinh(given["rapidity"]),
            ]  # fmt: skip
    if "energy" in given:
        return [given["energy"], px, py, pz]
    mass = given.get("mass", 0.0)
    return [np.sqrt(px**2 + py**2 + pz**2 + mass**2), px, py, pz]
