"""Read Idempotency-Key, say whose it is, and take the fingerprint of a request. Pure.

The key is a text that the client chooses. So whose it is, and for which route, is part of its name; and the fingerprint
tells whether the request is the same: method, path, query, Content-Type and body.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from propylon.errors import InvalidRequest
from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.key import Callers
from propylon.proxy.exchange import Exchange
from propylon.proxy.idempotency.ledger import FINGERPRINT
from propylon.wire.headers import values
from propylon.wire.message import Request

__all__ = ["Fingerprint", "key_of", "malformed", "name_of"]

_NAME = 32
# RFC 9651, 3.3.3: a String. Many clients send it without the quotes (as to Stripe), which means the same here.
_STRING = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"')
_BARE = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]{1,255}")
_ESCAPED = re.compile(rb'\\(["\\])')
# By these headers services know callers that the gateway does not know (`Api-Key`, `PRIVATE-TOKEN`, `X-Tenant`). What clients
# draw anew each time that they send a request is left out: the service would be asked twice.
_CALLER = re.compile(
    rb"\r\n(?![^:\r]*(?:idempotency|csrf|xsrf|dpop|signature|nonce))"
    rb"([^:\r]*(?:auth|credential|key|passw|secret|session|tenant|ticket|token)[^:\r]*):[ \t]*([^\r]*)",
    re.IGNORECASE,
)


def key_of(request: Request) -> bytes | None:
    """Return the key; None: there is none. Raises InvalidRequest for what is no key, and for more than one."""
    lines = values(request.block, b"idempotency-key")
    if not lines:
        return None
    line = lines[0].strip(b" \t")
    match = _STRING.fullmatch(line)
    if len(lines) > 1 or (match is None and _BARE.fullmatch(line) is None):
        msg = "Idempotency-Key must be one string of 1 to 255 characters"
        raise malformed(msg)
    return line if match is None else _ESCAPED.sub(rb"\1", match[1])


def malformed(message: str) -> InvalidRequest:
    """Return the error of a request without a good key."""
    error = InvalidRequest(message)
    error.problem = ("urn:propylon:idempotency-key-missing", "Idempotency-Key is missing")
    return error


def name_of(
    exchange: Exchange, request: Request, route: bytes, key: bytes, callers: Callers
) -> bytes:
    """Return the name of a caller's key on a route: nothing of the caller is to be read in it.

    The host belongs to it, because many services tell their tenants apart by it. Its port does not: a client may send the
    request again to another gateway.
    """
    asking, principal = Asking(request.block), exchange.principal
    origin = exchange.downstream.origin
    parts = [route, (origin.host or request.authority).lower(), key, origin.certificate]
    if principal.known:
        parts.append(callers.digest(principal))
        # A renewed token is the same caller's. Any other Authorization, and every cookie, is the service's.
        bearer = asking.bearer or not asking.authorized
        parts.append(asking.cookies if bearer else asking.credentials)
    else:
        parts.append(asking.credentials)
        parts += [
            b"%b:%b" % (name.lower(), value) for name, value in _CALLER.findall(request.block)
        ]
    digest = blake2b(digest_size=_NAME, person=b"idempotency")
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.digest()


class Fingerprint:
    """The digest of a request, taken while its body passes."""

    __slots__ = ("_digest", "update")

    def __init__(self, request: Request) -> None:
        """Take in the head."""
        self._digest = blake2b(digest_size=FINGERPRINT)
        kind = b",".join(values(request.block, b"content-type"))
        for part in (request.method.encode(), request.path, request.query, kind):
            self._digest.update(b"%d:%b" % (len(part), part))
        self.update = self._digest.update

    @property
    def whole(self) -> bytes:
        """The digest of all that has come."""
        return self._digest.digest()
