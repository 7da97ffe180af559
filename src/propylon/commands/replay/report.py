"""Put a comparison into words, or into data for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from propylon.commands.replay.compare import Comparison, Group
from propylon.commands.replay.log import Log
from propylon.config.models.schema import GatewayConfig
from propylon.explain.words import without_secrets

__all__ = ["as_data", "as_text", "notes"]

_ALWAYS = (
    "A log has no tokens and no passwords: auth is compared as a rule, and nobody is refused by it.",
    "Limits and caches are compared as rules: what was counted or stored then is not known.",
)


def notes(log: Log, found: Comparison, configs: tuple[GatewayConfig, ...]) -> list[str]:
    """Say what the log could not tell, and what was passed over."""
    said = [*_ALWAYS, *_lacking(log, configs)]
    if log.unread:
        said.append(
            f"What is no request was passed over: {log.unread}, the first at {log.first_unread}."
        )
    if log.left_out:
        said.append(f"{log.left_out} requests to other hosts were left out.")
    if found.elsewhere:
        said.append(
            f"{found.elsewhere} requests had another route than the current file gives them ({found.example_elsewhere}): the log is of"
            " another configuration, or they were chosen by what the log does not have."
        )
    said += [f"Expected, and nothing changed so: {one}" for one in found.unused]
    return said


def _lacking(log: Log, configs: tuple[GatewayConfig, ...]) -> Iterator[str]:
    facts = log.facts
    routes = [route for config in configs for route in config.routes]
    if not facts.headers and any(one.match.headers or one.match.cookies for one in routes):
        yield "The log has no headers: routes that are chosen by a header or a cookie are judged as if it was not sent."
    if not facts.query and any(one.match.query for one in routes):
        yield "The log has no query: routes that are chosen by a parameter are judged as if it was not sent."
    if not facts.host and any(one.hosts for one in routes):
        yield "The log has no Host: routes with hosts are judged for localhost; name one with --host."


def as_text(log: Log, found: Comparison, said: list[str]) -> str:
    """Return the report for people."""
    lines = [
        f"{_requests(found.requests)} of {log.facts.format}; {found.changed} of them decided otherwise"
    ]
    for group in found.groups:
        lines += ["", *_group(group)]
    lines += ["", *(f"note: {one}" for one in said)]
    unexpected = len(found.unexpected)
    if unexpected:
        lines += ["", f"{unexpected} unexpected {'change' if unexpected == 1 else 'changes'}"]
    return "\n".join(lines) + "\n"


def _group(group: Group) -> Iterator[str]:
    what = f"{group.before} -> {group.after}" if group.before else group.after
    state = "expected" if group.expected else "UNEXPECTED"
    yield f"{group.kind}: {what}"
    yield f"  {_requests(group.count)}, {state}; the first at {group.example.place}: {_request(group)}"
    if group.kind == "path":
        yield f"  {without_secrets(group.shown[0])} -> {without_secrets(group.shown[1])}"


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"


def _request(group: Group) -> str:
    sample = group.example.sample
    return f"{sample.method} {without_secrets(sample.url)}"


def as_data(log: Log, found: Comparison, said: list[str]) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "format": log.facts.format,
        "requests": found.requests,
        "changed": found.changed,
        "unexpected": len(found.unexpected),
        "changes": [
            {
                "kind": group.kind,
                "before": group.before,
                "after": group.after,
                "count": group.count,
                "expected": None if group.expected is None else str(group.expected),
                "example": {"place": group.example.place, "request": _request(group)},
            }
            for group in found.groups
        ],
        "notes": said,
    }
