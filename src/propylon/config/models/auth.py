"""Define the section `auth`: which tokens are accepted, and how the gateway issues its own."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.base import ConfigModel, OneOrMany, as_list, blank_to_none
from propylon.config.models.keys import check_secret, fitting_algorithms
from propylon.config.models.syntax import check_document_url
from propylon.config.models.units import Duration, Rate, Timeout, Whole, WrittenRate
from propylon.proxy.authenticate.claims import MOST_LEEWAY

__all__ = [
    "ASYMMETRIC",
    "SYMMETRIC",
    "AuthConfig",
    "IntrospectionConfig",
    "JwtConfig",
    "RevocationConfig",
    "TokenRateLimitConfig",
    "TokensConfig",
]

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
    "Ed448",
]
_ALL: tuple[Algorithm, ...] = get_args(Algorithm)
SYMMETRIC, ASYMMETRIC = _ALL[:3], _ALL[3:]


def _secret(secret: SecretStr) -> SecretStr:
    check_secret(secret.get_secret_value())
    return secret


def _as_secrets(value: object) -> object:
    """Return a list without blank items; None if there are none: `${OLD_SECRET:-}` may be unset."""
    items = value if isinstance(value, list | tuple) else [value]
    kept = [item for item in items if blank_to_none(item) is not None]
    return kept or None


def _distinct(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    return tuple(dict.fromkeys(secrets))


def _public_key(text: str) -> str:
    fitting_algorithms(text, ASYMMETRIC)
    return text


def _database(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text.startswith("postgres://"):
        msg = "must start with postgresql://, not postgres://"
        raise ValueError(msg)
    if not text.startswith(_DATABASES):
        msg = 'must be the URL of a database: "sqlite:///propylon.db", "postgresql://host/name"'
        raise ValueError(msg)
    return url


def _default_algorithms(data: dict[str, Any]) -> tuple[Algorithm, ...]:
    # A public key determines its algorithms. The keys of a set may be of any kind, and each is bound to the
    # algorithms of its kind. HMAC is never among the defaults beside public keys: the public key would then be
    # used as the secret (CVE-2016-10555).
    if data.get("public_key") is not None:
        fit = fitting_algorithms(data["public_key"], ASYMMETRIC)
        return tuple(name for name in ASYMMETRIC if name in fit)
    return SYMMETRIC[:1] if data.get("jwks_url") is None else ASYMMETRIC


_DATABASES = ("sqlite:///", "sqlite+aiosqlite:///", "postgresql://", "postgresql+asyncpg://")
# Seconds. Okta allows a minute at most; in a longer grace a stolen token would pass unnoticed.
MOST_GRACE = 60.0
Blank = BeforeValidator(blank_to_none)
Secret = Annotated[SecretStr, AfterValidator(_secret)]
# A token whose signature is bad costs one HMAC for each secret. Rotation with overlap needs two or three.
Secrets = Annotated[
    Annotated[tuple[Secret, ...], Field(max_length=8), AfterValidator(_distinct)] | None,
    BeforeValidator(_as_secrets, json_schema_input_type=str | list[str] | None),
]
PublicKey = Annotated[str, AfterValidator(_public_key)]
DocumentUrl = Annotated[
    str, AfterValidator(check_document_url), Field(json_schema_extra={"format": "uri"})
]
Algorithms = Annotated[
    tuple[Algorithm, ...],
    BeforeValidator(as_list, json_schema_input_type=Algorithm | list[Algorithm]),
]


class JwtConfig(ConfigModel):
    """How signed tokens are verified: with a secret, a public key, or a published key set."""

    secret: Secrets = Field(
        default=None,
        description="Shared secret for HS256, HS384 and HS512, at least 32 bytes. The gateway also signs its own"
        " tokens with it. A list: the first one signs, all of them verify. Better in the environment:"
        " ${JWT_SECRET_KEY}, or JWT_SECRET_KEY_FILE with the path of a file.",
    )
    public_key: Annotated[PublicKey | None, Blank] = Field(
        default=None,
        description="Instead of a secret: a public key or certificate in PEM, or the path of a file with one.",
    )
    jwks_url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None,
        description="Instead of a secret: the URL where an identity provider publishes its keys.",
    )
    algorithms: Algorithms = Field(
        default_factory=_default_algorithms,
        description="Algorithms that a token may be signed with. When not set: HS256 for a secret, else those that"
        " fit the key.",
    )
    issuer: OneOrMany = Field(
        default=(), description="Accepted values of the claim iss, one or a list; any when not set."
    )
    audience: OneOrMany = Field(
        default=(),
        description="Accepted values of the claim aud; a token must have one of them. Any when not set.",
    )
    leeway: Annotated[Duration, Field(le=MOST_LEEWAY)] = Field(
        default=0.0,
        description="How long a token is accepted after its exp.",
    )
    skew: Annotated[Duration, Field(le=MOST_LEEWAY)] = Field(
        default=60.0,
        description="How far iat and nbf of a token may lie ahead of the gateway's clock. The larger of skew and leeway"
        " counts.",
    )
    scopes_claim: OneOrMany = Field(
        default=("scope", "scopes"),
        description="Claims with the scopes; the first one that a token has counts. When not set: scope, scopes.",
    )
    roles_claim: OneOrMany = Field(
        default=("roles",),
        description="Claims with the roles; realm_access.roles is a claim inside another. When not set: roles.",
    )

    @property
    def signing_secret(self) -> bytes | None:
        """The secret that the gateway signs its own tokens with; None if there is none."""
        return None if self.secret is None else self.secret[0].get_secret_value().encode("utf-8")

    @field_validator("public_key", "jwks_url")
    @classmethod
    def _one_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = [key for key in ("secret", "public_key") if info.data.get(key) is not None]
        if value is not None and others:
            msg = (
                f"only one of secret, public_key, jwks_url can be set, and {others[0]} is set, too"
            )
            raise ValueError(msg)
        return value

    @field_validator("algorithms")
    @classmethod
    def _fitting(cls, algorithms: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not algorithms:
            msg = "is empty; leave it out for those that fit the key"
            raise ValueError(msg)
        _check_fit(algorithms, info.data)
        return tuple(dict.fromkeys(algorithms))


def _check_fit(algorithms: tuple[str, ...], keys: dict[str, Any]) -> None:
    hmac = [name for name in algorithms if name in SYMMETRIC]
    others = [name for name in algorithms if name in ASYMMETRIC]
    secret, public_key = keys.get("secret"), keys.get("public_key")
    if secret is not None and others:
        msg = f"{others[0]} needs a public key; with a secret write {', '.join(SYMMETRIC)}"
        raise ValueError(msg)
    if hmac and (others or public_key is not None or keys.get("jwks_url") is not None):
        msg = f"{hmac[0]} needs a secret: with a public key for one, everyone could sign tokens"
        raise ValueError(msg)
    possible = others if public_key is None else fitting_algorithms(public_key, ASYMMETRIC)
    for name in others:
        if name not in possible:
            msg = f"{name} does not fit the public key; write one of {', '.join(possible)}"
            raise ValueError(msg)


class IntrospectionConfig(ConfigModel):
    """The endpoint that is asked about opaque tokens (token introspection, RFC 7662)."""

    url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None, description="URL of the introspection endpoint; off when not set."
    )
    client_id: Annotated[str | None, Blank] = Field(
        default=None, description="Client id of the gateway at the endpoint."
    )
    client_secret: Annotated[SecretStr | None, Blank] = Field(
        default=None, description="Client secret of the gateway at the endpoint."
    )
    cache: Duration = Field(
        default=30.0,
        description="How long an answer is cached; 0s: not at all. A token revoked by its issuer is accepted for so long.",
    )

    @field_validator("client_secret")
    @classmethod
    def _with_a_name(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is not None and "client_id" in info.data and info.data["client_id"] is None:
            msg = "needs client_id beside it"
            raise ValueError(msg)
        return secret


class TokenRateLimitConfig(ConfigModel):
    """How often a client may ask for a token: each time costs the hash of a password."""

    rate: WrittenRate = Field(
        default=Rate(10, 60.0),
        description="Requests in a time, on average.",
        json_schema_extra={"default": "10/m"},
    )
    burst: Annotated[Whole, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="Requests at once."
    )
    key: Literal["ip", "route"] = Field(
        default="ip",
        description="ip: counted for each client address; route: for all clients together.",
    )


class TokensConfig(ConfigModel):
    """The gateway's own tokens, and the database of its users."""

    enabled: bool | None = Field(
        default=None,
        description="Whether there is a token endpoint. When not set: if there is a secret to sign with.",
    )
    expires: Annotated[Timeout, Field(ge=1.0)] = Field(
        default=1800.0, description="Lifetime of an access token."
    )
    refresh_expires: Annotated[Timeout, Field(ge=1.0)] = Field(
        default=30 * 86400.0,
        description="Lifetime of a login: no refresh token is accepted after it.",
        json_schema_extra={"default": "30d"},
    )
    refresh_grace: Annotated[Duration, Field(le=MOST_GRACE)] = Field(
        default=10.0,
        description="How long a refresh token that was just used is accepted again, because the answer may have been"
        " lost; 0s: not at all.",
    )
    database: Annotated[SecretStr, AfterValidator(_database)] = Field(
        default=SecretStr("sqlite:///propylon.db"),
        description="Database of users and refresh tokens: SQLite or PostgreSQL.",
        json_schema_extra={"default": "sqlite:///propylon.db", "format": "uri"},
    )
    rate_limit: TokenRateLimitConfig = Field(
        default=TokenRateLimitConfig(), description="How often a client may ask for a token."
    )


class RevocationConfig(ConfigModel):
    """The list of revoked tokens, which is in the database."""

    on_failure: Literal["closed", "open"] = Field(
        default="closed",
        description="What becomes of tokens while a worker that has started cannot read which of them were revoked."
        " closed: requests with a token get 503; open: tokens count by their signature alone, revoked ones included.",
    )


class AuthConfig(ConfigModel):
    """Which tokens are accepted, and how the gateway issues its own."""

    startup_wait: Annotated[Duration, Field(le=300.0)] = Field(
        default=5.0,
        description="How long a worker that starts waits for the published keys and the list of revoked tokens before"
        " it accepts connections. After it, /readyz and the requests that need what is missing answer 503.",
    )
    revocation: RevocationConfig = Field(
        default=RevocationConfig(), description="The list of revoked tokens."
    )

    jwt: JwtConfig = Field(default=JwtConfig(), description="How signed tokens are verified.")
    introspection: IntrospectionConfig = Field(
        default=IntrospectionConfig(), description="The endpoint that is asked about opaque tokens."
    )
    tokens: TokensConfig = Field(
        default=TokensConfig(),
        description="The gateway's own tokens, and the database of its users.",
    )

    @property
    def verifies(self) -> bool:
        """Whether there is a key or an introspection endpoint to verify tokens with."""
        jwt = self.jwt
        keys = (jwt.secret, jwt.public_key, jwt.jwks_url)
        return self.introspection.url is not None or any(key is not None for key in keys)

    @property
    def issues(self) -> bool:
        """Whether the gateway issues tokens: by default if there is a secret to sign with."""
        enabled = self.tokens.enabled
        return self.jwt.secret is not None and (enabled is None or enabled)
