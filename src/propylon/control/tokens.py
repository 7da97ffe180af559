"""Serve `{prefix}/auth`: issue tokens (RFC 6749, 4.3 and 6), revoke them (RFC 7009), introspect them (RFC 7662).

The endpoints check the form; `sessions`, `revoke` and `introspect` do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from propylon.control.identity import current_principal, require_scopes
from propylon.control.introspect import introspect
from propylon.control.ports import Grants, Revoker, Verify
from propylon.control.revoke import ADMIN, INVALID_FORM, RevocationEndpoint
from propylon.control.sessions import Session, Sessions
from propylon.control.token_schemas import (
    Introspected,
    IntrospectionForm,
    RevocationForm,
    TokenAnswer,
    TokenForm,
)
from propylon.errors import InvalidFields
from propylon.proxy.principal import Principal

__all__ = ["router"]

_ONE_OR_MANY = "send a token, or subject and issued_before: not both"
_NEEDS_SUBJECT = "needs a subject beside it"
_MISSING = "Field required"  # pydantic's words


def router(
    prefix: str,
    *,
    verify: Verify,
    revoker: Revoker,
    clock: Callable[[], float],
    sessions: Sessions | None = None,
    grants: Grants | None = None,
) -> APIRouter:
    """Return the endpoints under `{prefix}/auth`; without `sessions` there is no token endpoint.

    `verify` verifies access tokens; `clock` is the wall clock.
    """
    routes = APIRouter(prefix=f"{prefix}/auth", tags=["tokens"])
    if sessions is not None:
        _add_token(routes, sessions)
    _add_revoke(routes, RevocationEndpoint(verify, revoker, grants, clock))
    _add_introspect(routes, verify)
    return routes


def _add_token(routes: APIRouter, sessions: Sessions) -> None:
    @routes.post("/token", summary="Get a token for a password, or for a refresh token")
    async def token(
        request: Request, response: Response, form: Annotated[TokenForm, Form()]
    ) -> TokenAnswer:
        await _check_once(request)
        session = await _session(sessions, form)
        _no_store(response)
        return TokenAnswer(
            access_token=session.access.token,
            expires_in=int(session.access.life),
            refresh_token=session.refresh,
            scope=" ".join(sorted(session.scopes)),
        )


async def _session(sessions: Sessions, form: TokenForm) -> Session:
    requested = None if form.scope is None else frozenset(form.scope.split())
    if form.grant_type == "refresh_token":
        (refresh,) = _required(refresh_token=form.refresh_token)
        return await sessions.renew(refresh, requested)
    username, password = _required(username=form.username, password=form.password)
    return await sessions.begin(username, password, requested)


def _add_revoke(routes: APIRouter, revocation: RevocationEndpoint) -> None:
    @routes.post(
        "/revoke",
        summary="Revoke a token, or many",
        description="Revokes a token of your own. With the scope `admin` it revokes any token, all tokens of a"
        " subject, or all that were issued before a moment. An unknown or invalid token is no error.",
        response_class=Response,
    )
    async def revoke(
        request: Request,
        form: Annotated[RevocationForm, Form()],
        caller: Annotated[Principal, current_principal],
    ) -> Response:
        await _check_once(request)
        issuer = await _issuer(request, form)
        if any(part is not None for part in (form.subject, issuer, form.issued_before)):
            if form.token is not None:
                raise _invalid_form(token=_ONE_OR_MANY)
            if issuer is not None and form.subject is None:
                raise _invalid_form(issuer=_NEEDS_SUBJECT)
            await revocation.revoke_many(form.subject, form.issued_before, caller, issuer)
        else:
            (token,) = _required(token=form.token)
            await revocation.revoke_token(token, caller)
        return _no_store(Response())


async def _issuer(request: Request, form: RevocationForm) -> str | None:
    # FastAPI takes an empty field for one that was not sent. Here it means something else: tokens that name no issuer,
    # and not the tokens of all issuers.
    sent = await request.form()
    return "" if sent.get("issuer") == "" else form.issuer


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
