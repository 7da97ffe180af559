"""Define the section `auth`: which tokens are accepted, and how the gateway issues its own."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.base import ConfigModel, OneOrMany, as_list, blank_to_none
from propylon.config.models.keys import check_secret, fitting_algorithms
from propylon.config.models.syntax import check_document_url
from propylon.config.models.token_syntax import check_carrier, check_token_type
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
    fetched = (data.get("jwks_url"), data.get("discovery_url"))
    return SYMMETRIC[:1] if fetched == (None, None) else ASYMMETRIC


def _not_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        msg = "is empty; leave it out for sub"
        raise ValueError(msg)
    return names


def _token_type(text: str | None) -> str | None:
    return None if text is None else check_token_type(text)


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


# The keys of which an entry has one.
KEYS = ("secret", "public_key", "jwks_url", "discovery_url")
_DATABASES = ("sqlite:///", "sqlite+aiosqlite:///", "postgresql://", "postgresql+asyncpg://")
Blank = BeforeValidator(blank_to_none)
Secret = Annotated[SecretStr, AfterValidator(_secret)]
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

    secret: Annotated[Secret | None, Blank] = Field(
        default=None,
        description="Shared secret for HS256, HS384 and HS512, at least 32 bytes. The gateway also signs its own"
        " tokens with it. Better in the environment: ${JWT_SECRET_KEY}.",
    )
    public_key: Annotated[PublicKey | None, Blank] = Field(
        default=None,
        description="Instead of a secret: a public key or certificate in PEM, or the path of a file with one.",
    )
    jwks_url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None,
        description="Instead of a secret: the URL where an identity provider publishes its keys.",
    )
    discovery_url: Annotated[DocumentUrl | None, Blank] = Field(
        default=None,
        description="Instead of a secret: the URL of an identity provider's document, which ends with"
        " /.well-known/openid-configuration. The gateway reads the issuer and the address of the keys from it.",
    )
    algorithms: Algorithms = Field(
        default_factory=_default_algorithms,
        description="Algorithms that a token may be signed with. When not set: HS256 for a secret, else those that"
        " fit the key.",
    )
    issuer: OneOrMany = Field(
        default=(),
        description="Accepted values of the claim iss, one or a list; any when not set. With discovery_url: the one in"
        " the document.",
    )
    audience: OneOrMany = Field(
        default=(),
        description="Accepted values of the claim aud; a token must have one of them. Any when not set.",
    )
    leeway: Annotated[Duration, Field(le=MOST_LEEWAY)] = Field(
        default=0.0,
        description="How far the clocks of issuer and gateway may differ; applies to exp, nbf and iat.",
    )
    scopes_claim: OneOrMany = Field(
        default=("scope", "scopes"),
        description="Claims with the scopes; all that a token has count. When not set: scope, scopes.",
    )
    roles_claim: OneOrMany = Field(
        default=("roles",),
        description="Claims with the roles; all that a token has count. realm_access.roles is a claim inside another."
        " When not set: roles.",
    )
    subject_claim: Annotated[OneOrMany, AfterValidator(_not_empty)] = Field(
        default=("sub",),
        description="Claims with the subject, one or a list; the first that a token has counts. user.id is a claim inside"
        " another. When not set: sub.",
    )
    require_typ: Annotated[str | None, Blank, AfterValidator(_token_type)] = Field(
        default=None,
        description="The only typ that a token's header may have, such as at+jwt (RFC 9068). When not set: any that does"
        " not name another kind of token.",
    )

    # All entries of a list under `auth.jwt`; kept by the entry that signs.
    _listed: tuple["JwtConfig", ...] = PrivateAttr(default=())

    @property
    def entries(self) -> tuple["JwtConfig", ...]:
        """All entries of `auth.jwt`, in the order of the file."""
        return self._listed or (self,)

    @property
    def is_list(self) -> bool:
        """Whether the file has a list of entries."""
        return bool(self._listed)

    def listed(self, entries: "tuple[JwtConfig, ...]") -> "JwtConfig":
        """Return this entry as the one that stands for the whole list."""
        copy = self.model_copy()
        copy._listed = entries  # noqa: SLF001 — of its own class
        return copy

    @property
    def verifies(self) -> bool:
        """Whether there is a key, or an address of keys."""
        return any(getattr(self, name) is not None for name in KEYS)

    @field_validator(*KEYS[1:])
    @classmethod
    def _one_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = [key for key in KEYS if info.data.get(key) is not None]
        if value is not None and others:
            msg = f"only one of {', '.join(KEYS)} can be set, and {others[0]} is set, too"
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
    if hmac and (others or any(keys.get(name) is not None for name in KEYS[1:])):
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
    database: Annotated[SecretStr, AfterValidator(_database)] = Field(
        default=SecretStr("sqlite:///propylon.db"),
        description="Database of users and refresh tokens: SQLite or PostgreSQL.",
        json_schema_extra={"default": "sqlite:///propylon.db", "format": "uri"},
    )
    rate_limit: TokenRateLimitConfig = Field(
        default=TokenRateLimitConfig(), description="How often a client may ask for a token."
    )


_ENTRIES: TypeAdapter[tuple[JwtConfig, ...]] = TypeAdapter(tuple[JwtConfig, ...])


def _one_or_several(written: object) -> object:
    if not isinstance(written, list | tuple):
        return written
    if not written:
        msg = "is an empty list; write an entry with a key, or leave it out"
        raise ValueError(msg)
    entries = _ENTRIES.validate_python(written)
    # The entry that signs stands for all: the first with a secret.
    signing = [entry for entry in entries if entry.secret is not None]
    return (*signing, entries[0])[0].listed(entries)


Jwt = Annotated[
    JwtConfig,
    BeforeValidator(_one_or_several, json_schema_input_type=JwtConfig | list[JwtConfig]),
]


class AuthConfig(ConfigModel):
    """Which tokens are accepted, and how the gateway issues its own."""

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
        """Whether the gateway issues tokens: by default if there is a secret to sign with."""
        enabled = self.tokens.enabled
        return self.jwt.secret is not None and (enabled is None or enabled)
