"""Say what the stages of the data plane count in: a row of numbers of a metric."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Counts"]


class Counts(Protocol):
    """Numbers that are added to in place; each worker adds to its own, and `/metrics` shows the sum of all."""

    def __getitem__(self, at: int, /) -> float:
        """Return one of them."""

    def __setitem__(self, at: int, value: float, /) -> None:
        """Set one of them."""
