"""Parse durations, sizes, rates, shares and whole numbers as operators write them. Pure.

Numbers of the environment arrive as text, so each function accepts text, too. All raise ValueError with a message
for the operator.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
# Twelve digits are a terabyte, or thirty thousand years. The bound keeps the conversion of long digits cheap.
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER})(ms|s|m|h|d)?")
_SIZE = re.compile(rf"({_NUMBER})({'|'.join(BYTES)})?")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_RATE = re.compile(r"([0-9]{1,9})/(s|m|h|d)")
_SHARE = re.compile(rf"({_NUMBER})(%)?")
# A century. A longer duration is a mistake in the unit.
_MAX_DURATION = 100 * 366 * 86400.0
_MAX_SIZE = 2**50


def parse_duration(value: object) -> float:
    """Return seconds for a number of seconds, or text such as "500ms", "10s", "5m", "1h", "30d"."""
    seconds = _number(value)
    if seconds is None:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            msg = 'must be a duration: seconds, or text such as "500ms", "10s", "5m", "1h"'
            raise ValueError(msg)
        seconds = float(Decimal(match[1]) * SECONDS[match[2] or "s"])
    if not 0 <= seconds <= _MAX_DURATION:
        msg = "must be a duration of zero or more, and at most a century"
        raise ValueError(msg)
    return seconds


def parse_timeout(value: object) -> float:
    """Return seconds for a duration longer than zero."""
    seconds = parse_duration(value)
    if seconds <= 0:
        msg = "must be a duration longer than zero"
        raise ValueError(msg)
    return seconds


def parse_size(value: object) -> int:
    """Return bytes for a number of bytes, or text such as "10MB", "1MiB", "64KiB"."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = Decimal(value)
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)) is not None:
        size = Decimal(match[1]) * BYTES[match[2] or "B"]
    else:
        msg = 'must be a size: bytes, or text such as "10MB", "1MiB", "64KiB"'
        raise ValueError(msg)
    if not 0 <= size <= _MAX_SIZE or size != size.to_integral_value():
        msg = "must be a size of zero or more whole bytes, and at most 1 PiB"
        raise ValueError(msg)
    return int(size)


def parse_whole(value: object) -> int:
    """Return a whole number, also for text that is one (a quoted `"${PORT}"`); booleans are refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    msg = "must be a whole number"
    raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` events in `seconds` seconds."""

    amount: int
    seconds: float

    def __str__(self) -> str:
        """Return the rate as an operator writes it: `10/m`."""
        units = {float(seconds): unit for unit, seconds in SECONDS.items()}
        return f"{self.amount}/{units.get(self.seconds, f'{self.seconds:g}s')}"


def parse_rate(value: object) -> Rate:
    """Return the rate for text such as "10/s", "600/m", "5/h"."""
    if isinstance(value, Rate):
        return value
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) < 1:
        msg = 'must be a rate of at least one: text such as "10/s", "600/m", "5/h"'
        raise ValueError(msg)
    return Rate(int(match[1]), float(SECONDS[match[2]]))


def parse_share(value: object) -> float:
    """Return a number from 0 to 1 for text such as "20%", or a number such as 0.2."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        share: float | None = float(Decimal(match[1]) / (100 if match[2] else 1))
    else:
        share = _number(value)
    # A bare 20 is refused: the operator means 20 %, and 20 as a share would be everything.
    if share is None or not 0 <= share <= 1:
        msg = 'must be a share: text such as "20%", or a number from 0 to 1'
        raise ValueError(msg)
    return share


def is_true(value: object) -> bool:
    """Return the boolean that the models would read, also from text; False for anything else."""
    return str(value).lower() in {"true", "t", "yes", "y", "on", "1"}


def is_false(value: object) -> bool:
    """Return whether the models would read false."""
    return str(value).lower() in {"false", "f", "no", "n", "off", "0"}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An int beyond 2**53 may not fit a float. It is compared before it is converted.
    if isinstance(value, int):
        return float(value) if abs(value) < 2**53 else -1.0
    return value if math.isfinite(value) else -1.0


def _number_or_text(pattern: str, examples: list[str | int], title: str) -> WithJsonSchema:
    anyone = [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}]
    return WithJsonSchema({"anyOf": anyone, "examples": examples, "title": title})


_DURATION_SCHEMA = _number_or_text(
    rf"^{_NUMBER}(ms|s|m|h|d)?$", ["500ms", "10s", "5m", "1h", 30], "Duration"
)
_SIZE_SCHEMA = _number_or_text(rf"^{_NUMBER}({'|'.join(BYTES)})?$", ["10MB", "1MiB", 65536], "Size")
_SHARE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": rf"^{_NUMBER}%?$"},
        ],
        "examples": ["20%", 0.2],
        "title": "Share",
    }
)
_RATE_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^[0-9]{1,9}/(s|m|h|d)$",
        "examples": ["10/s", "600/m", "5/h"],
        "title": "Rate",
    }
)

Duration = Annotated[float, BeforeValidator(parse_duration), _DURATION_SCHEMA]
"""Seconds, zero or more."""
Timeout = Annotated[float, BeforeValidator(parse_timeout), _DURATION_SCHEMA]
"""Seconds, more than zero."""
Size = Annotated[int, BeforeValidator(parse_size), _SIZE_SCHEMA]
"""Bytes."""
Share = Annotated[float, BeforeValidator(parse_share), _SHARE_SCHEMA]
"""A number from 0 to 1, written as 20% or 0.2."""
WrittenRate = Annotated[Rate, BeforeValidator(parse_rate), _RATE_SCHEMA]
"""Events in a time, written as 10/s."""
Whole = Annotated[int, BeforeValidator(parse_whole)]
"""A whole number, also as text."""
Port = Annotated[Whole, Field(ge=0, le=65535)]
"""A port to listen on; 0 takes any free port."""
