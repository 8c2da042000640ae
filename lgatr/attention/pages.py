"""Reference counts of the pages of a cache."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class SequencePages:
    """Pages of a sequence in order, and the number of its tokens."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class Pages:
    """Reference counts of pages, numbered from 0.

    Parameters
    ----------
    count
        How many pages there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.users: Counter[int] = Counter()
        # Returned pages are reused before those from _untouched on, which were never allocated.
        self._returned: list[int] = []
        self._untouched = 0

    @property
    def free(self) -> int:
        """Number of unused pages."""
        return len(self._returned) + self.count - self._untouched

    def take(self) -> int:
        """Allocate a page, with one user."""
        if self._returned:
            page = self._returned.pop()
        else:
            page, self._untouched = self._untouched, self._untouched + 1
        self.users[page] = 1
        return page

    def share(self, page: int) -> None:
        """Add a user."""
        self.users[page] += 1

    def release(self, page: int) -> None:
        """Remove a user; a page without users is free again."""
        self.users[page] -= 1
        if not self.users[page]:
            self._returned.append(page)
