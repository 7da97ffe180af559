"""Define problems of a configuration: what is wrong, and where. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from propylon.config.reading.lines import Lines, Path

__all__ = ["ConfigError", "Doubt", "Finding", "Part", "Path", "Places", "Problem", "dotted"]

Finding = tuple[Path, str]
"""A path, and a sentence about the value there."""
Doubt = tuple[Path, str, str]
"""The same, and the id of the rule that says so, as in `rules`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its place, the key that it is about, and what to write instead.

    `rule` is the id of the rule that says so. Only doubts have one: a configuration with a problem cannot be used at all.
    """

    place: str
    where: str
    message: str
    rule: str = ""

    def __str__(self) -> str:
        """Return e.g. `propylon.yaml:14 routes[2].service: no service "oders"; did you mean "orders"?`."""
        subject = " ".join(part for part in (self.place, self.where) if part)
        return f"{subject}: {self.message}" if subject else self.message


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds every problem, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep all problems: an operator fixes them in one go."""
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Return one problem a line."""
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True, slots=True)
class Part:
    """A file that `include` names: its lines, and which values of the whole stand in it.

    Its routes are `count` of all routes, from `first` on. `keys` has, for the path of each other value in the whole, the
    path in the file.
    """

    file: str
    lines: Lines
    first: int = 0
    count: int = 0
    keys: dict[Path, Path] = field(default_factory=dict)

    def own(self, path: Path) -> Path | None:
        """Return where a value of the whole stands in the file; None: it is from another one."""
        if path[:1] == ("routes",) and len(path) > 1 and isinstance(path[1], int):
            at = path[1] - self.first
            return ("routes", at, *path[2:]) if 0 <= at < self.count else None
        for end in range(len(path), 0, -1):
            if (key := self.keys.get(path[:end])) is not None:
                return (*key, *path[end:])
        return None


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value comes from: a line of the file or of one that it includes, an environment variable, the command line."""

    file: str = ""
    lines: Lines = field(default_factory=Lines)
    others: Mapping[Path, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def of(self, path: Path) -> str:
        """Return the place of the value at a path, or of the nearest value above it."""
        for end in range(len(path), -1, -1):
            if (place := self.written(path[:end])) is not None:
                return place
        return self.file

    def written(self, path: Path) -> str | None:
        """Return the place of the value at this very path; None if it was not written there."""
        if (other := self.others.get(path)) is not None:
            return other
        at, own = self._source(path)
        line = self._lines[at].get(own)
        return None if line is None else f"{self._files[at]}:{line}"

    def named(self, path: Path, name: str) -> str:
        """Return what a sentence about another value calls this one: `routes[2] "orders" (line 12)`.

        With several files the place has the file, and the number is that of the route in it.
        """
        at, own = self._source(path)
        line = self._lines[at].get(own)
        place = f"{self._files[at]}:{line}" if self.parts else f"line {line}"
        return f'{dotted(own)} "{name}"' + (f" ({place})" if line else "")

    def problem(self, path: Path, message: str, rule: str = "") -> Problem:
        """Return the problem for a message about the value at a path."""
        return Problem(self.of(path), dotted(self._source(path)[1]), message, rule)

    def ordered(self, found: Iterable[Finding | Doubt]) -> tuple[Problem, ...]:
        """Return the findings as problems in the order of the files; those from elsewhere come last."""
        found = list(found)
        sought: list[list[Path]] = [[] for _ in self._files]
        for path, *_ in found:
            at, own = self._source(path)
            sought[at].append(own)
        ranks = [
            {path: rank for rank, path in enumerate(lines.near(paths))}
            for lines, paths in zip(self._lines, sought, strict=True)
        ]
        ranked = sorted(found, key=lambda item: self._rank(item[0], ranks))
        return tuple(dict.fromkeys(self.problem(*one) for one in ranked))

    def counted(self) -> int:
        """Count the lines of all values in all files, so that no later question has to; return how many there are."""
        return sum(map(len, self._lines))

    def without_directory(self) -> "Places":
        """Return the same with short names: the directory is nobody's business, and long."""
        folder = PurePath(self.file).parent
        parts = tuple(
            replace(part, file=_below(folder, PurePath(part.file))) for part in self.parts
        )
        return replace(self, file=PurePath(self.file).name, parts=parts)

    @property
    def _files(self) -> tuple[str, ...]:
        return (self.file, *(part.file for part in self.parts))

    @property
    def _lines(self) -> tuple[Lines, ...]:
        return (self.lines, *(part.lines for part in self.parts))

    def _source(self, path: Path) -> tuple[int, Path]:
        """Return the number of the file in which a value stands, from 0, and where it stands there."""
        for at, part in enumerate(self.parts):
            if (own := part.own(path)) is not None:
                return at + 1, own
        return 0, path

    def _rank(self, path: Path, ranks: list[dict[Path, int]]) -> tuple[int, int, int]:
        for end in range(len(path), -1, -1):
            if path[:end] in self.others:
                return (len(ranks), 0, 0)
            at, own = self._source(path[:end])
            if (rank := ranks[at].get(own)) is not None:
                # A parent's line is noted before its children's, so the rank is the order of the file.
                return (at, rank, end)
        return (len(ranks), 0, 1)


def _below(folder: PurePath, file: PurePath) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name


def dotted(path: Path) -> str:
    """Return a path in the notation of the documentation: `routes[2].service`."""
    parts = (part for part in path if part != "")
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")
