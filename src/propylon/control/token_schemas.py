"""Define the forms and answers of the token endpoints, and the answer of `/users/me`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from propylon.control.form_schema import form_schema, without
from propylon.wire.grammar import SCOPE_TEXT

__all__ = [
    "Introspected",
    "IntrospectionForm",
    "Me",
    "OwnPassword",
    "RevocationEntry",
    "RevocationForm",
    "SessionAnswer",
    "TokenAnswer",
    "TokenForm",
    "UserChange",
]

_LONGEST_PASSWORD = 1024  # bytes: hashing a longer one would cost the gateway needless work
_SHORTEST_PASSWORD = 8  # characters; `stores.users` has the rule, and this is for the document
_PASSWORD = "correct horse"  # noqa: S105 — an example
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
_OPAQUE = "6f1d7a0c52e84b3b9a4e" + 76 * "0"


def _with_example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": values})


def printable(text: str | None) -> str | None:
    """Return a text without characters that cannot be printed. Raises ValueError."""
    # No valid name or scope contains such characters, so the database need not be asked.
    if text is not None and not text.isprintable():
        msg = "contains characters that cannot be printed"
        raise ValueError(msg)
    return text


def short(password: str | None) -> str | None:
    """Return a password that is short enough to be hashed. Raises ValueError."""
    if password is not None and len(password.encode("utf-8", "surrogatepass")) > _LONGEST_PASSWORD:
        msg = f"has more than {_LONGEST_PASSWORD} bytes"
        raise ValueError(msg)
    return password


_Name = Annotated[str | None, AfterValidator(printable), Field(max_length=256)]
# Most of what can be printed: `str.isprintable` is the rule, and no pattern says it.
_PRINTABLE = (
    r"^[ -~\u00a1-\u00ac\u00ae-\u024f\u0400-\u0481\u3041-\u3096\u4e00-\u9fcc\uac00-\ud7a3]*$"
)
# What most people write; the endpoint reads all of RFC 3339, and fractions of seconds.
_MOMENT = r"^([0-9]{1,10}|20[0-2][0-5]-(0[1-9]|1[0-2])-([01][1-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$"
_Token = Annotated[str, Field(min_length=1, max_length=8192)]
# A scope or a role. The store checks it, and its message says more; published, so that clients know.
Word = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{SCOPE_TEXT.pattern}$"})]
_Hint = Annotated[str | None, Field(max_length=64)]


class TokenForm(BaseModel):
    """A request for tokens: username and password, or a refresh token (RFC 6749, 4.3.2 and 6)."""

    model_config = form_schema(
        {"username": "ann", "password": _PASSWORD, "scope": "read write"},
        oneOf=[
            {
                "title": "Password",
                "properties": {"grant_type": {"const": "password"}},
                "required": ["username", "password"],
            },
            {
                "title": "Refresh",
                "properties": {"grant_type": {"const": "refresh_token"}},
                "required": ["grant_type", "refresh_token"],
            },
        ],
    )

    grant_type: Literal["password", "refresh_token"] = Field(
        default="password",
        description="What the client exchanges for the tokens.",
        examples=["password", "refresh_token"],
    )
    username: _Name = Field(
        default=None,
        description="The user; with `grant_type` `password`.",
        examples=["ann"],
        json_schema_extra={"minLength": 1, "pattern": _PRINTABLE},
    )
    password: Annotated[str | None, AfterValidator(short)] = Field(
        default=None,
        description="The user's password; with `grant_type` `password`.",
        examples=[_PASSWORD],
        json_schema_extra={"format": "password", "minLength": 1},
    )
    refresh_token: _Token | None = Field(
        default=None,
        description="The refresh token of the last answer; with `grant_type` `refresh_token`. It is valid once.",
        examples=[_OPAQUE],
    )
    scope: Annotated[str | None, AfterValidator(printable)] = Field(
        default=None,
        max_length=4096,
        description="The scopes that you ask for, separated by spaces. The gateway grants those that the"
        " user has. Without `scope` it grants all of them.",
        examples=["read write"],
        json_schema_extra={"pattern": _PRINTABLE},
    )


class TokenAnswer(BaseModel):
    """An access token, and a refresh token for the next one (RFC 6749, 5.1)."""

    model_config = _with_example(
        access_token=_JWT,
        token_type="bearer",  # noqa: S106 — the name of a scheme
        expires_in=1800,
        refresh_token=_OPAQUE,
        scope="read write",
    )

    access_token: str = Field(
        description="The access token, for `Authorization: Bearer`.", examples=[_JWT]
    )
    token_type: Literal["bearer"] = Field(
        default="bearer", description="How to send the token (RFC 6750).", examples=["bearer"]
    )
    expires_in: int = Field(
        description="Seconds for which the access token is valid.", examples=[1800]
    )
    refresh_token: str = Field(
        description="Valid once, for the next tokens. If it is used again after the grace, the whole login ends.",
        examples=[_OPAQUE],
    )
    scope: str = Field(
        description="The granted scopes, separated by spaces.", examples=["read write"]
    )


class RevocationForm(BaseModel):
    """The tokens to revoke: one (RFC 7009, 2.1); or, with the scope `admin`, many."""

    model_config = form_schema(
        {"token": _JWT},
        oneOf=[
            {
                "title": "One token",
                "required": ["token"],
                **without("subject", "issuer", "issued_before"),
            },
            {"title": "A subject's", "required": ["subject"], **without("token")},
            {
                "title": "All before a moment",
                "required": ["issued_before"],
                **without("token", "subject", "issuer"),
            },
        ],
    )

    token: _Token | None = Field(
        default=None,
        description="An access token, or a refresh token. A refresh token ends its whole login.",
        examples=[_JWT],
    )
    token_type_hint: _Hint = Field(
        default=None,
        description="Ignored: the token itself shows its kind.",
        examples=["refresh_token"],
    )
    subject: _Name = Field(
        default=None,
        description="Instead of `token`: revoke all tokens of this subject that were issued until now.",
        examples=["ann"],
        json_schema_extra={"minLength": 1, "pattern": _PRINTABLE},
    )
    issuer: str | None = Field(
        default=None,
        max_length=512,
        description="With `subject`: only the tokens of this issuer; empty for tokens that name none. Without it, the"
        " subject of every issuer.",
        examples=["https://login.example.com/"],
    )
    issued_before: str | None = Field(
        default=None,
        max_length=64,
        description="Instead of `token`: revoke all tokens that were issued before this moment; with"
        " `subject`, only that subject's. RFC 3339, or seconds since 1970.",
        examples=["2026-01-01T00:00:00Z", "1767225600"],
        json_schema_extra={"pattern": _MOMENT},
    )


class RevocationEntry(BaseModel):
    """A revocation in the database."""

    model_config = _with_example(
        id=7, kind="subject", value="ann", moment=1767225600.0, until=2083457602.0
    )

    id: int = Field(description="The number of the revocation.", examples=[7])
    kind: str = Field(
        description="`id` or `digest`: one token. `subject`: all of a subject. `all`: every token.",
        examples=["subject"],
    )
    value: str = Field(
        description="The id or digest of the token, or the subject; empty for every token.",
        examples=["ann"],
    )
    moment: float = Field(
        description="When the token expires, or before when the tokens were issued; seconds since 1970.",
        examples=[1767225600.0],
    )
    until: float = Field(
        description="When all tokens that it covers have expired; seconds since 1970.",
        examples=[2083457602.0],
    )


class SessionAnswer(BaseModel):
    """A login that goes on; times are seconds since 1970."""

    model_config = _with_example(
        id="6f1d7a0c52e84b3b9a4e6f1d7a0c52e8",
        begun=1767225600.0,
        refreshed=1767227400.0,
        expires=1769817600.0,
        address="192.0.2.1",
        scopes=["read"],
    )

    id: str = Field(
        description="The id of the login.", examples=["6f1d7a0c52e84b3b9a4e6f1d7a0c52e8"]
    )
    begun: float = Field(description="When the user gave the password.", examples=[1767225600.0])
    refreshed: float | None = Field(
        description="When a refresh token was last exchanged; null if never.",
        examples=[1767227400.0],
    )
    expires: float = Field(description="When the login ends.", examples=[1769817600.0])
    address: str | None = Field(
        description="The client's address at the login; null if unknown.", examples=["192.0.2.1"]
    )
    scopes: list[str] = Field(description="The scopes that were granted.", examples=[["read"]])


class UserChange(BaseModel):
    """What changes about a user; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"scopes": ["read"], "roles": ["clerk"]}}
    )

    password: Annotated[str | None, AfterValidator(short)] = Field(
        default=None,
        description="The new password.",
        examples=[_PASSWORD],
        json_schema_extra={"format": "password", "minLength": _SHORTEST_PASSWORD},
    )
    scopes: list[Word] | None = Field(
        default=None, description="The scopes from now on.", examples=[["read"]]
    )
    roles: list[Word] | None = Field(
        default=None, description="The roles from now on.", examples=[["clerk"]]
    )
    email: str | None = Field(
        default=None,
        description="The email address; empty: none.",
        examples=["ann@example.com"],
        json_schema_extra={"maxLength": 254, "pattern": r"^[\x21-\x7e]*$"},
    )
    full_name: str | None = Field(
        default=None,
        description="The full name; empty: none.",
        examples=["Ann Smith"],
        json_schema_extra={"maxLength": 256, "pattern": _PRINTABLE},
    )
    disabled: bool | None = Field(
        default=None, description="Whether the user gets no tokens.", examples=[True]
    )


class OwnPassword(BaseModel):
    """A new password for the user who is asking."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"current_password": _PASSWORD, "password": "battery staple"}
        },
    )

    current_password: Annotated[str, AfterValidator(short)] = Field(
        description="The password until now.",
        examples=[_PASSWORD],
        json_schema_extra={"format": "password"},
    )
    password: Annotated[str, AfterValidator(short)] = Field(
        description="The password from now on.",
        examples=["battery staple"],
        json_schema_extra={"format": "password", "minLength": _SHORTEST_PASSWORD},
    )


class IntrospectionForm(BaseModel):
    """The token to look at (RFC 7662, 2.1)."""

    model_config = form_schema({"token": _JWT})

    token: _Token = Field(description="An access token.", examples=[_JWT])
    token_type_hint: _Hint = Field(default=None, description="Ignored.", examples=["access_token"])


class Introspected(BaseModel):
    """What a token says (RFC 7662, 2.2). A token that is not valid gets only `active: false`."""

    model_config = _with_example(
        active=True,
        scope="read write",
        sub="ann",
        username="ann",
        token_type="bearer",  # noqa: S106 — the name of a scheme
        exp=1767227400,
        iat=1767225600,
        jti="Jm0fYTp2VQ",
        roles=["clerk"],
    )

    active: bool = Field(description="Whether the token is valid now.", examples=[True])
    scope: str | None = Field(
        default=None, description="The scopes, separated by spaces.", examples=["read write"]
    )
    sub: str | None = Field(default=None, description="The subject of the token.", examples=["ann"])
    username: str | None = Field(
        default=None, description="The name of the user; here the same as `sub`.", examples=["ann"]
    )
    token_type: str | None = Field(
        default=None, description="How the token is sent.", examples=["bearer"]
    )
    exp: int | float | None = Field(
        default=None,
        description="When the token expires, in seconds since 1970.",
        examples=[1767227400],
    )
    iat: int | float | None = Field(
        default=None,
        description="When the token was issued, in seconds since 1970.",
        examples=[1767225600],
    )
    jti: str | None = Field(
        default=None, description="The id of the token.", examples=["Jm0fYTp2VQ"]
    )
    iss: str | None = Field(
        default=None, description="The issuer of the token.", examples=["https://id.example.com"]
    )
    aud: str | list[str] | None = Field(
        default=None, description="The audience of the token.", examples=["orders"]
    )
    roles: list[str] | None = Field(
        default=None, description="The roles of the subject.", examples=[["clerk"]]
    )


class Me(BaseModel):
    """The user who is asking."""

    model_config = _with_example(
        username="ann",
        email="ann@example.com",
        full_name="Ann Smith",
        disabled=False,
        scopes=["read", "write"],
        roles=["clerk"],
    )

    username: str = Field(description="The subject of the token.", examples=["ann"])
    email: str | None = Field(description="null if unknown.", examples=["ann@example.com"])
    full_name: str | None = Field(description="null if unknown.", examples=["Ann Smith"])
    disabled: bool = Field(
        description="Whether the user is disabled, and gets no new tokens.", examples=[False]
    )
    scopes: list[str] = Field(description="The user's scopes.", examples=[["read", "write"]])
    roles: list[str] = Field(description="The user's roles.", examples=[["clerk"]])
