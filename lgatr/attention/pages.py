"""Which pages of a cache are free, and how many sequences share each of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class SequencePages:
    """The pages of one sequence in order, and how many tokens are in them."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class Pages:
    """Counts the users of pages with numbers from 0 on.

    Parameters
    ----------
    count
        How many pages there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.users: Counter[int] = Counter()
        # Pages from _untouched on were never taken; those that were given back are taken first.
        self._returned: list[int] = []
        self._untouched = 0

    @property
    def free(self) -> int:
        """Number of pages that nobody uses."""
        return len(self._returned) + self.count - self._untouched

    def take(self) -> int:
        """A free page, now with one user."""
        if self._returned:
            page = self._returned.pop()
        else:
            page, self._untouched = self._untouched, self._untouched + 1
        self.users[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more user."""
        self.users[page] += 1

    def release(self, page: int) -> None:
        """One user less; the last one leaves the page free."""
        self.users[page] -= 1
        if not self.users[page]:
            self._returned.append(page)
