"""Decide what may be stored of an answer, and for how long it is fresh (RFC 9111, 3 and 4.2; RFC 5861, RFC 9213). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from propylon.proxy.cache.fields import (
    LONGEST,
    Directives,
    date,
    directives,
    listed,
    seconds,
    targeted,
)
from propylon.proxy.cache.rules import CacheRules
from propylon.wire.headers import Special, take
from propylon.wire.message import UNTIL_CLOSE, Response
from propylon.wire.response import is_event_stream

__all__ = ["ANSWER_FIELDS", "Judgement", "judge", "read_answer", "tags_of"]

ANSWER_FIELDS = frozenset(
    {
        b"age",
        b"cache-control",
        b"cache-tag",
        b"cdn-cache-control",
        b"content-location",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"location",
        b"pragma",
        b"set-cookie",
        b"surrogate-control",
        b"vary",
    }
)
_PATTERN = re.compile(rb"\r\n(" + b"|".join(sorted(ANSWER_FIELDS)) + rb"):[ \t]*([^\r]*)")

# RFC 9111, 4.2.2: a tenth of the time since the last change is the usual fraction; a day is Apache's bound.
_FRACTION = 0.1
_LONGEST_GUESS = 86_400.0
# RFC 9110, 15.1: heuristically cacheable, less the errors among them: those only where the operator says so.
_GUESSABLE = frozenset({200, 203, 204, 300, 301, 308})
# What this cache understands (RFC 9111, 5.2.2.3): the statuses of RFC 9110 whose answers are complete by themselves.
_UNDERSTOOD = frozenset(
    {200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410}
    | {411, 413, 414, 415, 421, 422, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505}
)
# What the gateway writes anew for each request or each client: to vary on it is to vary on everything.
_UNKEYED = frozenset(
    {
        b"*",
        b"forwarded",
        b"traceparent",
        b"tracestate",
        b"via",
        b"x-forwarded-for",
        b"x-real-ip",
        b"x-request-id",
    }
)
_FIRST_FINAL, _PARTIAL, _NOT_MODIFIED = 200, 206, 304


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a cache may do with an answer; times in seconds.

    `refusal` says why the answer is not stored; empty: it is. `unshared` says why nobody else may have it, not even who
    waits for it now; what has to be validated before each use may be stored all the same. `age` is the answer's age when it arrived. `validates`: each use needs
    a validation. `strict`: it is never used stale.
    """

    refusal: str = ""
    unshared: str = ""
    lifetime: float = 0.0
    age: float = 0.0
    validates: bool = False
    strict: bool = False
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    vary: tuple[bytes, ...] = ()
    etag: bytes = b""
    modified: bytes = b""
    tags: tuple[bytes, ...] = ()
    unlisted: tuple[bytes, ...] = ()  # fields that are not stored: `no-cache="…"`


def read_answer(block: bytes) -> Special:
    """Return the values of the fields in an answer's block that caching is about."""
    return take(block, _PATTERN, kept=ANSWER_FIELDS)[1]


def judge(
    head: Response, rules: CacheRules, now: float, *, unverified: bool, delay: float = 0.0
) -> Judgement:
    """Judge an answer that has arrived at `now`, in seconds since 1970; it took `delay` to come.

    `unverified`: its request had an Authorization that the gateway did not verify, and that is no part of the key.
    """
    found = read_answer(head.block)
    said = _Said(found, rules, now)
    vary = tuple(sorted({*listed(found.get(b"vary", [])), *rules.vary}))
    unshared = _unshared(head, found, said, vary, unverified=unverified)
    if unshared:
        return Judgement(unshared, unshared)
    lifetime, guessed = _lifetime(head.status, found, said, rules, now)
    etag = found.get(b"etag", [b""])[0]
    modified = found.get(b"last-modified", [b""])[0]
    refusal = _refusal(head, rules, validators=bool(etag or modified), lifetime=lifetime)
    strict = said.has(b"must-revalidate", b"proxy-revalidate", b"s-maxage") or said.validates
    return Judgement(
        refusal,
        "no-cache" if said.validates or said.at_once else "",
        lifetime or 0.0,
        _age(found, now, delay, guessed=guessed),
        said.validates,
        strict,
        0.0 if strict else said.extension(b"stale-while-revalidate", rules.stale_while_revalidate),
        0.0 if strict else said.extension(b"stale-if-error", rules.stale_if_error),
        vary,
        etag,
        modified,
        tags_of(found),
        said.unlisted,
    )


class _Said:
    """What the answer says about caching: the targeted field, if it has a good one (RFC 9213, 2.2), else Cache-Control."""

    def __init__(self, found: Special, rules: CacheRules, now: float) -> None:
        self.now = now
        chosen = _surrogate(found.get(b"surrogate-control"))
        if chosen is None and b"cdn-cache-control" in found:
            chosen = targeted(found[b"cdn-cache-control"])
        self.targets = chosen is not None
        self._all = directives(found.get(b"cache-control", [])) if chosen is None else chosen
        qualified = [
            value
            for name in (b"no-cache", b"private")
            for value in self._all.get(name, ())
            if value is not None
        ]
        self.unlisted = tuple(listed(qualified))
        self.validates = None in self._all.get(b"no-cache", ())
        # RFC 9111, 5.4: Pragma means something in requests only. Old upstreams mean it all the same.
        if not self._all and b"no-cache" in listed(found.get(b"pragma", [])):
            self.validates = True
        self.respected = rules.respect

    @property
    def at_once(self) -> bool:
        """Whether the answer says that it is stale from the beginning."""
        return self.respected and self.number(b"s-maxage", b"max-age") == 0

    def has(self, *names: bytes) -> bool:
        return any(name in self._all for name in names)

    def forbids(self, name: bytes) -> bool:
        """Whether a directive is there without names of fields."""
        return None in self._all.get(name, ())

    def number(self, *names: bytes) -> float | None:
        """Return the seconds of the first directive that is there, the least if it is repeated; 0 for what is no number."""
        for name in names:
            if name in self._all:
                return float(min(seconds(value) or 0 for value in self._all[name]))
        return None

    def extension(self, name: bytes, default: float) -> float:
        """Return the seconds of an extension (RFC 5861): the upstream's, else the operator's."""
        said = self.number(name)
        return default if said is None else said


def _surrogate(lines: list[bytes] | None) -> Directives | None:
    """Return the directives of Surrogate-Control (W3C Edge Architecture, 2.1) that are for every surrogate.

    `max-age=60;name` is for the surrogate of that name, which is never this one.
    """
    if lines is None:
        return None
    said = {
        name: values
        for name, values in directives([b",".join(lines)]).items()
        if not any(b";" in (value or b"") for value in values) and b";" not in name
    }
    known = {b"max-age", b"no-store", b"private", b"no-cache"}
    return said if known & said.keys() else None


def _unshared(
    head: Response, found: Special, said: _Said, vary: tuple[bytes, ...], *, unverified: bool
) -> str:
    """Return why nobody else may have the answer; empty: others may, as far as its freshness allows."""
    if b"set-cookie" in found:
        return "set-cookie"
    if not _UNKEYED.isdisjoint(vary):
        return "vary"
    if said.forbids(b"no-store"):
        return "no-store"
    if said.forbids(b"private"):
        return "private"
    if said.has(b"must-understand") and head.status not in _UNDERSTOOD:
        return "status"
    if unverified and not said.has(b"public", b"must-revalidate", b"s-maxage"):
        return "authorization"  # RFC 9111, 3.5
    if head.status in (_PARTIAL, _NOT_MODIFIED) or head.status < _FIRST_FINAL:
        return "status"
    if is_event_stream(head):
        return "stream"
    return ""


def _refusal(head: Response, rules: CacheRules, *, validators: bool, lifetime: float | None) -> str:
    """Return why an answer that others may have is not stored; empty: it is."""
    if not rules.stores:
        return "off"
    if head.length == UNTIL_CLOSE:
        return "length"  # nothing tells whether it is whole
    if head.length > rules.max_object:
        return "size"
    # Without a lifetime it would only serve to be validated: errors are not worth that.
    if not lifetime and (not validators or head.status not in _GUESSABLE):
        return "freshness"
    return ""


def _lifetime(
    status: int, found: Special, said: _Said, rules: CacheRules, now: float
) -> tuple[float | None, bool]:
    """Return how long the answer is fresh, None if nothing says it; and whether that is the operator's word or a guess."""
    explicit = said.number(b"s-maxage", b"max-age")
    if explicit is None and not said.targets and b"expires" in found:
        explicit = _expires(found, now)
    if explicit is not None and (rules.respect or rules.ttl is None):
        return min(explicit, float(LONGEST)), False
    if rules.ttl is not None:
        applies = status in rules.statuses or explicit is not None
        return (rules.ttl if applies else None), True
    if status in _GUESSABLE or said.has(b"public"):
        return _guess(found, now), False
    return None, False


def _expires(found: Special, now: float) -> float:
    """Return the lifetime that Expires gives (RFC 9111, 5.3): 0 for what is no date, such as the usual `0`."""
    moments = [date(value, now) for value in found[b"expires"]]
    sent = _date(found, now)
    return max(0.0, min(-1.0 if moment is None else moment - sent for moment in moments))


def _date(found: Special, now: float) -> float:
    """Return when the answer was made; `now` where it does not say (RFC 9110, 6.6.1)."""
    sent = date(found[b"date"][0], now) if b"date" in found else None
    return now if sent is None else sent


def _guess(found: Special, now: float) -> float | None:
    if b"last-modified" not in found:
        return None
    changed = date(found[b"last-modified"][0], now)
    if changed is None:
        return None
    return min(max(0.0, _date(found, now) - changed) * _FRACTION, _LONGEST_GUESS)


def _age(found: Special, now: float, delay: float, *, guessed: bool) -> float:
    """Return the corrected initial age (RFC 9111, 4.2.3).

    The operator's `ttl` counts from the arrival: the answer's Date says nothing about it, and the clock of an upstream that
    says nothing else may be wrong.
    """
    value = 0.0
    if b"age" in found:
        # RFC 9111, 5.1: of several values the first counts, and what is no number is ignored.
        parts = b",".join(found[b"age"]).split(b",")
        value = float(seconds(parts[0].strip(b" \t")) or 0)
    corrected = value + delay
    if guessed or b"date" not in found:
        return corrected
    return max(0.0, now - _date(found, now), corrected)


def tags_of(found: Special) -> tuple[bytes, ...]:
    """Return the tags of an answer: CDNs part them with commas, some with blanks."""
    lines = found.get(b"cache-tag", [])
    return tuple(dict.fromkeys(b" ".join(lines).replace(b",", b" ").split()))
