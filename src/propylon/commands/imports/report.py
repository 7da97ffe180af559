"""Say line by line what became of a foreign configuration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["At", "Finding", "Place", "Report", "Verdict"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        """Return e.g. `kong.yml:12`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class At:
    """Something that a file says: its place, and its name in the words of its format."""

    place: Place
    what: str

    def within(self, name: str, line: int | None = None) -> At:
        """Return something inside it, on the same line if no other is given."""
        place = self.place if line is None else Place(self.place.file, line)
        return At(place, f"{self.what}.{name}" if self.what else name)


class Verdict(StrEnum):
    """What became of it."""

    TRANSLATED = "translated"
    DIFFERENT = "different"
    MISSING = "not translated"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one thing that a file says.

    `text` says where it went, what the difference is, or why it is not translated. `todo` says what the operator can do.
    `closed` is the path of the route that is written closed for it.
    """

    at: At
    verdict: Verdict
    text: str
    todo: str = ""
    closed: str = ""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        todo = f" To do: {self.todo}." if self.todo else ""
        closed = f" The route {self.closed} is written closed." if self.closed else ""
        end = "" if self.verdict is Verdict.TRANSLATED else "."
        return (
            f"{self.at.place}  {self.verdict.value}  {self.at.what}: {self.text}{end}{closed}{todo}"
        )

    def as_data(self) -> dict[str, object]:
        """Return the same, for JSON."""
        return {
            "file": self.at.place.file,
            "line": self.at.place.line,
            "what": self.at.what,
            "verdict": self.verdict.value,
            "text": self.text,
            "todo": self.todo,
            "closed": self.closed,
        }


@dataclass(slots=True)
class Report:
    """All findings."""

    _findings: dict[Finding, None] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Add a finding, once."""
        self._findings[finding] = None

    @property
    def findings(self) -> list[Finding]:
        """The findings in the order in which they were made."""
        return list(self._findings)

    @property
    def ordered(self) -> list[Finding]:
        """The findings in the order of the files."""
        return sorted(self.findings, key=lambda finding: finding.at.place)

    @property
    def status(self) -> int:
        """The exit status: 1 if anything is not translated, else 0."""
        return int(any(finding.verdict is Verdict.MISSING for finding in self.findings))

    @property
    def summary(self) -> str:
        """One line with the sums."""
        count = Counter(finding.verdict for finding in self.findings)
        closed = {finding.closed for finding in self.findings if finding.closed}
        text = (
            f"{count[Verdict.TRANSLATED]} translated, {count[Verdict.DIFFERENT]} with a difference,"
            f" {count[Verdict.MISSING]} not translated"
        )
        return f"{text}; closed: {', '.join(sorted(closed))}" if closed else text

    def __str__(self) -> str:
        """Return the report as lines, the sums last."""
        return "".join(f"{line}\n" for line in (*self.ordered, self.summary))

    def as_data(self) -> dict[str, object]:
        """Return the report for JSON."""
        return {
            "status": self.status,
            "summary": self.summary,
            "findings": [finding.as_data() for finding in self.ordered],
        }
