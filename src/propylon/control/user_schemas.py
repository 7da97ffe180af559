"""Define the models of the endpoints with which admins manage users."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from propylon.control.token_schemas import Me, Word, printable, short
from propylon.errors import InvalidRequest
from propylon.wire.spellings import fold, readings

__all__ = ["NewUser", "UserPage", "UserRecord"]

_PASSWORD = "correct horse"  # noqa: S105 — an example
_USER: dict[str, Any] = {
    "username": "ann",
    "email": "ann@example.com",
    "full_name": "Ann Smith",
    "disabled": False,
    "scopes": ["read", "write"],
    "roles": ["clerk"],
}
_MOST = 256  # scopes or roles: they stand in each token


def _name(name: str) -> str:
    """Return a name that leads to its user in a path, however services read that. Raises ValueError."""
    printable(name)
    try:
        found = readings(quote(name, safe="").encode())
    except InvalidRequest:
        found = [b"/"]
    if any(b"/" in reading for reading in found):
        msg = "cannot stand in a path: choose a name without slashes, and not . or .."
        raise ValueError(msg)
    if b"me" in map(fold, found):
        msg = "is the path of the caller's own record: choose another name"
        raise ValueError(msg)
    return name


# For readers of the document. The store takes any text that can be printed, an address without spaces, which no pattern
# can say.
_EMAIL = r"^[!-~\u00c0-\u024f]*$"
_FULL_NAME = r"^[ -~\u00c0-\u024f]*$"


class UserRecord(Me):
    """A user, as an admin sees it."""


class UserPage(BaseModel):
    """A page of users, sorted by name."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": [_USER], "next": "ann"}})

    users: list[UserRecord] = Field(description="The users.", examples=[[_USER]])
    next: str | None = Field(
        description="What to send as `after` for the next page; null on the last one.",
        examples=["ann"],
    )


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"username": "ann", "password": _PASSWORD, "scopes": ["read"]}
        },
    )

    username: Annotated[str, AfterValidator(_name), Field(min_length=1, max_length=128)] = Field(
        description="The name, without spaces. Capitals make no other user.", examples=["ann"]
    )
    password: Annotated[str, AfterValidator(short), Field(min_length=8)] = Field(
        description="The password: at least 8 characters.",
        examples=[_PASSWORD],
        json_schema_extra={"format": "password"},
    )
    scopes: list[Word] = Field(
        default_factory=list, max_length=_MOST, description="The scopes.", examples=[["read"]]
    )
    roles: list[Word] = Field(
        default_factory=list, max_length=_MOST, description="The roles.", examples=[["clerk"]]
    )
    email: str = Field(
        default="",
        max_length=254,
        description="The email address; empty: none.",
        examples=["ann@example.com"],
        json_schema_extra={"pattern": _EMAIL},
    )
    full_name: str = Field(
        default="",
        max_length=256,
        description="The full name; empty: none.",
        examples=["Ann Smith"],
        json_schema_extra={"pattern": _FULL_NAME},
    )
    disabled: bool = Field(
        default=False, description="Whether the user gets no tokens.", examples=[False]
    )
