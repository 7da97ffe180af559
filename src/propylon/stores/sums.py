"""Keep sums in this process: rows of numbers, each under its labels."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LocalSums"]


class LocalSums:
    """The sums of one worker."""

    def __init__(self) -> None:
        """Start with no rows."""
        self._rows: dict[tuple[str, ...], list[float]] = {}

    def row(self, labels: tuple[str, ...], width: int) -> list[float]:
        """Return the row of these labels, the same one each time; it starts with zeros."""
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = [0.0] * width
        return row

    def rows(self) -> Iterable[tuple[tuple[str, ...], list[float]]]:
        """Return all rows with their labels."""
        return list(self._rows.items())

    def each(self) -> Iterable[tuple[tuple[str, ...], list[float]]]:
        """Return the rows of all workers, one after the other: those of this one."""
        return self.rows()

    def own(self) -> Iterable[tuple[tuple[str, ...], list[float]]]:
        """Return the rows of this worker: all."""
        return self.rows()
