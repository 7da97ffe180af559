"""Test keys in place of the configured ones, and tokens that are signed with them.

Rules.

1. A secret stays: the test's environment says it. A public key is exchanged for one whose private half is known here.
2. The addresses of published keys stay, too. What stands in for the provider there publishes a test key.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from propylon.config.models.jwt import JwtConfig
from propylon.config.models.schema import GatewayConfig
from propylon.testing.refused import NotInMemory
from propylon.testing.upstream import Upstream

__all__ = ["Issuers", "with_test_keys"]

_KEY_ID = "propylon-test"
_LIFE = 3600.0
_DISCOVERY = "/.well-known/openid-configuration"
_MAKE: Mapping[str, Callable[[], Any]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    **dict.fromkeys(
        ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512"),
        lambda: rsa.generate_private_key(65537, 2048),
    ),
}


@cache  # an RSA key takes a tenth of a second; the same key for all tests of a process
def _key(algorithm: str) -> Any:
    return _MAKE[algorithm]()


def _algorithm(entry: JwtConfig) -> str:
    for name in _MAKE:
        if name in entry.algorithms:
            return name
    msg = f"auth.jwt.algorithms: there are test keys for {', '.join(_MAKE)} only"
    raise NotInMemory(msg)


def with_test_keys(config: GatewayConfig) -> GatewayConfig:
    """Return the configuration with a test key in place of each public key. Raises NotInMemory."""
    entries = tuple(_with_test_key(entry) for entry in config.auth.jwt.entries)
    signing = next((entry for entry in entries if entry.secret is not None), entries[0])
    made = signing.listed(entries) if config.auth.jwt.is_list else signing
    return config.model_copy(update={"auth": config.auth.model_copy(update={"jwt": made})})


def _with_test_key(entry: JwtConfig) -> JwtConfig:
    if entry.public_key is None:
        return entry
    name = _algorithm(entry)
    public = _key(name).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    text = public.public_bytes(serialization.Encoding.PEM, form).decode()
    return entry.model_copy(update={"public_key": text, "algorithms": (name,)})


@dataclass(frozen=True, slots=True)
class Issuers:
    """Who issues tokens that the gateway under test accepts; `wall` tells the time, in seconds since 1970."""

    config: GatewayConfig
    wall: Callable[[], float]
    counter: Iterator[int]

    @classmethod
    def of(cls, config: GatewayConfig, wall: Callable[[], float]) -> Issuers:
        """Return the issuers of a configuration with test keys."""
        return cls(config, wall, itertools.count(1))

    def token(
        self, subject: str, scope: str, roles: tuple[str, ...], expires: float, claims: Any
    ) -> str:
        """Return a token for `expires` seconds; of the issuer that `claims` names, else of the first one."""
        entry = self._entry(claims.get("iss"))
        now = self.wall()
        made: dict[str, Any] = {"iat": int(now), "exp": int(now + expires)}
        made["jti"] = f"test-{next(self.counter)}"
        _set(made, entry.subject_claim[0], subject)
        if scope:
            _set(made, entry.scopes_claim[0], scope)
        if roles:
            _set(made, entry.roles_claim[0], [*roles])
        if issuer := _issuer(entry):
            made["iss"] = issuer
        if entry.audience:
            made["aud"] = entry.audience[0]
        made.update(claims)
        head = {} if entry.require_typ is None else {"typ": entry.require_typ}
        if entry.signing_secret is not None:
            return jwt.encode(made, entry.signing_secret, entry.algorithms[0], head)
        name = _algorithm(entry)
        if entry.public_key is None:
            head["kid"] = _KEY_ID
        return jwt.encode(made, _key(name), name, head)

    def _entry(self, issuer: object) -> JwtConfig:
        entries = [entry for entry in self.config.auth.jwt.entries if entry.verifies]
        for entry in entries:
            if issuer is None or issuer == _issuer(entry) or issuer in entry.issuer:
                return entry
        msg = "auth.jwt: the configuration has no key for such a token"
        raise NotInMemory(msg)

    def providers(self) -> Iterator[tuple[str, Upstream]]:
        """Yield what stands in for each provider that publishes keys or answers, with its URL."""
        for entry in self.config.auth.jwt.entries:
            url = entry.jwks_url or entry.discovery_url
            if url is not None:
                upstream = Upstream(urlsplit(url).netloc)
                upstream.use(_publishing(entry, url))
                yield url, upstream
        if (url := self.config.auth.introspection.url) is not None:
            upstream = Upstream(urlsplit(url).netloc)
            upstream.reply(json={"active": False})
            yield url, upstream


def _issuer(entry: JwtConfig) -> str | None:
    if entry.issuer:
        return entry.issuer[0]
    return entry.discovery_url.removesuffix(_DISCOVERY) if entry.discovery_url else None


def _set(claims: dict[str, Any], name: str, value: object) -> None:
    """Set a claim, which may be inside another: `user.id`."""
    *outer, last = name.split(".")
    for part in outer:
        claims = claims.setdefault(part, {})
    claims[last] = value


def _publishing(entry: JwtConfig, url: str) -> Any:
    """Return an ASGI app that publishes a test key for the entry, and what a discovery URL says of it."""
    name = _algorithm(entry)
    public = jwt.get_algorithm_by_name(name).to_jwk(_key(name).public_key(), as_dict=True)
    keys = {"keys": [{**public, "kid": _KEY_ID, "use": "sig", "alg": name}]}
    at = urlsplit(url)
    found = {"issuer": _issuer(entry), "jwks_uri": f"{at.scheme}://{at.netloc}/propylon-test-keys"}

    async def app(scope: Any, _: Any, send: Any) -> None:
        body = json.dumps(found if scope["path"].endswith(_DISCOVERY) else keys).encode()
        lines = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    return app
