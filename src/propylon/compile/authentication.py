"""Compile what was written of authentication into what verifies tokens."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, quote_plus

from propylon.config.models.auth import AuthConfig, IntrospectionConfig
from propylon.proxy.authenticate import anonymous, introspection, jwks
from propylon.proxy.authenticate.bearer import Bearer
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.jwks import PublishedKeys
from propylon.proxy.authenticate.keys import from_pem, from_secret
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.verify import FixedKeys, KeySource, Verifier
from propylon.proxy.route import Authenticate
from propylon.upstream.dial import Address
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream
from propylon.upstream.site import Connect, Site

__all__ = ["Authentication", "compile_authentication"]

_KEY_SET = b"application/jwk-set+json, application/json"
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
        published.on_change = verifier.forget
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
    site = Site(jwt.jwks_url, connect, 1)
    ask = partial(site.get, _KEY_SET, within=jwks.TIMEOUT, limit=jwks.LARGEST)
    origin = (jwt.jwks_url, jwt.algorithms)
    return PublishedKeys(ask, jwt.algorithms, origin=origin, upstreams=(site.upstream,))


def _introspection(
    config: IntrospectionConfig,
    url: str,
    connect: Connect,
    rules: Rules,
    clock: Callable[[], float],
) -> Introspection:
    site = Site(url, connect, _QUESTIONS)
    secret = config.client_secret.get_secret_value() if config.client_secret is not None else ""
    identity = _basic(config.client_id, secret) if config.client_id is not None else b""
    ask = partial(_ask_about, site, identity)
    return Introspection(ask, rules, ttl=config.cache, clock=clock)


async def _ask_about(site: Site, identity: bytes, token: bytes) -> Fetched:
    """Ask about a token (RFC 7662, 2.1)."""
    form = f"token={quote(token, safe='')}&token_type_hint=access_token".encode("ascii")
    return await site.post_form(
        form,
        b"application/json",
        identity,
        within=introspection.TIMEOUT,
        limit=introspection.LARGEST,
    )


def _basic(name: str, secret: str) -> bytes:
    """Return the line that says who we are; both parts are form-encoded first (RFC 6749, 2.3.1)."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}".encode("ascii")
    return b"\r\nAuthorization: Basic " + base64.b64encode(pair)
