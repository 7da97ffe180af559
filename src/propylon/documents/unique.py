"""Give names of which each is given once. Pure."""

from __future__ import annotations

__all__ = ["Unique"]


class Unique:
    """The names that are given. One that is taken gets a number behind it.

    A service that writes one name ten thousand times must not cost a hundred million comparisons: each name knows how far
    its numbers have got.
    """

    __slots__ = ("_last", "_taken")

    def __init__(self) -> None:
        """Begin with none."""
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def free(self, name: str) -> str:
        """Return the name, or the same with the next free number."""
        if name in self._taken:
            base, number = name, self._last.get(name, 1) + 1
            while (name := f"{base}_{number}") in self._taken:
                number += 1
            self._last[base] = number
        self._taken.add(name)
        return name
