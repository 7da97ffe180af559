"""Compile the `auth` section into a verifier of tokens.

Each entry of `auth.jwt` becomes a `Trust`: a source of keys (a secret, a public key or a published key set), and the rules
for what these keys sign. There is at most one introspection endpoint. After a reload, a key set that is still the configured
one is kept with its keys, so that no request waits.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import quote, quote_plus

from propylon.compile.carriers import compile_carriers
from propylon.config.models.auth import AuthConfig, IntrospectionConfig
from propylon.config.models.jwt import JwtConfig
from propylon.proxy.authenticate import anonymous, introspection, jwks
from propylon.proxy.authenticate.bearer import Bearer, Offered
from propylon.proxy.authenticate.carriers import Carrier, SiteGuard, TokenFinder
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.discovery import Discovery
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.jwks import Kept, PublishedKeys
from propylon.proxy.authenticate.keys import UnusableKeys, from_pem, from_secrets
from propylon.proxy.authenticate.revocation import Revocations
from propylon.proxy.authenticate.shares import SLOTS
from propylon.proxy.authenticate.sockets import SOCKET, SocketTokens
from propylon.proxy.authenticate.trust import KeySource, Trust
from propylon.proxy.authenticate.verify import FixedKeys, Verifier
from propylon.proxy.counts import Counts
from propylon.proxy.route import Authenticate
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Upstream
from propylon.upstream.site import Connect, Site

__all__ = ["Authentication", "compile_authentication"]

_KEY_SET = b"application/jwk-set+json, application/json"
_JSON = b"application/json"


def _no_origin(origin: bytes) -> bool:  # noqa: ARG001
    """Trust the pages of no other origin."""
    return False


@dataclass(frozen=True, slots=True)
class Authentication:
    """A verifier of tokens, and what it fetches keys or answers from."""

    verifier: Verifier
    key_sets: tuple[PublishedKeys, ...] = ()
    asked: tuple[Upstream, ...] = ()
    carriers: tuple[Carrier, ...] = ()
    guard: SiteGuard = field(default_factory=lambda: SiteGuard(_no_origin))

    @property
    def published(self) -> PublishedKeys | None:
        """The first of the key sets; None if there is none."""
        return next(iter(self.key_sets), None)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams in use now; a provider's document may name others later."""
        return (*self.asked, *(up for keys in self.key_sets for up in keys.upstreams))

    @property
    def missing(self) -> str | None:
        """What `/readyz` waits for while a key set is missing; None if there is none missing."""
        return next((keys.missing for keys in self.key_sets if keys.missing is not None), None)

    @property
    def stages(self) -> Mapping[str, Authenticate]:
        """The authenticate stage for each value of a route's `auth`."""
        return {
            "none": anonymous,
            "optional": self._stage(required=False),
            "required": self._stage(required=True),
            "offered": Offered(self._stage(required=False)),
            SOCKET + "optional": SocketTokens(self.verifier, self.carriers, required=False),
            SOCKET + "required": SocketTokens(self.verifier, self.carriers, required=True),
        }

    def _stage(self, *, required: bool) -> Authenticate:
        # Nearly everywhere tokens are in the header Authorization, and nothing has to be searched.
        if not self.carriers:
            return Bearer(self.verifier, required=required)
        return TokenFinder(self.verifier, self.carriers, self.guard, required=required)


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
    trusted_origin: Callable[[bytes], bool] = _no_origin,
    counts: Counts | None = None,
) -> Authentication | None:
    """Return the verifier that `config` describes; None if neither keys nor introspection are configured.

    A published key set is fetched after it is started, not here. `before` is the verifier of the configuration before
    a reload, and `pending` the one that was configured last, if its keys are not there yet. Each of their key sets is
    kept if its address and `algorithms` are unchanged. `kept` returns what other workers have fetched from a URL.
    `trusted_origin` tells whether pages of an origin may send requests with the cookie that holds the token. `counts` is where
    verifications are counted.

    Raises UnusableKeys if only the `algorithms` of an entry have changed, and no key of its set fits the new ones.
    """
    known = [keys for one in (before, pending) if one is not None for keys in one.key_sets]
    sources = _Sources(connect, kept, known, debug)
    trusts = [Trust(_rules(jwt, config), discovers=_discovers(jwt)) for jwt in config.jwt.entries]
    for trust, jwt in zip(trusts, config.jwt.entries, strict=True):
        trust.source = sources.of(jwt, partial(_learn, trust, trusts))
    asked: list[Upstream] = []
    opaque = None
    if config.introspection.url is not None:
        site = Site(config.introspection.url, connect, SLOTS)
        asked.append(site.upstream)
        opaque = _introspection(config.introspection, site, trusts, clock)
    if opaque is None and all(trust.source is None for trust in trusts):
        return None
    verifier = Verifier(trusts, opaque, revocations, clock, counts)
    key_sets = tuple(_key_sets(trusts))
    for keys in key_sets:
        # One that is kept calls the verifier in force when its keys change, until the new one is in force.
        if keys not in known:
            keys.on_change = verifier.forget
    return Authentication(
        verifier,
        key_sets,
        tuple(asked),
        compile_carriers(config.carriers),
        SiteGuard(trusted_origin),
    )


def _rules(jwt: JwtConfig, config: AuthConfig) -> Rules:
    return Rules(
        issuers=frozenset(jwt.issuer),
        audiences=frozenset(jwt.audience),
        leeway=jwt.leeway,
        skew=jwt.skew,
        scopes_claims=jwt.scopes_claim,
        roles_claims=jwt.roles_claim,
        subject_claims=jwt.subject_claim,
        required_type=jwt.require_typ or "",
        tells_issuer=config.several_issuers,
    )


def _discovers(jwt: JwtConfig) -> bool:
    """Tell whether the issuer is read from the provider's document; one that the operator wrote stands."""
    return jwt.discovery_url is not None and not jwt.issuer


def _learn(trust: Trust, trusts: Iterable[Trust], issuer: str) -> None:
    """Take the issuer of an entry from its provider's document. Raises UnusableKeys."""
    if not trust.discovers:
        return
    # A provider that called itself by another one's name could sign tokens for that one's users.
    if any(issuer in other.issuers for other in trusts if other is not trust):
        msg = "the discovery document names an issuer that another entry of auth.jwt has"
        raise UnusableKeys(msg)
    if trust.issuers != {issuer}:
        trust.rules = replace(trust.rules, issuers=frozenset({issuer}))


def _key_sets(trusts: Iterable[Trust]) -> Iterable[PublishedKeys]:
    return (trust.source for trust in trusts if isinstance(trust.source, PublishedKeys))


def _origin(jwt: JwtConfig) -> tuple[object, ...]:
    """Return what is equal for two entries that follow the same key set."""
    return (jwt.jwks_url, jwt.discovery_url, jwt.algorithms)


@dataclass(frozen=True, slots=True)
class _Sources:
    """Makes the sources of keys, and keeps those that are `known`."""

    connect: Connect
    kept: Callable[[str], Kept] | None
    known: Sequence[PublishedKeys]
    debug: bool

    def of(self, jwt: JwtConfig, learn: Callable[[str], None]) -> KeySource | None:
        """Return the source of an entry; None if it has no key. `learn` takes the issuer from a provider's document."""
        if jwt.secret is not None:
            secrets = [secret.get_secret_value().encode("utf-8") for secret in jwt.secret]
            return FixedKeys(from_secrets(secrets, jwt.algorithms, allow_short=self.debug))
        if jwt.public_key is not None:
            return FixedKeys(from_pem(jwt.public_key, jwt.algorithms))
        if jwt.discovery_url is None and jwt.jwks_url is None:
            return None
        for keys in self.known:
            if keys.origin == _origin(jwt):
                if keys.discovery is not None:
                    keys.discovery.teach(learn)
                return keys
        return self._discovered(jwt, learn) if jwt.jwks_url is None else self._fetched(jwt)

    def _discovered(self, jwt: JwtConfig, learn: Callable[[str], None]) -> PublishedKeys:
        # Nothing is taken over from other workers: their keys come without the issuer, and that is read with the keys.
        discovery = Discovery(jwt.discovery_url or "", partial(_ask, self.connect), learn)
        return PublishedKeys(
            discovery.fetch, jwt.algorithms, origin=_origin(jwt), discovery=discovery
        )

    def _fetched(self, jwt: JwtConfig) -> PublishedKeys:
        url = jwt.jwks_url or ""
        ask, upstream = _ask(self.connect, url, _KEY_SET)
        published = PublishedKeys(
            ask,
            jwt.algorithms,
            origin=_origin(jwt),
            upstreams=(upstream,),
            kept=None if self.kept is None else self.kept(url),
        )
        # The document is held already: other algorithms are no reason to be without keys until it is fetched again.
        for one in self.known:
            if one.keys and isinstance(one.origin, tuple) and one.origin[0] == url:
                published.bind(one.document)
                return published
        published.recall()
        return published


def _ask(
    connect: Connect, url: str, accept: bytes = _KEY_SET
) -> tuple[Callable[[], Awaitable[Fetched]], Upstream]:
    """Return what fetches a document, and the upstream that it asks."""
    site = Site(url, connect, 1)
    return partial(site.get, accept, within=jwks.TIMEOUT, limit=jwks.LARGEST), site.upstream


def _introspection(
    config: IntrospectionConfig,
    site: Site,
    trusts: Sequence[Trust],
    clock: Callable[[], float],
) -> Introspection:
    secret = config.client_secret.get_secret_value() if config.client_secret is not None else ""
    identity = _basic(config.client_id, secret) if config.client_id is not None else b""
    ask = partial(_ask_about, site, identity)
    return Introspection(ask, trusts, ttl=config.cache, clock=clock)


async def _ask_about(site: Site, identity: bytes, token: bytes) -> Fetched:
    """Ask about a token (RFC 7662, 2.1)."""
    form = f"token={quote(token, safe='')}&token_type_hint=access_token".encode("ascii")
    return await site.post_form(
        form,
        _JSON,
        identity,
        within=introspection.TIMEOUT,
        limit=introspection.LARGEST,
    )


def _basic(name: str, secret: str) -> bytes:
    """Return the gateway's own credentials as a header line; both parts are form-encoded (RFC 6749, 2.3.1)."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}".encode("ascii")
    return b"\r\nAuthorization: Basic " + base64.b64encode(pair)
