"""Define the models of the endpoints with which admins manage users."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from propylon.control.token_schemas import Me, short

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
    if name.casefold() == "me":
        msg = "is the path of the caller's own record: choose another name"
        raise ValueError(msg)
    return name


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
    scopes: list[str] = Field(
        default_factory=list, max_length=_MOST, description="The scopes.", examples=[["read"]]
    )
    roles: list[str] = Field(
        default_factory=list, max_length=_MOST, description="The roles.", examples=[["clerk"]]
    )
    email: str = Field(
        default="",
        max_length=254,
        description="The email address; empty: none.",
        examples=["ann@example.com"],
    )
    full_name: str = Field(
        default="",
        max_length=256,
        description="The full name; empty: none.",
        examples=["Ann Smith"],
    )
    disabled: bool = Field(
        default=False, description="Whether the user gets no tokens.", examples=[False]
    )
