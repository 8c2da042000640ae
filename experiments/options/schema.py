"""Find all problems of a configuration: unknown names, wrong types, numbers out of range.

Allowed options are read from the code that receives them. A part with ``_target_`` is checked
against that callable's signature, annotations and markers. An option that no code receives is
unknown.
"""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from experiments.options import values
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Supplied, did_you_mean
from experiments.options.renamed import former_options
from experiments.options.root import Root
from experiments.options.signatures import Parameters, find, keywords_of, parameters

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_SPECIAL = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
_FEW = 16
_PLACEHOLDER = "<missing>"
_REQUIRED = re.compile(r"\$\{required:(.*)\}", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """An option, and what is wrong with it."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}{self.text}"


def _missing(config: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Full names and descriptions of options without a value.

    These are ``${required:'description'}`` in a configuration, or OmegaConf's ``???``.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _missing(value, f"{place}.{key}" if place else str(key))
    elif config == "???":
        yield place, "there is no default"
    elif isinstance(config, str) and (found := _REQUIRED.fullmatch(config)):
        yield place, found[1].strip("'\"")


class Schema:
    """Check one configuration.

    Parameters
    ----------
    raw
        Configuration with references.
    resolved
        Configuration without references; missing options have a placeholder.
    """

    def __init__(self, raw: dict[str, Any], resolved: dict[str, Any]) -> None:
        self.raw, self.config = raw, resolved
        self.missing = dict(_missing(raw))
        self.read = set(_REFERENCE.findall(str(self.raw)))
        self.leaves = sorted(set(self._leaves(self.config)))
        self.found: dict[str, Problem] = {}

    @classmethod
    def of(cls, config: DictConfig) -> Schema:
        """Make the checker of a composed configuration."""
        raw: Any = OmegaConf.to_container(config, resolve=False)
        complete = OmegaConf.create(raw)
        for name, _ in _missing(raw):
            OmegaConf.update(complete, name, _PLACEHOLDER)
        resolved: Any = OmegaConf.to_container(complete, resolve=True)
        return cls(raw, resolved)

    def problems(self) -> list[Problem]:
        """All problems, one for each option."""
        for name, what in self.missing.items():
            self._add(name, f" must be given: {what}")
        root = parameters(Root)
        for key in root.required - self.config.keys():
            self._add(key, ": is missing from the configuration")
        self._mapping(self.config, "", root.types)
        return list(self.found.values())

    def _leaves(self, value: Any, place: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from self._leaves(inner, f"{place}.{key}" if place else str(key))
        else:
            yield place

    def _given_as(self, place: str) -> str:
        """Follow references from an option to the one that was given."""
        for _ in range(10):
            raw: Any = self.raw
            keys = place.split(".")
            for depth, key in enumerate(keys, start=1):
                raw = raw.get(key) if isinstance(raw, dict) else None
                if isinstance(raw, str) and (reference := _REFERENCE.fullmatch(raw)):
                    place = ".".join([reference[1], *keys[depth:]])
                    break
            else:
                break
        return place

    def _add(self, name: str, text: str) -> None:
        self.found.setdefault(name, Problem(name, text))

    def _wrong(self, place: str, value: Any, text: str) -> None:
        name = self._given_as(place)
        if name not in self.missing:
            self._add(name, f"={_shown(value)}: {text}")

    def _unknown(self, place: str, known: list[str]) -> None:
        above, _, name = place.rpartition(".")
        # Names alone: what stands above them would make all of them similar.
        advice = did_you_mean(name, known, f"{above}." if above else "")
        if not advice:
            namesakes = [leaf for leaf in self.leaves if leaf.rpartition(".")[2] == name]
            others = [leaf for leaf in namesakes if leaf != place]
            few = 0 < len(known) <= _FEW
            advice = f"; did you mean {others[0]}?" if others else ""
            advice = advice or (f"; choose from {', '.join(sorted(known))}" if few else "")
        self._add(place, f": unknown option{advice}")

    def _value(
        self, place: str, value: Any, annotation: Any, supplied: tuple[str, ...] = ()
    ) -> None:
        """Check one value and everything in it."""
        text = values.problem(value, annotation)
        if text is not None:
            self._wrong(place, value, text)
            return
        if isinstance(value, dict) and "_target_" in value:
            self._part(place, value, annotation)
        elif isinstance(value, dict):
            self._group(place, value, annotation)
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                if isinstance(entry, dict) and "_target_" in entry:
                    self._part(f"{place}[{number}]", entry, Any)

    def _group(self, place: str, value: dict[str, Any], annotation: Any) -> None:
        """Check a mapping without ``_target_``."""
        for kind, markers in values.members(annotation):
            further = keywords_of(values.marked(dict, markers))
            if further is not None:
                self._keywords(place, value, *further)
                return
            if kind is AttentionChoice and place != "attention":
                for key in value:
                    self._add(f"{place}.{key}", f": give attention.{key} instead")
                return
            if is_dataclass(kind):
                old = getattr(kind, "_legacy_names", ())
                types = dict(_parameters_of(kind).types)
                self._mapping(value, place, {**types, **dict.fromkeys(old, Any)})
                return
        inner = _inner(annotation)
        for key, entry in value.items():
            self._value(f"{place}.{key}", entry, inner)

    def _keywords(
        self, place: str, value: dict[str, Any], known: Parameters, supplied: tuple[str, ...]
    ) -> None:
        for key, entry in value.items():
            where = f"{place}.{key}"
            if key in supplied:
                self._add(where, ": is set by the run itself; leave it out")
            elif key in known.types:
                self._value(where, entry, known.types[key])
            elif not known.open:
                self._unknown(where, sorted(known.types.keys() - set(supplied)))

    def _mapping(self, value: dict[str, Any], place: str, types: Mapping[str, Any]) -> None:
        for key, entry in value.items():
            where = f"{place}.{key}" if place else str(key)
            if key in types:
                if former := former_options(entry, where):
                    for old, new in former.items():
                        self._add(old, f": give {new} instead")
                else:
                    self._value(where, entry, types[key])
            elif where not in self.read:
                self._unknown(where, list(types))

    def _part(self, place: str, node: dict[str, Any], annotation: Any) -> None:
        """Check the arguments of a callable."""
        name = node["_target_"]
        try:
            target = find(name) if isinstance(name, str) else None
        except ValueError as error:
            self._add(f"{place}._target_", f"={name}: {error}")
            return
        if target is None:
            self._wrong(f"{place}._target_", name, "must be the full name of a class or function")
            return
        supplied, partial, kinds = _wanted(annotation)
        given = node.get("_partial_", False)
        if partial is not None and given is not partial:
            self._wrong(f"{place}._partial_", given, f"must be {str(partial).lower()} here")
        if kinds and isinstance(target, type) and not issubclass(target, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            self._wrong(f"{place}._target_", name, f"must be a kind of {names}")
            return
        known = parameters(target)
        entries = {key: value for key, value in node.items() if key not in _SPECIAL}
        old = getattr(target, "_legacy_names", ())
        self._keywords(place, {k: v for k, v in entries.items() if k not in old}, known, supplied)
        complete = supplied or not given
        if complete and "_args_" not in node:
            for lacking in sorted(known.required - entries.keys() - set(supplied)):
                self._add(f"{place}.{lacking}", f" must be given: {name} needs it")


def _shown(value: Any) -> str:
    text = {True: "true", False: "false", None: "null"}.get(value) if _is_word(value) else None
    text = text or " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _parameters_of(target: Any) -> Parameters:
    return parameters(target)


def _inner(annotation: Any) -> Any:
    """The type of a mapping's values."""
    for kind, _ in values.members(annotation):
        if get_origin(kind) in values.MAPPINGS and len(get_args(kind)) == 2:
            return get_args(kind)[1]
    return Any


def _wanted(annotation: Any) -> tuple[tuple[str, ...], bool | None, tuple[type, ...]]:
    """Keywords that the code supplies; whether the part must be partial; its classes, if known."""
    kinds: list[type] = []
    for kind, markers in values.members(annotation):
        supplied = next((m.names for m in markers if isinstance(m, Supplied)), ())
        if collections.abc.Callable in (kind, get_origin(kind)):
            return supplied, True, ()
        is_class = isinstance(kind, type) and kind not in (*values.PLAIN, Any)
        known = is_class and get_origin(kind) is None
        if supplied or (is_class and not known):
            return supplied, False, (kind,) if known else ()
        if known:
            kinds.append(kind)
    return (), False if kinds else None, tuple(kinds)
