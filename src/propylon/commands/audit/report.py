"""Write a report as text for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from hashlib import sha256

from propylon.commands.audit.audit import LEVELS, Report, rule_of
from propylon.config.reading.problems import Problem
from propylon.telemetry.selection import printable

__all__ = ["as_data", "as_text", "fingerprints"]


def as_text(report: Report) -> str:
    """Return one line for each finding, and how to mend it below; then what was not observed, and a summary."""
    lines: list[str] = []
    for level in LEVELS:
        for problem in report.found:
            rule = rule_of(problem)
            if rule.level == level:
                lines.append(f"{level} {rule.id}: {printable(str(problem))}")
                lines.append(f"  why: {rule.why}")
                lines.append(f"  mend: {rule.mend}")
    rules: dict[str, list[str]] = {}
    for one in report.unseen:
        rules.setdefault(one.why, []).append(one.rule)
    lines += [f"not observed {', '.join(ids)}: {printable(why)}" for why, ids in rules.items()]
    return "".join(f"{line}\n" for line in (*lines, _summary(report)))


def _summary(report: Report) -> str:
    levels = Counter(rule_of(problem).level for problem in report.found)
    counts = [f"{levels[level]} {level}{'s' * (levels[level] != 1)}" for level in LEVELS]
    source = printable(report.file) or "the environment"
    seen = f"; observed: {printable(report.observed)}" if report.observed else ""
    return f"{source}: {', '.join(counts)}{seen}"


def as_data(report: Report) -> dict[str, object]:
    """Return all of it for JSON."""
    found = [
        {
            **asdict(problem),
            "name": rule_of(problem).name,
            "level": rule_of(problem).level,
            "why": rule_of(problem).why,
            "mend": rule_of(problem).mend,
            "fingerprint": fingerprint,
        }
        for problem, fingerprint in zip(report.found, fingerprints(report), strict=True)
    ]
    unseen = [asdict(one) for one in report.unseen]
    return {"findings": found, "not_observed": unseen, "observed": report.observed}


def fingerprints(report: Report) -> list[str]:
    """Return a name for each finding that stays when lines move, other routes come, or numbers of traffic change."""
    seen: Counter[str] = Counter()
    names = []
    for problem in report.found:
        what = f"{problem.rule} {_lasting(problem, report.routes)}"
        seen[what] += 1
        names.append(sha256(f"{what} {seen[what]}".encode("utf-8", "replace")).hexdigest()[:32])
    return names


def _lasting(problem: Problem, routes: tuple[str, ...]) -> str:
    """Return where a finding is, with the name of the route in place of its number."""
    where = problem.where or problem.place.partition(":")[0]
    head, bracket, rest = where.partition("routes[")
    number, closing, tail = rest.partition("]")
    if head or not bracket or not closing or not number.isdigit() or int(number) >= len(routes):
        return where
    return f"routes {routes[int(number)]}{tail}"
