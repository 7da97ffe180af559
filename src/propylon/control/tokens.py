"""Serve `{prefix}/auth`: issue tokens (RFC 6749, 4.3 and 6), revoke them (RFC 7009), introspect them (RFC 7662).

The endpoints check the form; `sessions`, `revoke` and `introspect` do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request, Response

from propylon.control.identity import (
    bearer_in_document,
    caller_of,
    client_of,
    require_scopes,
)
from propylon.control.introspect import introspect
from propylon.control.ports import Accounts, Grants, Revoker, Verify
from propylon.control.revoke import ADMIN, INVALID_FORM, RevocationEndpoint
from propylon.control.sessions import Session, Sessions
from propylon.control.token_schemas import (
    Introspected,
    IntrospectionForm,
    RevocationEntry,
    RevocationForm,
    TokenAnswer,
    TokenForm,
)
from propylon.errors import InvalidFields, NotFound

__all__ = ["router"]

_ONE_OR_MANY = "send a token, or subject and issued_before: not both"
_MISSING = "Field required"  # pydantic's words


def router(
    prefix: str,
    *,
    verify: Verify,
    revoker: Revoker,
    clock: Callable[[], float],
    sessions: Sessions | None = None,
    grants: Grants | None = None,
    accounts: Accounts | None = None,
) -> APIRouter:
    """Return the endpoints under `{prefix}/auth`; without `sessions` there is no token endpoint.

    `verify` verifies access tokens; `clock` is the wall clock.
    """
    routes = APIRouter(prefix=f"{prefix}/auth", tags=["tokens"])
    if sessions is not None:
        _add_token(routes, sessions)
    _add_revoke(routes, RevocationEndpoint(verify, revoker, grants, clock, accounts))
    _add_revocations(routes, revoker)
    _add_introspect(routes, verify)
    return routes


def _add_token(routes: APIRouter, sessions: Sessions) -> None:
    @routes.post("/token", summary="Get a token for a password, or for a refresh token")
    async def token(
        request: Request, response: Response, form: Annotated[TokenForm, Form()]
    ) -> TokenAnswer:
        await _check_once(request)
        session = await _session(sessions, form, client_of(request))
        _no_store(response)
        return TokenAnswer(
            access_token=session.access.token,
            expires_in=int(session.access.life),
            refresh_token=session.refresh,
            scope=" ".join(sorted(session.scopes)),
        )


async def _session(sessions: Sessions, form: TokenForm, address: str) -> Session:
    requested = None if form.scope is None else frozenset(form.scope.split())
    if form.grant_type == "refresh_token":
        (refresh,) = _required(refresh_token=form.refresh_token)
        return await sessions.renew(refresh, requested, address)
    username, password = _required(username=form.username, password=form.password)
    return await sessions.begin(username, password, requested, address)


def _add_revoke(routes: APIRouter, revocation: RevocationEndpoint) -> None:
    @routes.post(
        "/revoke",
        summary="Revoke a token, or many",
        description="Revokes a token of your own. A refresh token needs no other token beside it. With the scope `admin` it revokes any token, all tokens of a"
        " subject, or all that were issued before a moment. An unknown or invalid token is no error.",
        response_class=Response,
        dependencies=[bearer_in_document],
    )
    async def revoke(request: Request, form: Annotated[RevocationForm, Form()]) -> Response:
        await _check_once(request)
        caller = caller_of(request)
        if form.subject is not None or form.issued_before is not None:
            if form.token is not None:
                raise _invalid_form(token=_ONE_OR_MANY)
            await revocation.check_known(caller, request.headers.get("authorization"))
            await revocation.revoke_many(form.subject, form.issued_before, caller)
        else:
            (token,) = _required(token=form.token)
            if not await revocation.end_login(token):
                await revocation.check_known(caller, request.headers.get("authorization"))
                await revocation.revoke_token(token, caller)
        return _no_store(Response())


def _add_revocations(routes: APIRouter, revoker: Revoker) -> None:
    @routes.get(
        "/revocations", summary="The revocations in force", dependencies=[require_scopes(ADMIN)]
    )
    async def revocations(
        response: Response,
        after: Annotated[int, Query(ge=0, description="The last `id` of the page before.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="Entries on a page.")] = 100,
    ) -> list[RevocationEntry]:
        _no_store(response)
        return [
            RevocationEntry(
                id=entry.id,
                kind=entry.revocation.kind.value,
                value=entry.revocation.value,
                moment=entry.revocation.moment,
                until=entry.until,
            )
            for entry in await revoker.entries(after=after, limit=limit)
        ]

    @routes.delete(
        "/revocations/{id}",
        summary="Take a revocation back",
        description="The tokens are accepted again. Logins that the revocation ended stay ended.",
        dependencies=[require_scopes(ADMIN)],
        status_code=204,
    )
    async def take_back(
        number: Annotated[int, Path(alias="id", ge=1, le=2**63 - 1)],
    ) -> None:
        if not await revoker.take_back(number):
            msg = "No such revocation"
            raise NotFound(msg)


def _add_introspect(routes: APIRouter, verify: Verify) -> None:
    @routes.post(
        "/introspect",
        summary="Introspect a token",
        dependencies=[require_scopes(ADMIN)],
        response_model_exclude_none=True,
    )
    async def introspect_token(
        request: Request, response: Response, form: Annotated[IntrospectionForm, Form()]
    ) -> Introspected:
        await _check_once(request)
        _no_store(response)
        return await introspect(verify, form.token)


async def _check_once(request: Request) -> None:
    """Refuse a form with a repeated field: two parsers could take different values (RFC 6749, 3.2)."""
    form = await request.form()  # FastAPI has read it already
    times = Counter(name for name, _ in form.multi_items())
    if twice := {name: "is repeated" for name, count in times.items() if count > 1}:
        raise _invalid_form(**twice)


def _required(**fields: str | None) -> tuple[str, ...]:
    """Return the values in order. Raises InvalidFields for those that are missing."""
    if missing := {name: _MISSING for name, value in fields.items() if value is None}:
        raise _invalid_form(**missing)
    return tuple(value for value in fields.values() if value is not None)


def _invalid_form(**fields: str) -> InvalidFields:
    return InvalidFields(INVALID_FORM, details={"fields": fields})


def _no_store(response: Response) -> Response:
    # RFC 6749, 5.1: no cache may keep a token.
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response
