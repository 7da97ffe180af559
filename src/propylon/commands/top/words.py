"""Put numbers, states and names into the words of `propylon top`. Pure.

A name may be one that a client has chosen. What would steer a terminal is escaped, and what is too long is cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from propylon.telemetry.selection import printable

__all__ = ["breaker", "condition", "is_up", "milliseconds", "rate", "share", "shown", "sparkline"]

_LONGEST = 120
_BARS = "▁▂▃▄▅▆▇█"


def shown(text: object) -> str:
    """Return a text of anybody's as it may stand in a terminal."""
    said = printable(str(text))
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"


def rate(number: float | None) -> str:
    """Return a number of requests per second."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def milliseconds(number: float | None) -> str:
    """Return a duration."""
    if number is None:
        return "-"
    return (
        f"{number / 1000:.1f} s"
        if number >= 10_000
        else f"{number:,.0f} ms" if number >= 10 else f"{number:.1f} ms"
    )


def share(part: float | None, whole: float | None) -> str:
    """Return a part in percent; nothing for none of it."""
    return f"{100 * part / whole:.1f} %" if part and whole else ""


def sparkline(numbers: Iterable[float]) -> str:
    """Return one bar for each number, the highest one full."""
    values = list(numbers)
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(7, int(value / most * 7.999))] for value in values)


def is_up(instance: dict[str, Any]) -> bool:
    """Tell whether an instance gets requests."""
    off = instance["drained"] or instance["ejected_until"] is not None
    return not off and instance["status"] in {"healthy", "starting"}


def condition(instance: dict[str, Any]) -> str:
    """Return how an instance is."""
    if instance["drained"]:
        return "drained"
    if instance["ejected_until"] is not None:
        return "ejected"
    return "not probed" if instance["status"] == "starting" else shown(instance["status"])


def breaker(circuit: dict[str, Any] | None) -> str:
    """Return how a breaker is, since when, and why."""
    if circuit is None:
        return "none"
    if circuit["state"] == "CLOSED":
        return "closed"
    if circuit["state"] == "HALF_OPEN":
        return "half open"
    word = "open by hand" if circuit.get("held") else "open"
    since = _clock(circuit["opened_at"])
    return f"{word} since {since}" if since else word


def _clock(text: str | None) -> str:
    try:
        return "" if text is None else f"{datetime.fromisoformat(text).astimezone(UTC):%H:%M:%S}"
    except ValueError:
        return ""
