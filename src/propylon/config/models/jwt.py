"""Define `auth.jwt`: how signed tokens are verified, an entry for each issuer."""

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
from propylon.config.models.token_syntax import check_token_type
from propylon.config.models.units import Duration
from propylon.proxy.authenticate.claims import MOST_LEEWAY

__all__ = ["ASYMMETRIC", "KEYS", "SYMMETRIC", "Blank", "DocumentUrl", "Jwt", "JwtConfig", "Secret"]

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


# The keys of which an entry has one.
KEYS = ("secret", "public_key", "jwks_url", "discovery_url")
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
        description="How long a token is accepted after its exp.",
    )
    skew: Annotated[Duration, Field(le=MOST_LEEWAY)] = Field(
        default=60.0,
        description="How far iat and nbf of a token may lie ahead of the gateway's clock. The larger of skew and leeway"
        " counts.",
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

    @property
    def signing_secret(self) -> bytes | None:
        """The secret that the gateway signs its own tokens with; None if there is none."""
        return None if self.secret is None else self.secret[0].get_secret_value().encode("utf-8")

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
