"""What a description says: which fields of a file hold jets, in YAML.

.. code-block:: yaml

    files: {train: train_*.root, val: val_*.root, test: test_*.root}
    tree: tree
    momenta: {pt: part_pt, eta: part_eta, phi: part_phi, mass: part_mass}
    particles: {charge: part_charge, is_photon: abs(part_pid) == 22}
    jets: {mass: jet_sdmass, pt: jet_pt}
    classes: {QCD: label == 0, top: label == 1}
    select: jet_pt > 500

Whatever stands for numbers is an expression (:mod:`data.described.expressions`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data.described.expressions import Expression
from data.errors import DataError

SPLITS = ("train", "val", "test")
MOMENTA = (
    ("energy", "px", "py", "pz"),
    ("mass", "px", "py", "pz"),
    ("pt", "eta", "phi", "mass"),
    ("pt", "eta", "phi", "energy"),
    ("pt", "rapidity", "phi", "mass"),
    ("pt", "eta", "phi"),
)
"""Components that give four-momenta; the last are of massless particles."""
UNITS = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}
SUFFIXES = (".yaml", ".yml")
ALL = ""
"""In place of a split: files that are not given by split."""
_REFUSE, _DROP = "refuse", "drop"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class FileName:
    """A pattern of names of files, whose jets are all of one class."""

    pattern: str


@dataclass(frozen=True)
class EventsOfJets:
    """How jets lie in files with one entry for each event.

    Parameters
    ----------
    jets, particles
        How names of fields begin that hold a number for each jet, and for each particle, of the
        event; all others are of the event.
    pairs
        Fields with the number of a jet, and of a particle in it (NanoAOD); or
    references
        a field with the particles of each jet, and one with what they are called there (Delphes).
    """

    jets: str
    particles: str
    pairs: tuple[str, str] | None = None
    references: tuple[str, str] | None = None

    @property
    def links(self) -> tuple[str, str]:
        """The two fields that say which particles a jet has."""
        links = self.pairs or self.references
        assert links is not None
        return links


@dataclass(frozen=True)
class Description:
    """Which fields hold what.

    Parameters
    ----------
    name
        What such files are called.
    momenta
        Components of the particles' four-momenta by name, one of :data:`MOMENTA`; energies,
        momenta and masses in ``unit``.
    classes
        What is true for jets of each class, by name, in the order of labels: an expression, or a
        pattern of names of files. Empty if jets have no labels.
    kind
        Which kind of file it is, by the name of that in :mod:`data.described.sources`; None is any.
    unit
        One of :data:`UNITS`.
    tree
        Of a ROOT file: the tree; None if there is only one.
    particles, jets
        Further columns, as expressions. A column ``weight`` of jets weights them in trainings.
    optional_jets
        Columns of jets that a file may lack.
    keep
        Which particles are real, of padded arrays, or wanted. Default: those of positive energy.
    select
        Which jets are wanted. Default: all.
    events
        For files with one entry for each event: how jets lie in them.
    unclassified
        What happens to jets of no class: ``refuse`` or ``drop``.
    files
        Patterns of files by split, from the folder of the description; under :data:`ALL`, those of
        which each split is a part.
    shares
        These parts of each file, for training, validation and test, in this order.
    """

    momenta: Mapping[str, Expression]
    name: str = "files of a description"
    classes: Mapping[str, Expression | FileName] = field(default_factory=dict)
    kind: str | None = None
    unit: str = "GeV"
    tree: str | None = None
    particles: Mapping[str, Expression] = field(default_factory=dict)
    jets: Mapping[str, Expression] = field(default_factory=dict)
    optional_jets: Mapping[str, Expression] = field(default_factory=dict)
    keep: Expression | None = None
    select: Expression | None = None
    events: EventsOfJets | None = None
    unclassified: str = _REFUSE
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: tuple[float, float, float] | None = None

    @property
    def drops_unclassified(self) -> bool:
        """Whether jets of no class are left out."""
        return self.unclassified == _DROP

    def of(self, fields: Collection[str]) -> Description:
        """The description for a file with these fields: columns that may be missing are settled."""
        there = {
            name: expression
            for name, expression in self.optional_jets.items()
            if set(expression.fields) <= set(fields)
        }
        return replace(self, jets={**self.jets, **there}, optional_jets={})

    def fields(self, labelled: bool = True) -> tuple[str, ...]:
        """Names of all fields that jets are made of."""
        return tuple(
            dict.fromkeys(
                name for expression in self._expressions(labelled) for name in expression.fields
            )
        )

    @property
    def fields_of_selection(self) -> tuple[str, ...]:
        """Names of the fields that decide which jets are wanted."""
        wanted = [] if self.select is None else [self.select]
        if self.drops_unclassified:
            wanted += [x for x in self.classes.values() if isinstance(x, Expression)]
        return tuple(dict.fromkeys(name for expression in wanted for name in expression.fields))

    def _expressions(self, labelled: bool) -> Iterator[Expression]:
        yield from self.momenta.values()
        yield from self.particles.values()
        yield from self.jets.values()
        yield from (x for x in (self.keep, self.select) if x is not None)
        if labelled:
            yield from (x for x in self.classes.values() if isinstance(x, Expression))


def read_description(path: Path) -> Description:
    """Read and check a description.

    Raises
    ------
    DataError
        If it is none; the message names the key.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is no description; it has more than a megabyte")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no YAML ({reason})") from error
    try:
        return described(content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def described(content: Any) -> Description:
    """A description of what a YAML file holds.

    Raises
    ------
    ValueError
        If it is none.
    """
    values = _mapping(content, "a description", Description.__dataclass_fields__)
    if "momenta" not in values:
        raise ValueError("momenta: is missing; name the components of four-momenta")
    found: dict[str, Any] = {"momenta": _momenta(values["momenta"])}
    for name in ("particles", "jets", "optional_jets"):
        columns = _mapping(values.get(name, {}), name)
        found[name] = {c: _expression(text, f"{name}.{c}") for c, text in columns.items()}
    for name in ("keep", "select"):
        if values.get(name) is not None:
            found[name] = _expression(values[name], name)
    classes = _mapping(values.get("classes", {}), "classes")
    found["classes"] = {name: _class(x, f"classes.{name}") for name, x in classes.items()}
    if len(classes) == 1:
        raise ValueError("classes: has one; two or more are wanted, or none without labels")
    found["unit"] = _one_of(values.get("unit", "GeV"), "unit", tuple(UNITS))
    unclassified = values.get("unclassified", _REFUSE)
    found["unclassified"] = _one_of(unclassified, "unclassified", (_REFUSE, _DROP))
    for name in ("tree", "name", "kind"):
        if values.get(name) is not None:
            found[name] = _text(values[name], name)
    files = values.get("files", {})
    if not isinstance(files, dict):
        files = {ALL: files}
    elif missing := [split for split in SPLITS if files and split not in files]:
        raise ValueError(f"files: lacks {', '.join(missing)}; or give a list, of which shares are")
    _mapping(files, "files", (*SPLITS, ALL))
    found["files"] = {split: _patterns(x, f"files.{split}") for split, x in files.items()}
    if values.get("events") is not None:
        found["events"] = _events(values["events"])
    if values.get("shares") is not None:
        found["shares"] = _shares(values["shares"])
        if ALL not in files and files:
            raise ValueError("shares: of files that are given by split already; leave it out")
    return Description(**found)


def _mapping(value: Any, name: str, known: Any = None) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}: must be names with values, not {value!r:.100}")
    if known is not None and (unknown := [key for key in value if key not in known]):
        raise ValueError(f"{name}: has no {', '.join(unknown)}; there are {', '.join(known)}")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: must be text, not {value!r:.100}")
    return value


def _expression(value: Any, name: str) -> Expression:
    if isinstance(value, (int, float)):
        value = str(float(value))
    try:
        return Expression(_text(value, name))
    except ValueError as error:
        raise ValueError(
            str(error) if str(error).startswith(name) else f"{name}: {error}"
        ) from None


def _class(value: Any, name: str) -> Expression | FileName:
    if isinstance(value, dict):
        _mapping(value, name, ("file",))
        return FileName(_text(value.get("file"), f"{name}.file"))
    return _expression(value, name)


def _momenta(value: Any) -> dict[str, Expression]:
    given = _mapping(value, "momenta")
    if set(given) not in map(set, MOMENTA):
        known = "; ".join(", ".join(names) for names in MOMENTA)
        raise ValueError(f"momenta: has {', '.join(given) or 'nothing'}; give one of: {known}")
    return {name: _expression(text, f"momenta.{name}") for name, text in given.items()}


def _events(value: Any) -> EventsOfJets:
    given = _mapping(value, "events", EventsOfJets.__dataclass_fields__)
    links = [name for name in ("pairs", "references") if given.get(name) is not None]
    if len(links) != 1:
        raise ValueError("events: needs pairs or references, two fields each")
    (kind,) = links
    fields = given[kind]
    if not isinstance(fields, list) or len(fields) != 2:
        raise ValueError(f"events.{kind}: must be a list of two fields, not {fields!r:.100}")
    pair = tuple(_text(name, f"events.{kind}") for name in fields)
    ends = {name: _text(given.get(name), f"events.{name}") for name in ("jets", "particles")}
    return EventsOfJets(**ends, **{kind: pair})  # type: ignore[arg-type]


def _one_of(value: Any, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name}: must be one of {', '.join(known)}, not {value!r:.100}")
    return str(value)


def _patterns(value: Any, name: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{name}: is empty")
    return tuple(_text(pattern, name) for pattern in values)


def _shares(value: Any) -> tuple[float, float, float]:
    numbers = isinstance(value, list) and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x < 1 for x in value
    )
    if not numbers or len(value) != len(SPLITS) or sum(value) > 1 + 1e-6:
        raise ValueError(
            f"shares: must be three numbers, of training, validation and test, whose sum is 1 or "
            f"less, not {value!r:.100}"
        )
    return float(value[0]), float(value[1]), float(value[2])
