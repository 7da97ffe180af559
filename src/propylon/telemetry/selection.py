"""Choose which records of the access log are written, and with which fields.

Rules.

1. What an operator has to see is always written, whatever the filters say: server errors, answers that were cut off, and what the
   gateway itself refused. A sample never hides a failure.
2. It is decided before the record is made: a record that is not written costs a hundredth of one that is.
3. The client does not choose whether its request is in the sample: the digits that decide are the gateway's own, and not
   those of a trace or a request id that the client may have sent.
4. An added value may come from a client. It is cut, and what would steer a terminal or end a line is escaped, in each format
   (CWE-117): control characters of C0 and C1, U+2028, characters that turn the direction of writing, lone surrogates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from propylon.proxy.authenticate.claims import MISSING, claim_at
from propylon.proxy.exchange import Exchange
from propylon.wire.headers import values

__all__ = ["Added", "Edit", "Passes", "added", "edit_of", "passes_of", "printable"]

_SERVER_ERROR = 500
_REDACTED = "redacted"
# Characters of an added value: a user agent has 120, a browser's longest 300.
_LONGEST = 512
_DIGITS = 8  # of the exchange's own random ones
_WHOLE = 16**_DIGITS
# What a client says about itself in these is in each log of each web server.
_USUAL = frozenset({"user_agent", "referer"})

Passes = Callable[[Exchange], bool]
Added = Callable[[Exchange], str | None]
Edit = Callable[[dict[str, Any]], dict[str, Any]]


def printable(text: str) -> str:
    """Return the text with escapes in place of what is not printable: a value in the log must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def passes_of(
    min_status: int | None, slower_than: float | None, sample: float | None
) -> Passes | None:
    """Return what tells whether a record is written; None: all are."""
    if min_status is None and slower_than is None and sample is None:
        return None
    least = 1000 if min_status is None else min_status
    slow = float("inf") if slower_than is None else slower_than
    share = (sample or 0.0) * _WHOLE

    def passes(exchange: Exchange) -> bool:
        return (
            exchange.status >= least
            or exchange.status >= _SERVER_ERROR
            or exchange.error is not None
            or exchange.ended - exchange.began > slow
            or int(exchange.entropy[:_DIGITS], 16) < share
        )

    return passes


def edit_of(keep: Iterable[str] | None, drop: Iterable[str], redact: Iterable[str]) -> Edit | None:
    """Return what takes fields out of a record, and hides values; None: it stays as it is."""
    kept = None if keep is None else frozenset((*keep, "time", "level", "event"))
    left_out, hidden = frozenset(drop), frozenset(redact)
    if kept is None and not left_out and not hidden:
        return None

    def edit(fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: _REDACTED if name in hidden and value is not None else value
            for name, value in fields.items()
            if name not in left_out and (kept is None or name in kept)
        }

    return edit


def added(sources: Mapping[str, str]) -> tuple[tuple[str, Added], ...]:
    """Return what reads each added field: `header:NAME`, `claim:NAME` or `policy:NAME`, by the field's name."""
    return tuple(
        (field, _reader(field, *source.split(":", 1))) for field, source in sources.items()
    )


def _reader(field: str, kind: str, name: str) -> Added:
    read = _READERS[kind](name)
    if field in _USUAL:
        return read

    def unless_private(exchange: Exchange) -> str | None:
        """With `X-Privacy-Level: strict` nothing is logged that may say who the user is."""
        return None if exchange.privacy.strict else read(exchange)

    return unless_private


def _of_header(name: str) -> Added:
    lower = name.lower().encode("ascii")

    def read(exchange: Exchange) -> str | None:
        request = exchange.request
        if request is None:
            return None
        found = values(request.block, lower)
        return _text(found[0].decode("latin-1")) if found else None

    return read


def _of_claim(name: str) -> Added:
    def read(exchange: Exchange) -> str | None:
        return _text(claim_at(exchange.principal.claims, name))

    return read


def _of_policy(name: str) -> Added:
    def read(exchange: Exchange) -> str | None:
        noted = None if exchange.request is None else exchange.request.noted
        return None if noted is None else _text(noted.get(name))

    return read


_READERS: Mapping[str, Callable[[str], Added]] = {
    "header": _of_header,
    "claim": _of_claim,
    "policy": _of_policy,
}


def _text(value: object) -> str | None:
    """Return a value as text; a list joined by commas. An object is none: it may hold anything."""
    if isinstance(value, list | tuple):
        parts = [_text(one) for one in value[:_LONGEST]]
        value = ",".join(part for part in parts if part is not None)
    if value is None or value is MISSING or not isinstance(value, str | int | float):
        return None
    return printable(str(value)[:_LONGEST])
