r"""Read the header fields that caching is about: lists of directives, seconds, dates, entity tags. Pure.

Rules. What is malformed is read as what lets less be reused (RFC 9111, 4.2.1): a lifetime that is no number is none.
"""

from __future__ import annotations

import calendar
import re

from propylon.wire.grammar import DICTIONARY_MEMBER, ENTITY_TAG, OWS, TOKEN

__all__ = [
    "LONGEST",
    "Directives",
    "date",
    "directives",
    "entity_tags",
    "listed",
    "seconds",
    "targeted",
]

# RFC 9111, 1.2.2: what a cache takes for a number that is too large.
LONGEST = 2**31
# Of each directive the arguments, one for each time that it is there; None: it has none.
Directives = dict[bytes, list[bytes | None]]

_PART = re.compile(rb'(?:[^,"]++|"(?:[^"\\]++|\\.)*+"?)+')
_CLOSED = re.compile(rb'(?:[^"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_DIGITS = re.compile(rb"[0-9]+")
_DIGITS_OF_LONGEST = 10
# An argument that no reader accepts: it stands where white space was around `=`, which the grammar does not have.
_MALFORMED = b"?"


def directives(lines: list[bytes]) -> Directives:
    """Return the directives of Cache-Control lines (RFC 9111, 5.2), names in lower case, arguments without quotes."""
    found: Directives = {}
    parts = _PART.findall(b",".join(lines))
    if parts and _CLOSED.fullmatch(parts[-1]) is None:
        # A quote that nothing closes must not hide the `no-store` behind it.
        parts[-1:] = parts[-1].split(b",")
    for part in parts:
        name, equals, argument = part.strip(OWS).partition(b"=")
        if not name:
            continue
        value: bytes | None = argument if equals else None
        if equals and (name[-1:] in OWS or argument[:1] in OWS):
            value = _MALFORMED
        elif (quoted := _QUOTED.fullmatch(argument)) is not None:
            value = re.sub(rb"\\(.)", rb"\1", quoted[1])
        found.setdefault(name.rstrip(OWS).lower(), []).append(value)
    return found


_INTEGER = re.compile(rb"-?[0-9]{1,15}")


def targeted(lines: list[bytes]) -> Directives | None:
    """Return the directives of a targeted field such as CDN-Cache-Control (RFC 9213, 2.1).

    None: the field is empty or malformed, and is ignored. The last one of a key counts; an argument that is no integer is `_MALFORMED`.
    """
    found: Directives = {}
    value = b",".join(lines).strip(b" ")
    at = 0
    while at < len(value):
        member = DICTIONARY_MEMBER.match(value, at)
        if member is None:
            return None
        name, argument = member.groups()
        found[name] = [_argument(argument)]
        rest = value[member.end() :].lstrip(OWS)
        if not rest:
            break
        if rest[:1] != b"," or not rest[1:].strip(OWS):
            return None
        at = len(value) - len(rest[1:].lstrip(OWS))
    return found or None


def _argument(argument: bytes | None) -> bytes | None:
    if argument is None or argument == b"?1":
        return None
    return argument if _INTEGER.fullmatch(argument) else _MALFORMED


def seconds(value: bytes | None) -> int | None:
    """Return a number of seconds (RFC 9111, 1.2.2); None for what is none."""
    if value is None or _DIGITS.fullmatch(value) is None:
        return None
    digits = value.lstrip(b"0") or b"0"
    return LONGEST if len(digits) > _DIGITS_OF_LONGEST else min(int(digits), LONGEST)


def listed(lines: list[bytes]) -> list[bytes]:
    """Return the names of a comma list in lower case, in order and each once."""
    parts = b",".join(lines).lower().split(b",")
    return list(dict.fromkeys(name for part in parts if (name := part.strip(OWS))))


# RFC 9110, 5.6.7: IMF-fixdate, and the two obsolete forms that every recipient must read.
_MONTHS = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}
_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rb"[a-z]{3}, (?P<day>[0-9]{2}) (?P<month>[a-z]{3}) (?P<year>[0-9]{4}) " + _CLOCK + rb" GMT",
        rb"[a-z]{6,9}, (?P<day>[0-9]{2})-(?P<month>[a-z]{3})-(?P<year>[0-9]{2}) "
        + _CLOCK
        + rb" GMT",
        rb"[a-z]{3} (?P<month>[a-z]{3}) (?P<day>[0-9 ][0-9]) " + _CLOCK + rb" (?P<year>[0-9]{4})",
    )
)
_LAST_HOUR, _LAST_MINUTE, _LEAP_SECOND = 23, 59, 60
_SHORT_YEAR = 2
_AHEAD = 50


def date(value: bytes, now: float) -> float | None:
    """Return the seconds since 1970 of an HTTP-date (RFC 9110, 5.6.7); None for what is none.

    `now` tells the century of a year with two digits: it is never more than 50 years ahead.
    """
    for form in _FORMS:
        match = form.fullmatch(value)
        if match is not None:
            return _moment(match, now)
    return None


def _moment(match: re.Match[bytes], now: float) -> float | None:
    month = _MONTHS.get(match["month"].lower())
    year, day = int(match["year"]), int(match["day"])
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if len(match["year"]) == _SHORT_YEAR:
        this = 1970 + int(now // 31_556_952)
        year += this - this % 100
        if year > this + _AHEAD:
            year -= 100
    if month is None or hour > _LAST_HOUR or minute > _LAST_MINUTE or second > _LEAP_SECOND:
        return None
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return float(calendar.timegm((year, month, day, hour, minute, second)))


def entity_tags(lines: list[bytes]) -> list[bytes]:
    """Return the entity tags of an If-None-Match (RFC 9110, 8.8.3), `*` as it is; a token without quotes, too.

    Some upstreams send tags without quotes, and their clients send them back so.
    """
    found = []
    rest = b",".join(lines)
    while rest:
        rest = rest.lstrip(b", \t")
        match = ENTITY_TAG.match(rest)
        if match is not None:
            found.append(match[0])
            rest = rest[match.end() :]
            continue
        word, _, rest = rest.partition(b",")
        word = word.strip(OWS)
        if word and (TOKEN.fullmatch(word) or word == b"*"):
            found.append(word)
    return found
