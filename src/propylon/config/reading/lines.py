"""Know the line of each value. Lines that the parser did not note are counted when they are asked for. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Lines", "Path"]

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value: `("routes", 2, "service")`."""


class Lines(Mapping[Path, int]):
    """The line of each value, counted from 1, in the order of the text.

    Only problems and warnings ask for them, and a file seldom has any. To note the lines of what was read without the
    parser would take longer than to read it. So they are counted when the first of them is asked for.
    """

    def __init__(
        self,
        known: Mapping[Path, int] | None = None,
        hidden: tuple[range, ...] | None = (),
        count: Callable[[], Mapping[Path, int]] = dict,
    ) -> None:
        """Begin with the lines that are known.

        Of the routes whose numbers are `hidden` only the first line is known; if `hidden` is None, no line is known.
        `count` counts all lines.
        """
        self._known = {} if known is None else known
        self._hidden = hidden
        self._count = count

    def near(self, paths: Iterable[Path]) -> Mapping[Path, int]:
        """Return lines that say of these paths, and of their order, what all the lines would say."""
        if self._hidden is None or any(map(self._hides, paths)):
            return self._all()
        return self._known

    def _hides(self, path: Path) -> bool:
        if len(path) < 3 or path[0] != "routes":
            return False
        return any(path[1] in run for run in self._hidden or ())

    def __getitem__(self, path: Path) -> int:
        """Return the line of the value at a path."""
        return self.near([path])[path]

    def __iter__(self) -> Iterator[Path]:
        """Go through the paths in the order of the text."""
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> Mapping[Path, int]:
        if self._hidden != ():
            self._known, self._hidden = self._count(), ()
        return self._known
