"""Serve `{prefix}/users`: the caller's own record and password; for `admin` the users and their sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Request, Response

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.control.identity import client_of, current_principal, require_scopes
from propylon.control.ports import Account, Accounts, Grants
from propylon.control.sessions import Sessions
from propylon.control.token_schemas import Me, OwnPassword, SessionAnswer
from propylon.control.user_records import NO_USER, Name, add_user_records, record
from propylon.errors import Forbidden, NotFound
from propylon.proxy.principal import Principal

__all__ = ["router"]


def router(
    prefix: str,
    accounts: Accounts | None,
    grants: Grants | None = None,
    sessions: Sessions | None = None,
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
    own_issuer: Callable[[], str] = lambda: "",
) -> APIRouter:
    """Return the endpoints under `{prefix}/users`. Without accounts there is only `me`, from the token's claims.

    `gate` says who may change other users: by default, callers with the scope `admin`. `own_issuer` returns the issuer
    that the gateway's own tokens name; empty if they name none.
    """
    gate, trail = gate or AdminGate(), trail or AuditTrail()
    routes = APIRouter(prefix=f"{prefix}/users", tags=["users"])

    @routes.get("/me", summary="The user who is asking")
    async def me(response: Response, principal: Annotated[Principal, require_scopes("read")]) -> Me:
        response.headers["Cache-Control"] = "no-store"
        account = None if accounts is None else await _own(accounts, principal, own_issuer())
        return _from_claims(principal) if account is None else _from_account(account)

    if accounts is not None and sessions is not None:
        _add_own_password(routes, accounts, sessions, trail, own_issuer)
    if accounts is not None and grants is not None:
        add_user_records(routes, accounts, gate, trail)
        _add_sessions(routes, accounts, grants, gate, trail)
    return routes


def _add_own_password(
    routes: APIRouter,
    accounts: Accounts,
    sessions: Sessions,
    trail: AuditTrail,
    own_issuer: Callable[[], str],
) -> None:
    @routes.patch(
        "/me",
        summary="Change your own password",
        description="All your logins end, and all your tokens are revoked. Log in again.",
        status_code=204,
    )
    async def change_own(
        request: Request,
        change: OwnPassword,
        principal: Annotated[Principal, current_principal],
    ) -> None:
        with trail.of(request, "change_password", f"user:{principal.subject}"):
            account = await _own(accounts, principal, own_issuer())
            if account is None:
                raise NotFound(NO_USER)
            # Whoever has found an open browser does not know the password.
            address = client_of(request)
            await sessions.check_password(account.username, change.current_password, address)
            await accounts.modify(account.username, password=change.password)


def _add_sessions(
    routes: APIRouter,
    accounts: Accounts,
    grants: Grants,
    gate: AdminGate,
    trail: AuditTrail,
) -> None:
    admin = [gate.requires()]

    @routes.get("/{name}/sessions", summary="The sessions of a user", dependencies=admin)
    async def sessions_of(name: Name, response: Response) -> list[SessionAnswer]:
        response.headers["Cache-Control"] = "no-store"
        account = await _found(accounts, name)
        return [
            SessionAnswer(
                id=login.id,
                begun=login.begun,
                refreshed=login.renewed,
                expires=login.expires,
                address=login.address or None,
                scopes=sorted(login.scopes),
            )
            for login in await grants.logins(account.username)
        ]

    @routes.delete(
        "/{name}/sessions", summary="End all sessions", dependencies=admin, status_code=204
    )
    async def end_all(request: Request, name: Name) -> None:
        with trail.of(request, "end_sessions", f"user:{name}"):
            account = await _found(accounts, name)
            for login in await grants.logins(account.username):
                await grants.end(login.id)

    @routes.delete(
        "/{name}/sessions/{id}", summary="End a session", dependencies=admin, status_code=204
    )
    async def end_one(
        request: Request,
        name: Name,
        id: str,  # noqa: A002 — the name in the path
    ) -> None:
        with trail.of(request, "end_session", f"user:{name}"):
            account = await _found(accounts, name)
            if id not in {login.id for login in await grants.logins(account.username)}:
                msg = "No such session"
                raise NotFound(msg)
            await grants.end(id)


async def _found(accounts: Accounts, name: Name) -> Account:
    account = await accounts.find(name)
    if account is None:
        raise NotFound(NO_USER)
    return account


async def _own(accounts: Accounts, principal: Principal, own_issuer: str) -> Account | None:
    # Another issuer's subject may have the name of one of our users, and is another person.
    if principal.issuer != own_issuer:
        return None
    account = await accounts.find(principal.subject)
    # Names are looked up in any capitals. So a token of another issuer, for "Ann", must not get the record
    # of our user "ann".
    return account if account is not None and account.username == principal.subject else None


def _from_account(account: Account) -> Me:
    if account.disabled:
        msg = "This user is disabled"
        raise Forbidden(msg)
    return record(account)


def _from_claims(principal: Principal) -> Me:
    """Return what the token says. Another issuer signed it, so the gateway has no record of the user."""
    return Me(
        username=principal.subject,
        email=principal.email or None,
        full_name=None,
        disabled=False,
        scopes=sorted(principal.scopes),
        roles=sorted(principal.roles),
    )
