"""Read what a request wants of a cache: its directives, its conditions, its range, and what makes its answer another one. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b

from propylon.proxy.cache.fields import directives, listed, seconds
from propylon.wire.grammar import BEARER, OWS
from propylon.wire.headers import fields, take, without

__all__ = ["CONDITIONS", "Asking"]

_NAMES = (
    b"authorization",
    b"cache-control",
    b"cookie",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"pragma",
    b"range",
)
# Headers that change the answers of common frameworks, proxies and CDNs without being named in Vary: a client that sends
# one must not choose the answer of those that do not (web cache poisoning). All `X-…` are among them but those that
# only trace or count. What the gateway removes or writes itself (X-Forwarded-*, X-Original-URL) never comes this far.
_HARMLESS = (
    rb"x-(?:request-id|correlation-id|trace-?id|span-?id|b3-[^:]*|datadog-[^:]*|amzn-trace-id|cloud-trace-context"
    rb"|client-data|do-not-track|chrome-[^:]*)"
)
_STEERING = (
    rb"(?!" + _HARMLESS + rb":)x-[^:]*|origin|access-control-request-[^:]*|client-ip|true-client-ip"
    rb"|cf-connecting-ip|fastly-[^:]*|base-url|base|uri|url|http-url|request-uri|redirect|referrer-policy|destination"
    rb"|front-end-https|proxy-host|translate|profile|method|http-method|http-host|host-override"
)
# Services know their callers by headers of their own, too: `Api-Key`, `PRIVATE-TOKEN` (GitLab), `Ocp-Apim-Subscription-Key`
# (Azure), `DPoP`. An answer to one of them is for whoever sent it.
_SECRETS = rb"[^:\r]*(?:auth|cookie|credential|dpop|key|passw|secret|session|signature|tenant|ticket|token)[^:\r]*"
_PATTERN = re.compile(rb"\r\n(" + b"|".join((*_NAMES, _STEERING, _SECRETS)) + rb"):[ \t]*([^\r]*)")
_NAMED = frozenset(_NAMES)
CONDITIONS = (
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
)
"""The headers that ask for a part of an answer, or for none if it is unchanged."""

# RFC 9110, 12.5: white space around their separators means nothing, and no value in them has capitals. The order may
# mean something to an upstream, so it is kept.
_NORMALISED = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})
_BLANKS = re.compile(rb"[ \t]*([,;=])[ \t]*")
_CREDENTIALS = 16  # bytes of a digest


class Asking:
    """What the header lines of a request want of a cache; requests that repeat their lines share one.

    `none_match`, `modified_since`, `range` and the like are the values of the lines. `credentials` is a digest of Cookie
    and Authorization, empty without them; `cookies` one of Cookie alone. `steering` is a digest of headers that may
    change the answer though no Vary names them; credentials of other kinds are among these.
    """

    __slots__ = (
        "_block",
        "_values",
        "authorized",
        "basis",
        "bearer",
        "conditional",
        "cookies",
        "credentials",
        "dependencies",
        "if_range",
        "max_age",
        "max_stale",
        "min_fresh",
        "modified_since",
        "no_cache",
        "no_store",
        "none_match",
        "only_if_cached",
        "plain",
        "preconditions",
        "range",
        "ranged",
        "steering",
        "unconditional",
    )

    def __init__(self, block: bytes) -> None:
        """Read the block of a request."""
        self._block = block
        self._values: dict[bytes, bytes] | None = None
        # What the key module has made of it last, and of what.
        self.basis: tuple[object, ...] | None = None
        self.dependencies = b""
        _, found = take(block, _PATTERN, kept=_NAMED)
        said = directives(found.get(b"cache-control", []))
        self.no_store = b"no-store" in said
        # RFC 9111, 5.4: Pragma counts where there is no Cache-Control.
        self.no_cache = b"no-cache" in said or (
            not said and b"no-cache" in listed(found.get(b"pragma", []))
        )
        self.only_if_cached = b"only-if-cached" in said
        self.max_age = _number(said.get(b"max-age"))
        if self.max_age == 0:  # what a browser sends to reload a page; an age is never less than 0
            self.no_cache = True
        self.min_fresh = _number(said.get(b"min-fresh")) or 0
        # Without a number the client takes an answer of any age (RFC 9111, 5.2.1.2).
        stale = said.get(b"max-stale")
        self.max_stale = 0 if stale is None else 2**31 if None in stale else _number(stale) or 0
        self.authorized = b"authorization" in found
        self.bearer = all(
            BEARER.fullmatch(value) is not None for value in found.get(b"authorization", ())
        )
        self.cookies = _digest(found, (b"cookie",))
        self.credentials = _digest(found, (b"authorization", b"cookie"))
        self.steering = _digest(found, sorted(found.keys() - _NAMED))
        self.none_match = found.get(b"if-none-match", [])
        self.modified_since = found.get(b"if-modified-since", [])
        self.range = found.get(b"range", [])
        self.if_range = found.get(b"if-range", [])
        self.ranged = bool(self.range)
        self.preconditions = b"if-match" in found or b"if-unmodified-since" in found
        self.conditional = bool(self.none_match or self.modified_since)
        # Whether a fresh answer serves the request as it is stored.
        self.plain = not (self.conditional or self.ranged)
        asked = self.conditional or self.ranged or self.preconditions or bool(self.if_range)
        # What goes to the upstream where the whole answer is wanted.
        self.unconditional = without(block, CONDITIONS) if asked else block

    def value(self, name: bytes) -> bytes:
        """Return the value of a header, of several lines joined (RFC 9110, 5.3); empty if there is none."""
        if self._values is None:
            values: dict[bytes, bytes] = {}
            for name_sent, value in fields(self._block):
                key = name_sent.lower()
                values[key] = b"%b, %b" % (values[key], value) if key in values else value
            self._values = values
        value = self._values.get(name, b"").strip(OWS)
        return _BLANKS.sub(rb"\1", value).lower() if name in _NORMALISED else value


def _number(values: list[bytes | None] | None) -> int | None:
    """Return the least of the numbers; 0, which demands most, for what is none; None without a directive."""
    return None if values is None else min(seconds(value) or 0 for value in values)


def _digest(found: dict[bytes, list[bytes]], names: tuple[bytes, ...] | list[bytes]) -> bytes:
    """Return a digest of some headers; empty if there is none of them. Keys must not hold credentials."""
    lines = [b"%b:%d:%b" % (name, len(v), v) for name in names for v in found.get(name, ())]
    return blake2b(b"\n".join(lines), digest_size=_CREDENTIALS).digest() if lines else b""
