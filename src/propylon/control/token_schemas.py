"""Model what the token endpoints and `/users/me` speak."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "Introspected",
    "IntrospectionForm",
    "Me",
    "RevocationForm",
    "TokenAnswer",
    "TokenForm",
]

_LONGEST_PASSWORD = 1024  # bytes: more is work for whoever hashes it
_PASSWORD = "correct horse"  # noqa: S105 — an example
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
_OPAQUE = "6f1d7a0c52e84b3b9a4e" + 76 * "0"


def _shown(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": values})


def _plain(text: str | None) -> str | None:
    # What no name, scope or token has in it, no database need be asked for.
    if text is not None and not text.isprintable():
        msg = "has characters in it that cannot be seen"
        raise ValueError(msg)
    return text


def _short(password: str | None) -> str | None:
    if password is not None and len(password.encode("utf-8", "surrogatepass")) > _LONGEST_PASSWORD:
        msg = f"has more than {_LONGEST_PASSWORD} bytes"
        raise ValueError(msg)
    return password


_Name = Annotated[str | None, AfterValidator(_plain), Field(max_length=256)]
_Token = Annotated[str, Field(max_length=8192)]
_Hint = Annotated[str | None, Field(max_length=64)]


class TokenForm(BaseModel):
    """What is sent for a token: a username and a password, or a refresh token (RFC 6749, 4.3.2 and 6)."""

    model_config = _shown(username="ann", password=_PASSWORD, scope="read write")

    grant_type: Literal["password", "refresh_token"] = Field(
        default="password",
        description="What is exchanged for the token.",
        examples=["password", "refresh_token"],
    )
    username: _Name = Field(
        default=None, description="Whose token; with `password`.", examples=["ann"]
    )
    password: Annotated[str | None, AfterValidator(_short)] = Field(
        default=None,
        description="Theirs; with `password`.",
        examples=[_PASSWORD],
        json_schema_extra={"format": "password"},
    )
    refresh_token: _Token | None = Field(
        default=None,
        description="What the last answer gave; with `refresh_token`. It is good once.",
        examples=[_OPAQUE],
    )
    scope: Annotated[str | None, AfterValidator(_plain)] = Field(
        default=None,
        max_length=4096,
        description="What the token should be good for, separated by spaces; granted are those that the"
        " user has. Without it: all of them.",
        examples=["read write"],
    )


class TokenAnswer(BaseModel):
    """A token, and how to get the next one (RFC 6749, 5.1)."""

    model_config = _shown(
        access_token=_JWT,
        token_type="bearer",  # noqa: S106 — the name of a scheme
        expires_in=1800,
        refresh_token=_OPAQUE,
        scope="read write",
    )

    access_token: str = Field(description="For `Authorization: Bearer`.", examples=[_JWT])
    token_type: Literal["bearer"] = Field(
        default="bearer", description="How it is used (RFC 6750).", examples=["bearer"]
    )
    expires_in: int = Field(description="Seconds that it counts.", examples=[1800])
    refresh_token: str = Field(
        description="Good once, for the next token. Used twice, it ends the whole login.",
        examples=[_OPAQUE],
    )
    scope: str = Field(
        description="What it is good for, separated by spaces.", examples=["read write"]
    )


class RevocationForm(BaseModel):
    """What is taken back: one token (RFC 7009, 2.1); or, with scope `admin`, many."""

    model_config = _shown(token=_JWT)

    token: _Token | None = Field(
        default=None,
        description="An access token, or a refresh token; with that one, all that came of its login.",
        examples=[_JWT],
    )
    token_type_hint: _Hint = Field(
        default=None,
        description="`access_token` or `refresh_token`; any other is ignored.",
        examples=["refresh_token"],
    )
    subject: _Name = Field(
        default=None,
        description="Instead: all tokens of this subject that were issued until now.",
        examples=["ann"],
    )
    issued_before: str | None = Field(
        default=None,
        max_length=64,
        description="Instead: all tokens that were issued before; with `subject`, all of that"
        " subject. RFC 3339, or seconds since 1970.",
        examples=["2026-01-01T00:00:00Z", "1767225600"],
    )


class IntrospectionForm(BaseModel):
    """The token in question (RFC 7662, 2.1)."""

    model_config = _shown(token=_JWT)

    token: _Token = Field(description="An access token.", examples=[_JWT])
    token_type_hint: _Hint = Field(default=None, description="Ignored.", examples=["access_token"])


class Introspected(BaseModel):
    """What a token says (RFC 7662, 2.2); of one that is not good, only that."""

    model_config = _shown(
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

    active: bool = Field(description="Whether it counts now.", examples=[True])
    scope: str | None = Field(
        default=None, description="Separated by spaces.", examples=["read write"]
    )
    sub: str | None = Field(default=None, description="Whose it is.", examples=["ann"])
    username: str | None = Field(default=None, description="As people know them.", examples=["ann"])
    token_type: str | None = Field(default=None, description="How it is used.", examples=["bearer"])
    exp: int | float | None = Field(
        default=None, description="When it expires, seconds since 1970.", examples=[1767227400]
    )
    iat: int | float | None = Field(
        default=None, description="When it was issued, seconds since 1970.", examples=[1767225600]
    )
    jti: str | None = Field(default=None, description="Its id.", examples=["Jm0fYTp2VQ"])
    iss: str | None = Field(
        default=None, description="Who issued it.", examples=["https://id.example.com"]
    )
    aud: str | list[str] | None = Field(
        default=None, description="Whom it is meant for.", examples=["orders"]
    )
    roles: list[str] | None = Field(
        default=None, description="Roles of the subject.", examples=[["clerk"]]
    )


class Me(BaseModel):
    """Who is asking."""

    model_config = _shown(
        username="ann",
        email="ann@example.com",
        full_name="Ann Smith",
        disabled=False,
        scopes=["read", "write"],
        roles=["clerk"],
    )

    username: str = Field(description="The subject of the token.", examples=["ann"])
    email: str | None = Field(description="null if not known.", examples=["ann@example.com"])
    full_name: str | None = Field(description="null if not known.", examples=["Ann Smith"])
    disabled: bool = Field(description="Whether they get no more tokens.", examples=[False])
    scopes: list[str] = Field(description="Of the user.", examples=[["read", "write"]])
    roles: list[str] = Field(description="Of the user.", examples=[["clerk"]])
