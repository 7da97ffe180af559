"""Make the key of a stored answer: whose it is, and of what (RFC 9111, 2). Pure.

Rules.

1. Whatever the gateway sends to the upstream and the key leaves out must be named by Vary, or the answer must not depend
   on it. So the caller is in the key, and what policies and trusted proxies say, and headers that steer frameworks.
2. The path is in the key as it was sent, because it is forwarded so: to one upstream `/%61` and `/a` are the same, to
   the next they are not, and an answer to one must not become an answer to the other. Only what deletes answers reads
   both alike.
3. Credentials are never in a key, only digests of them.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from operator import is_
from typing import Protocol

from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.rules import EVERYONE, CacheRules
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.proxy.template import Name
from propylon.proxy.values import ValuesOf
from propylon.wire.lookalikes import reduced
from propylon.wire.message import Request

__all__ = ["Callers", "ClaimAt", "Key", "Target", "key_of", "normal_path", "target_of"]

# The place of the route, scheme, host, path, query, and whatever else the answer depends on.
Key = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
Target = tuple[bytes, bytes, bytes]
"""A resource, for what deletes answers: host, path in its normal form, query."""

# Claims of the token, not of its holder: the next token of the same holder has others.
_OF_THE_TOKEN = frozenset({"exp", "iat", "nbf", "jti"})
_DIGEST = 16
_REMEMBERED = 4096
# What a trusted proxy says and `proxy.outgoing` passes on.
_TRUSTED = (b"x-forwarded-prefix", b"x-original-url", b"x-rewrite-url", b"x-http-method-override")


class ClaimAt(Protocol):
    """Reads a claim at a dotted path; None: there is none."""

    def __call__(self, principal: Principal) -> object:
        """Return the claim's value."""


class Callers:
    """Digests of principals, remembered: a verified token is one object for as long as it is remembered itself."""

    __slots__ = ("_claim", "_known")

    def __init__(self, claim: ClaimAt | None = None) -> None:
        """Tell principals apart by a claim only, or by all that is known of them."""
        self._claim = claim
        # By address, with the principal itself: no other object can have the address meanwhile.
        self._known: dict[int, tuple[Principal, bytes]] = {}

    def digest(self, principal: Principal) -> bytes:
        """Return what stands for the principal in a key; empty where the claim is missing."""
        known = self._known.get(id(principal))
        if known is not None:
            return known[1]
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        digest = self._made(principal)
        self._known[id(principal)] = (principal, digest)
        return digest

    def _made(self, principal: Principal) -> bytes:
        if self._claim is not None:
            value = self._claim(principal)
            if value is None:
                return b""
            return _digest(["claim", principal.issuer, value])
        claims = {
            name: value for name, value in principal.claims.items() if name not in _OF_THE_TOKEN
        }
        said = [
            principal.subject,
            principal.issuer,
            principal.email,
            sorted(principal.scopes),
            sorted(principal.roles),
            principal.block.decode("latin-1"),
            claims,
        ]
        return _digest(["caller", said])


def _digest(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, default=repr)
    return blake2b(text.encode(), digest_size=_DIGEST).digest()


def key_of(
    exchange: Exchange, request: Request, asking: Asking, rules: CacheRules, callers: Callers
) -> Key:
    """Return the key of a request."""
    origin = exchange.downstream.origin
    query = request.query
    if query and rules.ignored is not None:
        query = _without_parameters(query, rules.ignored)
    return (
        rules.place,
        origin.scheme.encode(),
        (origin.host or request.host).lower(),
        request.path,
        query,
        _dependencies(exchange, request, asking, rules, callers),
    )


def _dependencies(
    exchange: Exchange, request: Request, asking: Asking, rules: CacheRules, callers: Callers
) -> bytes:
    """Return what else the answer may depend on; empty for an anonymous request without anything special."""
    origin = exchange.downstream.origin
    # A client's next request has the same lines, the same token and the same connection as a rule.
    basis = (exchange.principal, rules, origin, exchange.privacy)
    usual = request.vouched is None and (request.plain or not origin.trusted) and not rules.depends
    if usual and asking.basis is not None and all(map(is_, asking.basis, basis)):
        return asking.dependencies
    digest = _digested(exchange, request, asking, rules, callers)
    if usual:
        asking.basis, asking.dependencies = basis, digest
    return digest


def _digested(
    exchange: Exchange, request: Request, asking: Asking, rules: CacheRules, callers: Callers
) -> bytes:
    parts = [_whose(exchange.principal, asking, rules, callers), asking.steering]
    origin = exchange.downstream.origin
    parts.append(exchange.privacy.block)
    if rules.by != EVERYONE:
        parts.append(origin.certificate)
    parts.append(origin.root)
    if request.vouched is not None:
        keep = rules.by == "caller"
        parts += [
            b"%b:%b" % line
            for name, line in sorted(request.vouched.items())
            if keep or reduced(name) not in rules.claims
        ]
    if origin.trusted and not request.plain:
        parts += [b",".join(request.special.get(name, ())) for name in _TRUSTED]
    if rules.depends:
        parts += [_value(exchange, request, name) for name in rules.depends]
    if not any(parts):
        return b""
    return blake2b(
        b"".join([b"%d:%b" % (len(part), part) for part in parts]), digest_size=_DIGEST
    ).digest()


def _value(exchange: Exchange, request: Request, name: Name) -> bytes:
    """Return a value that the route puts into its requests; without a route, one that no other request has."""
    route = exchange.route
    return exchange.request_id if route is None else ValuesOf(exchange, request, route).plain(name)


def _whose(principal: Principal, asking: Asking, rules: CacheRules, callers: Callers) -> bytes:
    """Return whose the answer is: a digest of the caller, of the credentials that nobody verified, or nothing."""
    if rules.by == EVERYONE:
        return b""
    if not principal.known:
        return asking.credentials
    digest = callers.digest(principal)
    if rules.claim and digest:
        return digest
    if not digest:  # without the claim that stands for others, the caller stands for itself
        digest = _digest([principal.subject, principal.issuer, sorted(principal.scopes)])
        return digest + asking.credentials
    # A token is in Authorization as a rule, and a renewed one has the same claims. Any other scheme is the service's.
    return digest + (
        asking.cookies if asking.bearer or not asking.authorized else asking.credentials
    )


def _without_parameters(query: bytes, ignored: re.Pattern[bytes]) -> bytes:
    """Return the query without the parameters whose names match; the order of the others is kept."""
    pairs = query[1:].split(b"&")
    kept = [pair for pair in pairs if ignored.fullmatch(pair.partition(b"=")[0]) is None]
    return b"?" + b"&".join(kept) if kept else b""


# Of what deletes answers

_UNRESERVED = re.compile(rb"%(2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")
_ESCAPE = re.compile(rb"%[0-9a-fA-F]{2}")


def normal_path(path: bytes) -> bytes:
    """Return the normal form of a path (RFC 3986, 6.2.2): unreserved letters decoded, other escapes in capitals."""
    if b"%" not in path:
        return path
    path = _UNRESERVED.sub(lambda match: bytes([int(match[1], 16)]), path)
    return _ESCAPE.sub(lambda match: match[0].upper(), path)


def target_of(key: Key) -> Target:
    """Return which resource the answer under a key is of."""
    return key[2], normal_path(key[3]), key[4]
