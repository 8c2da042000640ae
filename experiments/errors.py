"""Errors that are shown to users in one line."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can correct; the message is one line."""


class OptionErrors(UserError):
    """Several options are wrong.

    Parameters
    ----------
    problems
        One line for each option.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
