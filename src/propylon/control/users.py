"""Tell users about themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from propylon.control.identity import require_scopes
from propylon.control.ports import Account, Accounts
from propylon.control.token_schemas import Me
from propylon.errors import Forbidden
from propylon.proxy.principal import Principal

__all__ = ["router"]


def router(prefix: str, accounts: Accounts | None) -> APIRouter:
    """Return the endpoints under `{prefix}/users`; without accounts, they know what tokens say."""
    routes = APIRouter(prefix=f"{prefix}/users", tags=["users"])

    @routes.get("/me", summary="Who is asking")
    async def me(response: Response, principal: Annotated[Principal, require_scopes("read")]) -> Me:
        response.headers["Cache-Control"] = "no-store"
        account = None if accounts is None else await accounts.find(principal.subject)
        # Names are looked up however they are capitalised, but the subject of another issuer's token that
        # only looks alike is somebody else.
        if account is None or account.username != principal.subject:
            return _claimed(principal)
        return _known(account)

    return routes


def _known(account: Account) -> Me:
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


def _claimed(principal: Principal) -> Me:
    """Return what the token says: its issuer knows more than we do."""
    return Me(
        username=principal.subject,
        email=principal.email or None,
        full_name=None,
        disabled=False,
        scopes=sorted(principal.scopes),
        roles=sorted(principal.roles),
    )
