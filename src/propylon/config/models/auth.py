"""Define the section `auth`: which tokens are accepted, and how the gateway issues its own."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.base import ConfigModel, OneOrMany
from propylon.config.models.jwt import Blank, DocumentUrl, Jwt, JwtConfig
from propylon.config.models.token_syntax import check_carrier
from propylon.config.models.units import (
    Duration,
    Rate,
    Timeout,
    Whole,
    WrittenRate,
    is_false,
    is_true,
)

__all__ = [
    "WHILE_USERS",
    "AuthConfig",
    "IntrospectionConfig",
    "RevocationConfig",
    "TokenRateLimitConfig",
    "TokensConfig",
]


def _database(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text.startswith("postgres://"):
        msg = "must start with postgresql://, not postgres://"
        raise ValueError(msg)
    if not text.startswith(_DATABASES):
        msg = 'must be the URL of a database: "sqlite:///propylon.db", "postgresql://host/name"'
        raise ValueError(msg)
    return url


def _enabled(value: object) -> object:
    if value is None or value == WHILE_USERS:
        return value
    if is_true(value) or is_false(value):
        return is_true(value)
    msg = f"must be true, false or {WHILE_USERS}"
    raise ValueError(msg)


def _carriers(places: tuple[str, ...]) -> tuple[str, ...]:
    if not places:
        msg = "is empty; write header, cookie:NAME or header:NAME"
        raise ValueError(msg)
    for place in places:
        check_carrier(place)
    if len({place.lower() for place in places}) != len(places):
        msg = "names the same place twice"
        raise ValueError(msg)
    return places


_DATABASES = ("sqlite:///", "sqlite+aiosqlite:///", "postgresql://", "postgresql+asyncpg://")
WHILE_USERS: Literal["users"] = "users"
"""Of `auth.tokens.enabled`: there is a token endpoint while there are users."""
# Seconds. Okta allows a minute at most; in a longer grace a stolen token would pass unnoticed.
MOST_GRACE = 60.0


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

    enabled: Annotated[bool | Literal["users"] | None, BeforeValidator(_enabled)] = Field(
        default=None,
        description="Whether there is a token endpoint. users: while there are users, which is looked at every second. When"
        " not set: if there is a secret to sign with; without a file, as users, unless ACCESS_TOKEN_EXPIRE_MINUTES is set.",
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

    jwt: Jwt = Field(
        default=JwtConfig(),
        description="How signed tokens are verified. With several issuers: a list, an entry for each; the first with a"
        " secret signs the gateway's own tokens.",
    )
    carriers: Annotated[OneOrMany, AfterValidator(_carriers)] = Field(
        default=("header",),
        alias="from",
        description="Where the token is looked for, in this order: header (Authorization), cookie:NAME, header:NAME. When not"
        " set: header.",
    )
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
        return self.introspection.url is not None or any(jwt.verifies for jwt in self.jwt.entries)

    @property
    def issuers(self) -> tuple[str, ...]:
        """The issuers that the file names, in its order."""
        return tuple(issuer for jwt in self.jwt.entries for issuer in jwt.issuer)

    @property
    def several_issuers(self) -> bool:
        """Whether tokens of more than one issuer are accepted: then a subject alone does not say who it is."""
        return len(self.jwt.entries) > 1 or len(self.jwt.issuer) > 1

    @property
    def issues(self) -> bool:
        """Whether the gateway may issue tokens: by default if there is a secret to sign with."""
        return self.jwt.secret is not None and self.tokens.enabled is not False

    @property
    def issues_while_users(self) -> bool:
        """Whether the gateway issues tokens only while there are users."""
        return self.issues and self.tokens.enabled == WHILE_USERS
