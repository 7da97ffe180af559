"""Write rates and durations of other gateways in our units. Nothing is rounded up: no limit becomes weaker."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["duration", "rate", "seconds_of"]

_UNITS = (("s", 1), ("m", 60), ("h", 3600), ("d", 86_400))
_MOST = 10**9 - 1
_PART = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ns|us|µs|ms|s|m|h|d|w)")
_SECONDS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86_400),
    "w": Fraction(604_800),
}


def rate(number: float, seconds: float) -> tuple[str, bool]:
    """Return a rate for so many requests in so many seconds, and whether it is just that. Empty: less than one a day."""
    if number <= 0 or seconds <= 0:
        return "", False
    wanted = Fraction(str(number)) / Fraction(str(seconds))
    best = ""
    for unit, length in _UNITS:
        count = wanted * length
        if count.denominator == 1 and count <= _MOST:
            return f"{count}/{unit}", True
        if 1 <= count <= _MOST:
            best = f"{int(count)}/{unit}"  # a longer unit rounds less
    return best, False


def seconds_of(text: str) -> float | None:
    """Return seconds for a text such as `1h30m` or `500ms`, as Go and nginx write them; a bare number is seconds."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    return float(sum(Fraction(part["number"]) * _SECONDS[part["unit"]] for part in parts))


def duration(seconds: float) -> str:
    """Return a duration in our notation."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"
