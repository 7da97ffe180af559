"""Define problems of a configuration: what is wrong, and where. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from propylon.config.reading.lines import Lines, Path

__all__ = ["ConfigError", "Doubt", "Finding", "Path", "Places", "Problem", "dotted"]

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
class Places:
    """Where each value comes from: a line of the file, an environment variable, the command line."""

    file: str = ""
    lines: Lines = field(default_factory=Lines)
    others: Mapping[Path, str] = field(default_factory=dict)

    def of(self, path: Path) -> str:
        """Return the place of the value at a path, or of the nearest value above it."""
        for end in range(len(path), -1, -1):
            if (other := self.others.get(path[:end])) is not None:
                return other
            if (line := self.lines.get(path[:end])) is not None:
                return f"{self.file}:{line}"
        return self.file

    def written(self, path: Path) -> str | None:
        """Return the place of the value at this very path; None if it was not written there."""
        if (other := self.others.get(path)) is not None:
            return other
        line = self.lines.get(path)
        return None if line is None else f"{self.file}:{line}"

    def problem(self, path: Path, message: str, rule: str = "") -> Problem:
        """Return the problem for a message about the value at a path."""
        return Problem(self.of(path), dotted(path), message, rule)

    def ordered(self, found: Iterable[Finding | Doubt]) -> tuple[Problem, ...]:
        """Return the findings as problems in the order of the file; those from elsewhere come last."""
        found = list(found)
        lines = self.lines.near(path for path, *_ in found)
        ranks = {path: rank for rank, path in enumerate(lines)}
        ranked = sorted(found, key=lambda item: self._rank(item[0], ranks))
        return tuple(dict.fromkeys(self.problem(*one) for one in ranked))

    def _rank(self, path: Path, ranks: Mapping[Path, int]) -> tuple[int, int]:
        for end in range(len(path), -1, -1):
            if path[:end] in self.others:
                return (len(ranks), 0)
            if (rank := ranks.get(path[:end])) is not None:
                # A parent's line is noted before its children's, so the rank is the order of the file.
                return (rank, end)
        return (len(ranks), 1)


def dotted(path: Path) -> str:
    """Return a path in the notation of the documentation: `routes[2].service`."""
    parts = (part for part in path if part != "")
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")
