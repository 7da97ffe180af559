"""Serve `GET {prefix}/users/me`: the caller's own user record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Response

from propylon.control.identity import require_scopes
from propylon.control.ports import Account, Accounts
from propylon.control.token_schemas import Me
from propylon.errors import Forbidden
from propylon.proxy.principal import Principal

__all__ = ["router"]


def router(
    prefix: str, accounts: Accounts | None, own_issuer: Callable[[], str] = lambda: ""
) -> APIRouter:
    """Return the endpoints under `{prefix}/users`. Without accounts they answer from the token's claims.

    `own_issuer` returns the issuer that the gateway's own tokens name; empty if they name none.
    """
    routes = APIRouter(prefix=f"{prefix}/users", tags=["users"])

    @routes.get("/me", summary="The user who is asking")
    async def me(response: Response, principal: Annotated[Principal, require_scopes("read")]) -> Me:
        response.headers["Cache-Control"] = "no-store"
        # Another issuer's subject may have the name of one of our users, and is another person.
        ours = accounts is not None and principal.issuer == own_issuer()
        account = await accounts.find(principal.subject) if accounts is not None and ours else None
        # Names are looked up in any capitals. So a token of another issuer, for "Ann", must not get the record
        # of our user "ann".
        if account is None or account.username != principal.subject:
            return _from_claims(principal)
        return _from_account(account)

    return routes


def _from_account(account: Account) -> Me:
    if account.disabled:
        msg = "This user is disabled"
        raise Forbidden(msg)
    return Me(
        username=account.username,
        email=account.email or None,
        full_name=account.full_name or None,
        disabled=account.disabled,
        scopes=sorted(account.scopes),
        roles=sorted(account.roles),
    )


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
