"""Parse overrides of the command line: syntax, groups, and sweeps.

Hydra takes ``name=value`` for options in a YAML file and ``+name=value`` for others. Here the
parameters of the code decide which options exist (:mod:`experiments.options.schema`), so both are
passed to Hydra as ``++name=value``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    OverrideType,
    RangeSweep,
)
from hydra.errors import HydraException

from experiments.errors import UserError
from experiments.options.markers import did_you_mean

_MANY = 50
_LONG_LIST = 20


@dataclass(frozen=True)
class Given:
    """A parsed override.

    Parameters
    ----------
    text
        The override as passed to Hydra.
    name
        Full name of an option or a group.
    values
        Values as written; more than one for a sweep.
    is_group
        Whether it selects a file of a group.
    """

    text: str
    name: str
    values: tuple[str, ...]
    is_group: bool

    def single(self, value: str) -> str:
        """The override with a single value."""
        return f"{self.text.partition('=')[0]}={value}" if self.values else self.text


def _parsed(text: str) -> Override:
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons = [x for x in lines if not x.startswith(("Error parsing", "See "))]
        name = text.partition("=")[0]
        raise UserError(
            f"{text}: cannot be read ({'; '.join(reasons) or 'bad syntax'}); values with special "
            f"characters need quotes of their own: '{name}=\"...\"'"
        ) from error
    if not override.key_or_group:
        raise UserError(f"{text}: cannot be read; options are written NAME=VALUE")
    return override


def _values(override: Override) -> tuple[str, ...]:
    """Values of an override; the first ones if there are many."""
    if override.type is OverrideType.DEL:
        return ()
    value: Any = override._value
    if isinstance(value, ChoiceSweep):
        return tuple(Override._get_value_element_as_str(v) for v in value.list[:_MANY])
    if isinstance(value, RangeSweep):
        return tuple(str(v) for v in itertools.islice(value.range(), _MANY))
    if isinstance(value, IntervalSweep):
        return (str(value.start), str(value.end))
    return (override.get_value_element_as_str(),)


def read(text: str, groups: Mapping[str, Sequence[str]], options: Sequence[str]) -> Given:
    """Parse an override, and check its group or option.

    Parameters
    ----------
    text
        Override as written by the user.
    groups
        Choices by group.
    options
        Top-level names of the configuration.

    Raises
    ------
    UserError
        If the syntax is wrong, or there is no such group, choice, or option.
    """
    if "=" not in text and not text.startswith("~"):
        found = [f"{g}={text}" for g, choices in groups.items() if text in choices]
        advice = f"; did you mean {found[0]}?" if found else ""
        raise UserError(f"{text}: options are written NAME=VALUE{advice}")
    override = _parsed(text)
    name = override.key_or_group
    is_group = name in groups and override.type is not OverrideType.DEL
    # A group may stand in another place, too: model@model.tagger is not model.
    place = name if override.package is None else f"{name}@{override.package}"
    values = _values(override)
    if is_group:
        for choice in values:
            known = groups[name]
            if choice not in known and not choice.startswith("glob("):
                meant = did_you_mean(choice, known)
                # Long lists hide the answer.
                listed = (
                    "" if meant and len(known) > _LONG_LIST else f"; choose from {', '.join(known)}"
                )
                raise UserError(f"{place}={choice}: unknown{listed}{meant}")
        return Given(text, place, values, override.package is None)
    first = name.partition(".")[0].partition("/")[0]
    if first not in (*groups, *options, "hydra"):
        leaf = did_you_mean(name, [*groups, *options])
        raise UserError(f"{name}: unknown option{leaf}")
    ours = first != "hydra" and override.package is None
    if ours and override.type in (OverrideType.CHANGE, OverrideType.ADD):
        text = f"++{text.lstrip('+')}"
    return Given(text, place, values, False)


def check_repeated(given: Sequence[Given]) -> None:
    """Refuse two different values of one option."""
    seen: dict[str, Given] = {}
    for override in given:
        before = seen.setdefault(override.name, override)
        if before.values != override.values:
            values = " and ".join(",".join(o.values) or "nothing" for o in (before, override))
            raise UserError(f"{override.name} is given twice, as {values}; give it once")


def check_sweeps(given: Sequence[Given]) -> None:
    """Refuse several values of an option without a search or ``--multirun``."""
    for override in given:
        if len(override.values) > 1:
            values = ",".join(override.values)
            raise UserError(
                f"{override.name}={values}: several values need --multirun; "
                f"a list is written [{values}]"
            )


def single_runs(given: Sequence[Given]) -> list[list[str]]:
    """Overrides of single runs that contain each value of each sweep once."""
    first = [o.single(o.values[0]) if len(o.values) > 1 else o.text for o in given]
    runs = [first]
    for number, override in enumerate(given):
        for value in override.values[1:]:
            runs.append([*first[:number], override.single(value), *first[number + 1 :]])
    return runs
