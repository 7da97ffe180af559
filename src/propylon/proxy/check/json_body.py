"""Read a body that must be JSON, and that all readers read alike. Pure."""

from __future__ import annotations

import json
from typing import Any

import orjson

from propylon.errors import InvalidRequest

__all__ = ["parsed"]

Json = Any
_SPACE = b" \t\r\n"


def parsed(body: bytes) -> Json:
    """Return the value of a body. Raises InvalidRequest (400) for one that is no JSON, or can be read in two ways."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = "The body is no JSON"
        raise InvalidRequest(msg, details={"fields": {"body": str(error)}}) from error
    # RFC 8259, 4: where an object has a name twice, some readers take the first value, and some the last. The service may
    # take the other one than was checked. Written anew the value has each name once. What differs only in white space is
    # the same; what is written in another way, such as with escapes, is looked at name by name.
    anew = orjson.dumps(value)
    if body != anew and not _has_all_of(body, anew):
        _check_names(body)
    return value


def _has_all_of(body: bytes, anew: bytes) -> bool:
    """Tell whether a body says no name twice, as far as that can be seen at once."""
    if b"\\" not in body:
        # Without escapes each text has two quotes, and a name that was there twice has lost two of them.
        return body.count(b'"') == anew.count(b'"')
    return body.translate(None, _SPACE) == anew.translate(None, _SPACE)


def _check_names(body: bytes) -> None:
    try:
        # Numbers stay text: to read long ones takes long.
        json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except (_Twice, RecursionError) as error:
        msg = "The body is JSON that can be read in two ways"
        why = str(error) if isinstance(error, _Twice) else "is nested too deeply"
        raise InvalidRequest(msg, details={"fields": {"body": why}}) from error


class _Twice(ValueError):
    """An object has a name twice."""


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "an object has a name twice"
        raise _Twice(msg)
    return found
