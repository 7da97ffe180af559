"""Give out, take back and explain tokens: RFC 6749 (4.3, 6), RFC 7009 and RFC 7662, as a FastAPI router."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from propylon.control.identity import current_principal, require_scopes
from propylon.control.introspect import introspect
from propylon.control.ports import Grants, Revoker, Verify
from propylon.control.revoke import ADMIN, UNFIT, Revocation
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

_MISSING = "Field required"


def router(
    prefix: str,
    *,
    verify: Verify,
    revoker: Revoker,
    clock: Callable[[], float],
    sessions: Sessions | None = None,
    grants: Grants | None = None,
) -> APIRouter:
    """Return the endpoints under `{prefix}/auth`; the one that gives out tokens only where it has `sessions`.

    `verify` says what a token means; `clock` is the wall's.
    """
    routes = APIRouter(prefix=f"{prefix}/auth", tags=["tokens"])
    if sessions is not None:
        _add_token(routes, sessions)
    _add_revoke(routes, Revocation(verify, revoker, grants, clock))
    _add_introspect(routes, verify)
    return routes


def _add_token(routes: APIRouter, sessions: Sessions) -> None:
    @routes.post("/token", summary="Get a token for a password, or for a refresh token")
    async def token(
        request: Request, response: Response, form: Annotated[TokenForm, Form()]
    ) -> TokenAnswer:
        await _check_once(request)
        session = await _session(sessions, form)
        _unstored(response)
        return TokenAnswer(
            access_token=session.access.token,
            expires_in=int(session.access.life),
            refresh_token=session.refresh,
            scope=" ".join(sorted(session.scopes)),
        )


async def _session(sessions: Sessions, form: TokenForm) -> Session:
    asked = None if form.scope is None else frozenset(form.scope.split())
    if form.grant_type == "refresh_token":
        (refresh,) = _given(refresh_token=form.refresh_token)
        return await sessions.renew(refresh, asked)
    username, password = _given(username=form.username, password=form.password)
    return await sessions.begin(username, password, asked)


def _add_revoke(routes: APIRouter, revocation: Revocation) -> None:
    @routes.post(
        "/revoke",
        summary="Take a token back, or many",
        description="Your own token; with scope `admin`, any, or all of a subject or before a moment."
        " One that is unknown or not valid is no error.",
        response_class=Response,
    )
    async def revoke(
        request: Request,
        form: Annotated[RevocationForm, Form()],
        caller: Annotated[Principal, current_principal],
    ) -> Response:
        await _check_once(request)
        if form.subject is not None or form.issued_before is not None:
            if form.token is not None:
                raise _unfit(token="one token, or many: not both")  # noqa: S106 — no password
            await revocation.many(form.subject, form.issued_before, caller)
        else:
            (token,) = _given(token=form.token)
            await revocation.one(token, caller)
        return _unstored(Response())


def _add_introspect(routes: APIRouter, verify: Verify) -> None:
    @routes.post(
        "/introspect",
        summary="Explain a token",
        dependencies=[require_scopes(ADMIN)],
        response_model_exclude_none=True,
    )
    async def explain(
        request: Request, response: Response, form: Annotated[IntrospectionForm, Form()]
    ) -> Introspected:
        await _check_once(request)
        _unstored(response)
        return await introspect(verify, form.token)


async def _check_once(request: Request) -> None:
    """Refuse a form that says anything twice: which of the two would count? (RFC 6749, 3.2)."""
    form = await request.form()  # read by now
    times = Counter(name for name, _ in form.multi_items())
    if twice := {name: "is there more than once" for name, count in times.items() if count > 1}:
        raise _unfit(**twice)


def _given(**fields: str | None) -> tuple[str, ...]:
    """Return the values in order, if all of them are there."""
    if missing := {name: _MISSING for name, value in fields.items() if value is None}:
        raise _unfit(**missing)
    return tuple(value for value in fields.values() if value is not None)


def _unfit(**fields: str) -> InvalidFields:
    return InvalidFields(UNFIT, details={"fields": fields})


def _unstored(response: Response) -> Response:
    # RFC 6749, 5.1: no cache may keep a token.
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response
