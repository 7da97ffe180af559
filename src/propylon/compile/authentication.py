"""Compile the `auth` section into a verifier of tokens.

A verifier has at most one source of keys (a secret, a public key or a published key set), and at most one introspection
endpoint. After a reload, a key set that is still the configured one is kept with its keys, so that no request waits.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, quote_plus

from propylon.config.models.auth import AuthConfig, IntrospectionConfig
from propylon.proxy.authenticate import anonymous, introspection, jwks
from propylon.proxy.authenticate.bearer import Bearer, Offered
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.jwks import Kept, PublishedKeys
from propylon.proxy.authenticate.keys import from_pem, from_secrets
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.verify import FixedKeys, KeySource, Verifier
from propylon.proxy.route import Authenticate
from propylon.upstream.dial import Address
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream
from propylon.upstream.site import Connect, Site

__all__ = ["Authentication", "compile_authentication"]

_KEY_SET = b"application/jwk-set+json, application/json"
# Connections to the introspection endpoint. A question beyond them waits for one, or the client gets 503.
_MAX_INTROSPECTIONS = 64


@dataclass(frozen=True, slots=True)
class Authentication:
    """A verifier of tokens, and the upstreams that it fetches keys or answers from."""

    verifier: Verifier
    published: PublishedKeys | None = None
    upstreams: tuple[Upstream, ...] = ()

    @property
    def missing(self) -> str | None:
        """What the gateway still waits for to verify tokens; None if it has it."""
        return None if self.published is None else self.published.missing

    @property
    def stages(self) -> Mapping[str, Authenticate]:
        """The authenticate stage for each value of a route's `auth`."""
        return {
            "none": anonymous,
            "optional": Bearer(self.verifier, required=False),
            "required": Bearer(self.verifier, required=True),
            "offered": Offered(self.verifier),
        }


def compile_authentication(
    config: AuthConfig,
    connect: Connect,
    revocations: Revocations,
    clock: Callable[[], float],
    *,
    debug: bool = False,
    before: Authentication | None = None,
    pending: Authentication | None = None,
    kept: Callable[[str], Kept] | None = None,
) -> Authentication | None:
    """Return the verifier that `config` describes; None if neither keys nor introspection are configured.

    A published key set is fetched after it is started, not here. `before` is the verifier of the configuration before
    a reload, and `pending` the one that was configured last, if its keys are not there yet. Their key set is kept if
    `jwks_url` and `algorithms` are unchanged. `kept` returns what other workers have fetched from a URL.

    Raises UnusableKeys if only `algorithms` has changed, and no key of the set fits the new ones.
    """
    rules = Rules(
        issuers=frozenset(config.jwt.issuer),
        audiences=frozenset(config.jwt.audience),
        leeway=config.jwt.leeway,
        skew=config.jwt.skew,
        scopes_claims=config.jwt.scopes_claim,
        roles_claims=config.jwt.roles_claim,
    )
    upstreams: list[Upstream] = []

    def connect_and_record(address: Address, limit: int) -> Upstream:
        upstreams.append(connect(address, limit))
        return upstreams[-1]

    opaque = None
    if config.introspection.url is not None:
        url = config.introspection.url
        opaque = _introspection(config.introspection, url, connect_and_record, rules, clock)
    known = [one.published for one in (before, pending) if one is not None and one.published]
    same = _same_key_set(config, known)
    source = same or _source(config, connect_and_record, debug=debug, kept=kept, known=known)
    if source is None and opaque is None:
        return None
    verifier = Verifier(source, opaque, rules, revocations, clock)
    published = source if isinstance(source, PublishedKeys) else None
    if same is not None:
        # It calls the verifier in force when its keys change, until the new one is in force.
        upstreams.extend(same.upstreams)
    elif published is not None:
        published.on_change = verifier.forget
    return Authentication(verifier, published, tuple(upstreams))


def _same_key_set(config: AuthConfig, known: Sequence[PublishedKeys]) -> PublishedKeys | None:
    """Return the key set that is in use already, if it is still the configured one."""
    origin = (config.jwt.jwks_url, config.jwt.algorithms)
    return next((one for one in known if one.origin == origin), None)


def _source(
    config: AuthConfig,
    connect: Connect,
    *,
    debug: bool,
    kept: Callable[[str], Kept] | None,
    known: Sequence[PublishedKeys],
) -> KeySource | None:
    jwt = config.jwt
    if jwt.secret is not None:
        secrets = [secret.get_secret_value().encode("utf-8") for secret in jwt.secret]
        return FixedKeys(from_secrets(secrets, jwt.algorithms, allow_short=debug))
    if jwt.public_key is not None:
        return FixedKeys(from_pem(jwt.public_key, jwt.algorithms))
    if jwt.jwks_url is None:
        return None
    site = Site(jwt.jwks_url, connect, 1)
    ask = partial(site.get, _KEY_SET, within=jwks.TIMEOUT, limit=jwks.LARGEST)
    published = PublishedKeys(
        ask,
        jwt.algorithms,
        origin=(jwt.jwks_url, jwt.algorithms),
        upstreams=(site.upstream,),
        kept=None if kept is None else kept(jwt.jwks_url),
    )
    # The document is held already: other algorithms are no reason to be without keys until it is fetched again.
    for document in [one.document for one in known if _url_of(one) == jwt.jwks_url and one.keys]:
        published.bind(document)
        return published
    published.recall()
    return published


def _url_of(published: PublishedKeys) -> str | None:
    return None if published.origin is None else published.origin[0]


def _introspection(
    config: IntrospectionConfig,
    url: str,
    connect: Connect,
    rules: Rules,
    clock: Callable[[], float],
) -> Introspection:
    site = Site(url, connect, _MAX_INTROSPECTIONS)
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
    """Return the gateway's own credentials as a header line; both parts are form-encoded (RFC 6749, 2.3.1)."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}".encode("ascii")
    return b"\r\nAuthorization: Basic " + base64.b64encode(pair)
