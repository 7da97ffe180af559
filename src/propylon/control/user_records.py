"""List, read, add, change and remove users, for callers that `admin` permits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.etags import (
    CHANGED,
    UNCHANGED,
    IfMatch,
    IfNoneMatch,
    etag_of,
    fits,
    tagged,
)
from propylon.control.pages import lead_on
from propylon.control.ports import Account, Accounts
from propylon.control.schemas import Envelope
from propylon.control.token_schemas import UserChange
from propylon.control.user_schemas import NewUser, UserPage, UserRecord
from propylon.errors import NotFound

__all__ = ["NO_USER", "Name", "add_user_records"]

NO_USER = "No such user"
_MOST = 200  # users on a page
_PAGE = 50

Name = Annotated[
    str,
    Path(
        description="The name of the user, in any capitals.",
        examples=["ann"],
        min_length=1,
        max_length=128,
    ),
]
_Word = Annotated[str, Query(max_length=256)]
_ABSENT: dict[int | str, dict[str, Any]] = {
    404: {"model": Envelope, "description": "There is no such user."}
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": Envelope, "description": "There is a user of this name already."}
}
_LAST: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Envelope,
        "description": "This is the last user who may administer the gateway; `propylon user` can do it.",
    }
}


def add_user_records(
    routes: APIRouter, accounts: Accounts, gate: AdminGate, trail: AuditTrail
) -> None:
    """Add the endpoints."""
    _add_reading(routes, accounts, gate)
    _add_adding(routes, accounts, gate, trail)
    _add_changing(routes, accounts, gate, trail)


def _add_reading(routes: APIRouter, accounts: Accounts, gate: AdminGate) -> None:
    admin = [gate.requires()]

    @routes.get(
        "",
        summary="List users",
        description="Sorted by name, a page at a time. The header `Link` leads to the next page (RFC 8288).",
        dependencies=admin,
        response_model=UserPage,
        responses=UNCHANGED,
    )
    async def users(
        request: Request,
        response: Response,
        limit: Annotated[
            int, Query(ge=1, le=_MOST, description="Users on a page.", examples=[_PAGE])
        ] = _PAGE,
        after: Annotated[
            _Word,
            Query(
                description="Only users behind this name: `next` of the page before.",
                examples=["ann"],
            ),
        ] = "",
        username: Annotated[
            _Word,
            Query(description="Only users whose names begin so, in any capitals.", examples=["an"]),
        ] = "",
        disabled: Annotated[
            bool | None,
            Query(description="Only users that are disabled, or that are not.", examples=[False]),
        ] = None,
        scope: Annotated[
            _Word, Query(description="Only users with this scope.", examples=["read"])
        ] = "",
        role: Annotated[
            _Word, Query(description="Only users with this role.", examples=["clerk"])
        ] = "",
        if_none_match: IfNoneMatch = None,
    ) -> UserPage | Response:
        found = await accounts.page(
            limit + 1, after=after, prefix=username, disabled=disabled, scope=scope, role=role
        )
        more = len(found) > limit
        page = UserPage(
            users=[record(account) for account in found[:limit]],
            next=found[limit - 1].username if more else None,
        )
        response.headers["Cache-Control"] = "no-store"
        lead_on(request, response, page.next)
        return tagged(response, if_none_match, etag_of(page)) or page

    @routes.get(
        "/{name}",
        summary="Read a user",
        dependencies=admin,
        response_model=UserRecord,
        responses=UNCHANGED | _ABSENT,
    )
    async def user(
        name: Name, response: Response, if_none_match: IfNoneMatch = None
    ) -> UserRecord | Response:
        account = await accounts.find(name)
        if account is None:
            raise NotFound(NO_USER)
        response.headers["Cache-Control"] = "no-store"
        shown = record(account)
        return tagged(response, if_none_match, etag_of(shown)) or shown


def _add_adding(routes: APIRouter, accounts: Accounts, gate: AdminGate, trail: AuditTrail) -> None:
    @routes.post(
        "",
        summary="Add a user",
        description="The header `Location` has the path of the new user.",
        status_code=201,
        dependencies=[gate.requires()],
        responses=_TAKEN,
    )
    async def add_user(request: Request, user: NewUser, response: Response) -> UserRecord:
        with trail.of(request, "add_user", f"user:{user.username}"):
            account = await accounts.create(**_values(user))
        shown = record(account)
        response.headers["Cache-Control"] = "no-store"
        response.headers["ETag"] = etag_of(shown)
        path = request.url.path.rstrip("/")
        response.headers["Location"] = f"{path}/{quote(account.username, safe='')}"
        return shown


def _add_changing(
    routes: APIRouter, accounts: Accounts, gate: AdminGate, trail: AuditTrail
) -> None:
    admin = [gate.requires()]

    def is_admin(account: Account) -> bool:
        return gate.admits(account.scopes, account.roles)

    @routes.patch(
        "/{name}",
        summary="Change a user",
        description="A new password, fewer scopes or roles, and `disabled` end the user's logins and revoke the tokens"
        " that were issued before.",
        dependencies=admin,
        responses=_ABSENT | _LAST | CHANGED,
    )
    async def change_user(
        request: Request,
        name: Name,
        change: UserChange,
        response: Response,
        if_match: IfMatch = None,
    ) -> UserRecord:
        response.headers["Cache-Control"] = "no-store"
        with trail.of(request, "change_user", f"user:{name}"):
            account = await accounts.modify(name, _unchanged(if_match), is_admin, **_values(change))
            if account is None:
                raise NotFound(NO_USER)
        shown = record(account)
        response.headers["ETag"] = etag_of(shown)
        return shown

    @routes.delete(
        "/{name}",
        summary="Remove a user",
        description="The user's logins end, and the tokens that were issued to the user are revoked.",
        status_code=204,
        dependencies=admin,
        responses=_ABSENT | _LAST | CHANGED,
    )
    async def remove_user(request: Request, name: Name, if_match: IfMatch = None) -> None:
        with trail.of(request, "remove_user", f"user:{name}"):
            if not await accounts.discard(name, _unchanged(if_match), is_admin):
                raise NotFound(NO_USER)


def record(account: Account) -> UserRecord:
    """Return a user as it is shown."""
    return UserRecord(
        username=account.username,
        email=account.email or None,
        full_name=account.full_name or None,
        disabled=account.disabled,
        scopes=sorted(account.scopes),
        roles=sorted(account.roles),
    )


def _unchanged(sent: list[str] | None) -> Callable[[Account], bool]:
    """Return what tells whether a user is still as If-Match says: asked in the transaction that changes it."""
    return lambda account: fits(sent, etag_of(record(account)))


def _values(said: NewUser | UserChange) -> dict[str, Any]:
    values = said.model_dump(exclude_none=True)
    for key in {"scopes", "roles"} & values.keys():
        values[key] = frozenset(values[key])
    return values
