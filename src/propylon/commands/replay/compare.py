"""Decide about each request of a log by two configurations, group what differs, and hold it against what is expected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from propylon.commands.replay.judge import KINDS, Decision, Judge, Said
from propylon.commands.replay.log import Log, Logged
from propylon.config.models.spelling import did_you_mean

__all__ = ["BadExpectation", "Comparison", "Expectation", "Group", "compare", "expectations"]


class BadExpectation(ValueError):
    """An expectation of a kind that there is none of."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A change that is meant: `KIND`, or `KIND:NEW`, where NEW may end with `*`."""

    kind: str
    new: str | None

    @classmethod
    def of(cls, text: str) -> Expectation:
        """Read one. Raises BadExpectation."""
        kind, mark, new = (part.strip() for part in text.partition(":"))
        if kind not in KINDS:
            msg = f'there is no kind of decision "{kind}"{did_you_mean(kind, KINDS)}; write one of {", ".join(KINDS[:8])}, or a key of a route'
            raise BadExpectation(msg)
        return cls(kind, new if mark else None)

    def covers(self, kind: str, new: str) -> bool:
        """Tell whether a change is meant."""
        if kind != self.kind:
            return False
        if self.new is None or self.new == new:
            return True
        return self.new.endswith("*") and new.startswith(self.new[:-1])

    def __str__(self) -> str:
        return self.kind if self.new is None else f"{self.kind}:{self.new}"


def expectations(lines: Iterable[str]) -> list[Expectation]:
    """Read expectations, one a line; what follows a `#` at the beginning of a line or behind a blank is a remark. Raises BadExpectation."""
    plain = [line.partition(" #")[0].strip() for line in lines]
    return [Expectation.of(line) for line in plain if line and not line.startswith("#")]


@dataclass(slots=True)
class Group:
    """The same change of many requests, with the first of them."""

    kind: str
    before: str
    after: str
    example: Logged
    shown: tuple[str, str]  # the example's own values
    count: int = 0
    expected: Expectation | None = None


@dataclass(slots=True)
class Comparison:
    """What differs: `changed` of `requests` have at least one change."""

    requests: int = 0
    changed: int = 0
    groups: list[Group] = field(default_factory=list)
    unused: list[Expectation] = field(default_factory=list)
    # Requests of which the log names another route than the configuration that they are compared with.
    elsewhere: int = 0
    example_elsewhere: str = ""

    @property
    def unexpected(self) -> list[Group]:
        """The changes that nobody has called meant."""
        return [group for group in self.groups if group.expected is None]


async def compare(
    log: Log, current: Judge, candidate: Judge, expected: Iterable[Expectation]
) -> Comparison:
    """Return what the candidate decides otherwise."""
    expected = list(expected)
    found: dict[tuple[str, str, str], Group] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    result = Comparison()
    for logged in log.requests:
        before = await current.decide(logged.sample)
        after = await candidate.decide(logged.sample)
        result.requests += 1
        _note_elsewhere(result, logged, before)
        changes = _changes(before, after)
        result.changed += bool(changes)
        for key, shown in changes.items():
            if key not in found:
                found[key] = Group(*key, logged, shown)
            counts[key] += 1
    for key, group in found.items():
        group.count = counts[key]
        group.expected = next(
            (one for one in expected if one.covers(group.kind, group.after)), None
        )
    result.groups = sorted(found.values(), key=lambda one: (KINDS.index(one.kind), -one.count))
    used = {group.expected for group in result.groups}
    result.unused = [one for one in expected if one not in used]
    return result


def _note_elsewhere(result: Comparison, logged: Logged, before: Decision) -> None:
    if logged.route is not None and (logged.route or "none") != before["route"].label:
        result.elsewhere += 1
        result.example_elsewhere = (
            result.example_elsewhere
            or f"{logged.place}: {logged.route or 'no route'} then, {before['route'].label} now"
        )


def _changes(before: Decision, after: Decision) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return the changes, each with the values of this request; kinds that only one of the two has are no change."""
    found = {}
    for kind in before.keys() & after.keys():
        old, new = before[kind], after[kind]
        if old.value == new.value:
            continue
        if kind == "headers":
            found[kind, "", _headers(old, new)] = ("", "")
            continue
        label = new.label if new.label != old.label else f"{new.label} (another value)"
        found[kind, old.label, label] = (str(old.value), str(new.value))
    return found


def _headers(old: Said, new: Said) -> str:
    """Say which headers of the service's request are other ones; their values may be secret."""
    before, after = _by_name(old.value), _by_name(new.value)
    words = (
        ("adds", sorted(after.keys() - before.keys())),
        ("drops", sorted(before.keys() - after.keys())),
        (
            "changes",
            sorted(one for one in before.keys() & after.keys() if before[one] != after[one]),
        ),
    )
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in words if names)


def _by_name(lines: object) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for name, value in lines if isinstance(lines, tuple) else ():
        found.setdefault(name.decode("ascii"), []).append(value)
    return found
