"""The error a user sees when a run cannot go on."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something in the command or its surroundings is wrong; the message is one line."""


class OptionErrors(UserError):
    """Several options are wrong.

    Parameters
    ----------
    problems
        A line for each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
