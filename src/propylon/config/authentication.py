"""Compile what was written of authentication into what verifies tokens."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, quote_plus, urlsplit

from propylon.config.auth import AuthConfig, IntrospectionConfig
from propylon.proxy.authenticate import anonymous, introspection, jwks
from propylon.proxy.authenticate.bearer import Bearer
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.jwks import PublishedKeys
from propylon.proxy.authenticate.keys import from_pem, from_secret
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.verify import FixedKeys, KeySource, Verifier
from propylon.proxy.match import Authenticate
from propylon.upstream.exchange import Upstream
from propylon.upstream.fetch import Fetched, fetch
from propylon.upstream.pool import Address
from propylon.wire.headers import render

__all__ = ["Authentication", "compile_authentication"]

Connect = Callable[[Address, int], Upstream]

_PORTS = {"http": 80, "https": 443}
# Questions about different tokens at a time; the others queue, or are answered 503.
_QUESTIONS = 64


@dataclass(frozen=True, slots=True)
class Authentication:
    """What verifies tokens, and whom it asks."""

    verifier: Verifier
    published: PublishedKeys | None = None
    upstreams: tuple[Upstream, ...] = ()

    @property
    def stages(self) -> Mapping[str, Authenticate]:
        """What a route's `auth` comes to."""
        return {
            "none": anonymous,
            "optional": Bearer(self.verifier, required=False),
            "required": Bearer(self.verifier, required=True),
        }


def compile_authentication(
    config: AuthConfig,
    connect: Connect,
    revocations: Revocations,
    clock: Callable[[], float],
    *,
    debug: bool = False,
    before: Authentication | None = None,
) -> Authentication | None:
    """Return what verifies tokens as `config` has it; None where nothing was configured.

    The keys of a set are fetched once it is started; those that `before` has fetched from the same place
    stay known.
    """
    rules = Rules(
        issuers=frozenset(config.jwt.issuer),
        audiences=frozenset(config.jwt.audience),
        leeway=config.jwt.leeway,
        scopes_claims=config.jwt.scopes_claim,
        roles_claims=config.jwt.roles_claim,
    )
    asked: list[Upstream] = []

    def noted(address: Address, limit: int) -> Upstream:
        asked.append(connect(address, limit))
        return asked[-1]

    opaque = None
    if config.introspection.url is not None:
        opaque = _introspection(config.introspection, config.introspection.url, noted, rules, clock)
    source = _published(config, before) or _source(config, noted, debug=debug)
    if source is None and opaque is None:
        return None
    verifier = Verifier(source, opaque, rules, revocations, clock)
    published = source if isinstance(source, PublishedKeys) else None
    if published is not None:
        published.changed = verifier.forget
    if before is not None and published is not None and published is before.published:
        asked.extend(published.upstreams)
    return Authentication(verifier, published, tuple(asked))


def _published(config: AuthConfig, before: Authentication | None) -> PublishedKeys | None:
    """Return the set that is followed already, if it is the one that is wanted."""
    if before is None or before.published is None:
        return None
    known = before.published
    return known if known.origin == (config.jwt.jwks_url, config.jwt.algorithms) else None


def _source(config: AuthConfig, connect: Connect, *, debug: bool) -> KeySource | None:
    jwt = config.jwt
    if jwt.secret is not None:
        secret = jwt.secret.get_secret_value().encode("utf-8")
        return FixedKeys(from_secret(secret, jwt.algorithms, allow_short=debug))
    if jwt.public_key is not None:
        return FixedKeys(from_pem(jwt.public_key, jwt.algorithms))
    if jwt.jwks_url is None:
        return None
    site = _Site(jwt.jwks_url, connect, 1)
    origin = (jwt.jwks_url, jwt.algorithms)
    return PublishedKeys(site.get, jwt.algorithms, origin=origin, upstreams=(site.upstream,))


def _introspection(
    config: IntrospectionConfig,
    url: str,
    connect: Connect,
    rules: Rules,
    clock: Callable[[], float],
) -> Introspection:
    site = _Site(url, connect, _QUESTIONS)
    secret = config.client_secret.get_secret_value() if config.client_secret is not None else ""
    identity = _basic(config.client_id, secret) if config.client_id is not None else b""
    return Introspection(partial(site.ask, identity), rules, remember=config.cache, clock=clock)


def _basic(name: str, secret: str) -> bytes:
    """Return the line that says who we are; both parts are form-encoded first (RFC 6749, 2.3.1)."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}".encode("ascii")
    return b"\r\nAuthorization: Basic " + base64.b64encode(pair)


class _Site:
    """A URL that the gateway itself asks."""

    def __init__(self, url: str, connect: Connect, limit: int) -> None:
        parts = urlsplit(url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self.upstream = connect(Address(host, port, tls), limit)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc.rpartition("@")[2].encode("ascii")

    def _head(self, accept: bytes) -> bytes:
        return render([(b"Host", self._host), (b"Accept", accept), (b"User-Agent", b"propylon")])

    async def get(self) -> Fetched:
        """Fetch the key set."""
        return await fetch(
            self.upstream,
            f"GET {self._target}".encode("ascii"),
            self._head(b"application/jwk-set+json, application/json"),
            within=jwks.TIMEOUT,
            limit=jwks.LARGEST,
        )

    async def ask(self, identity: bytes, token: bytes) -> Fetched:
        """Ask about a token (RFC 7662, 2.1)."""
        form = f"token={quote(token, safe='')}&token_type_hint=access_token".encode("ascii")
        head = self._head(b"application/json")
        head += identity + b"\r\nContent-Type: application/x-www-form-urlencoded"
        return await fetch(
            self.upstream,
            f"POST {self._target}".encode("ascii"),
            head,
            body=form,
            within=introspection.TIMEOUT,
            limit=introspection.LARGEST,
        )
