"""Model what tokens count, who says so, and how the gateway gives out its own."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.base import OneOrMany, Written, blank_is_nothing, listed
from propylon.config.models.keys import check_secret, fitting
from propylon.config.models.syntax import check_document_url
from propylon.config.models.units import Duration, Rate, Timeout, Whole, WrittenRate
from propylon.proxy.authenticate.claims import MOST_LEEWAY

__all__ = [
    "ASYMMETRIC",
    "SYMMETRIC",
    "AuthConfig",
    "IntrospectionConfig",
    "JwtConfig",
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


def _public_key(text: str) -> str:
    fitting(text, ASYMMETRIC)
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
    # A public key says which algorithms are possible, and those of a set may be of any kind; none
    # of them is a weak one, and each key is bound to the kind that it is of. HMAC is never among
    # them: a public key would then pass for the secret (CVE-2016-10555).
    if data.get("public_key") is not None:
        fit = fitting(data["public_key"], ASYMMETRIC)
        return tuple(name for name in ASYMMETRIC if name in fit)
    return SYMMETRIC[:1] if data.get("jwks_url") is None else ASYMMETRIC


_DATABASES = ("sqlite:///", "sqlite+aiosqlite:///", "postgresql://", "postgresql+asyncpg://")
Blank = BeforeValidator(blank_is_nothing)
Secret = Annotated[SecretStr, AfterValidator(_secret)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
DocumentUrl = Annotated[
    str, AfterValidator(check_document_url), Field(json_schema_extra={"format": "uri"})
]
Algorithms = Annotated[
    tuple[Algorithm, ...],
    BeforeValidator(listed, json_schema_input_type=Algorithm | list[Algorithm]),
]


class JwtConfig(Written):
    """How signed tokens are verified: with a secret, a public key, or a published set of keys."""

    secret: Annotated[Secret | None, Blank] = Field(
        default=None,
        description="For HS256 and its kin, at least 32 bytes; the gateway signs its own tokens"
        " with it. From the environment: ${JWT_SECRET_KEY}.",
    )
    public_key: Annotated[PublicKey | None, Blank] = Field(
        default=None,
        description="Instead: a public key or a certificate, PEM, or the path of a file that"
        " holds one.",
    )
    jwks_url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None, description="Instead: where an identity provider publishes its keys."
    )
    algorithms: Algorithms = Field(
        default_factory=_default_algorithms,
        description="Which a token may be signed with; when not set, HS256 beside a secret, else"
        " those that fit the key. Never a token's own choice.",
    )
    issuer: OneOrMany = Field(
        default=(), description="Who may have issued a token, one or a list; anybody when not set."
    )
    audience: OneOrMany = Field(
        default=(),
        description="Whom a token must be meant for, one of these; anybody when not set.",
    )
    leeway: Annotated[Duration, Field(le=MOST_LEEWAY)] = Field(
        default=0.0, description="How far the clocks of issuer and gateway may differ."
    )
    scopes_claim: OneOrMany = Field(
        default=("scope", "scopes"),
        description="Claims that hold the scopes, scope and scopes when not set; the first that a token"
        " has counts.",
    )
    roles_claim: OneOrMany = Field(
        default=("roles",),
        description="Claims that hold the roles, roles when not set; realm_access.roles is one inside"
        " another.",
    )

    @field_validator("public_key", "jwks_url")
    @classmethod
    def _one_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = [key for key in ("secret", "public_key") if info.data.get(key) is not None]
        if value is not None and others:
            msg = f"tokens are verified with one of secret, public_key, jwks_url: {others[0]} is set too"
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
        msg = f"{hmac[0]} goes with a secret only: beside public keys, everybody could sign"
        raise ValueError(msg)
    possible = others if public_key is None else fitting(public_key, ASYMMETRIC)
    for name in others:
        if name not in possible:
            msg = f"{name} does not fit the public key; write one of {', '.join(possible)}"
            raise ValueError(msg)


class IntrospectionConfig(Written):
    """Whom to ask about tokens that are not signed (RFC 7662)."""

    url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None, description="The endpoint that tells of a token; off when not set."
    )
    client_id: Annotated[str | None, Blank] = Field(
        default=None, description="Who the gateway is there."
    )
    client_secret: Annotated[SecretStr | None, Blank] = Field(
        default=None, description="What proves it."
    )
    cache: Duration = Field(default=30.0, description="How long an answer counts; 0s asks always.")

    @field_validator("client_secret")
    @classmethod
    def _with_a_name(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is not None and "client_id" in info.data and info.data["client_id"] is None:
            msg = "needs client_id beside it"
            raise ValueError(msg)
        return secret


class TokenRateLimitConfig(Written):
    """How often somebody may ask for a token: every time costs a password's hash."""

    rate: WrittenRate = Field(
        default=Rate(10, 60.0),
        description="How often, in the long run.",
        json_schema_extra={"default": "10/m"},
    )
    burst: Annotated[Whole, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="How often at once."
    )
    key: Literal["ip", "route"] = Field(
        default="ip", description="Counted for each address, or for all together."
    )


class TokensConfig(Written):
    """The gateway's own tokens, and the users who get them."""

    enabled: bool | None = Field(
        default=None,
        description="Whether there is a token endpoint; when not set, where there is a secret.",
    )
    expires: Annotated[Timeout, Field(ge=1.0)] = Field(
        default=1800.0, description="How long an access token counts."
    )
    refresh_expires: Annotated[Timeout, Field(ge=1.0)] = Field(
        default=30 * 86400.0,
        description="How long a refresh token counts.",
        json_schema_extra={"default": "30d"},
    )
    database: Annotated[SecretStr, AfterValidator(_database)] = Field(
        default=SecretStr("sqlite:///propylon.db"),
        description="Where users and refresh tokens are kept: SQLite or PostgreSQL.",
        json_schema_extra={"default": "sqlite:///propylon.db", "format": "uri"},
    )
    rate_limit: TokenRateLimitConfig = Field(
        default=TokenRateLimitConfig(), description="How often somebody may ask for a token."
    )


class AuthConfig(Written):
    """Who is asking: what tokens count, and who gives them out."""

    jwt: JwtConfig = Field(default=JwtConfig(), description="How signed tokens are verified.")
    introspection: IntrospectionConfig = Field(
        default=IntrospectionConfig(), description="Whom to ask about tokens that are not signed."
    )
    tokens: TokensConfig = Field(
        default=TokensConfig(), description="The gateway's own tokens, and the users who get them."
    )

    @property
    def verifies(self) -> bool:
        """Whether there is anything to verify tokens with."""
        jwt = self.jwt
        keys = (jwt.secret, jwt.public_key, jwt.jwks_url)
        return self.introspection.url is not None or any(key is not None for key in keys)

    @property
    def issues(self) -> bool:
        """Whether the gateway gives out tokens: on by default where there is a key to sign with."""
        enabled = self.tokens.enabled
        return self.jwt.secret is not None and (enabled is None or enabled)
