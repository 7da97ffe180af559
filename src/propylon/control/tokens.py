"""Serve `{prefix}/auth`: issue tokens (RFC 6749, 4.3 and 6), revoke them (RFC 7009), introspect them (RFC 7662).

The endpoints check the form; `sessions`, `revoke` and `introspect` do the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request, Response

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditEntry, AuditTrail
from propylon.control.identity import bearer_in_document, client_of
from propylon.control.introspect import introspect
from propylon.control.ports import Accounts, Grants, Revoker, Verify
from propylon.control.revoke import INVALID_FORM, RevocationEndpoint
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
from propylon.proxy.principal import Principal

__all__ = ["router"]

_LAST = 2**63 - 1  # the largest number that the database has
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
    accounts: Accounts | None = None,
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
) -> APIRouter:
    """Return the endpoints under `{prefix}/auth`; without `sessions` there is no token endpoint.

    `verify` verifies access tokens; `clock` is the wall clock. `gate` says who may do more than revoke tokens of
    their own: by default, callers with the scope `admin`.
    """
    gate, trail = gate or AdminGate(), trail or AuditTrail()
    routes = APIRouter(prefix=f"{prefix}/auth", tags=["tokens"])
    if sessions is not None:
        _add_token(routes, sessions, trail)
    endpoint = RevocationEndpoint(verify, revoker, grants, clock, accounts)
    _add_revoke(routes, endpoint, gate, trail)
    _add_revocations(routes, revoker, gate, trail)
    _add_introspect(routes, verify, gate)
    return routes


def _add_token(routes: APIRouter, sessions: Sessions, trail: AuditTrail) -> None:
    @routes.post("/token", summary="Get a token for a password, or for a refresh token")
    async def token(
        request: Request, response: Response, form: Annotated[TokenForm, Form()]
    ) -> TokenAnswer:
        await _check_once(request)
        renewed = form.grant_type == "refresh_token"
        target = None if renewed or form.username is None else f"user:{form.username}"
        with trail.of(request, "refresh" if renewed else "login", target) as entry:
            session = await _session(sessions, form, client_of(request))
            _name_user(entry, session)
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


def _name_user(entry: AuditEntry, session: Session) -> None:
    """Name the user by the registered name: the client may have written it in other capitals."""
    entry.subject = session.subject
    entry.target = f"user:{session.subject}"


def _add_revoke(
    routes: APIRouter, revocation: RevocationEndpoint, gate: AdminGate, trail: AuditTrail
) -> None:
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
        with trail.of(request, "revoke") as entry:
            await _revoke(revocation, form, request, gate.judge("tokens", request), entry)
        return _no_store(Response())


async def _revoke(
    revocation: RevocationEndpoint,
    form: RevocationForm,
    request: Request,
    caller: Principal,
    entry: AuditEntry,
) -> None:
    authorization = request.headers.get("authorization")
    issuer = await _issuer(request, form)
    if form.subject is None and issuer is None and form.issued_before is None:
        (token,) = _required(token=form.token)
        entry.target = await revocation.end_login(token)
        if entry.target is None:
            await revocation.check_known(caller, authorization)
            entry.target = await revocation.revoke_token(token, caller)
        return
    if form.token is not None:
        raise _invalid_form(token=_ONE_OR_MANY)
    if issuer is not None and form.subject is None:
        raise _invalid_form(issuer=_NEEDS_SUBJECT)
    entry.target = "all" if form.subject is None else f"user:{form.subject}"
    await revocation.check_known(caller, authorization)
    await revocation.revoke_many(form.subject, form.issued_before, caller, issuer)


async def _issuer(request: Request, form: RevocationForm) -> str | None:
    # FastAPI takes an empty field for one that was not sent. Here it means something else: tokens that name no issuer,
    # and not the tokens of all issuers.
    sent = await request.form()
    return "" if sent.get("issuer") == "" else form.issuer


def _add_revocations(
    routes: APIRouter, revoker: Revoker, gate: AdminGate, trail: AuditTrail
) -> None:
    admin = [gate.requires("tokens")]

    @routes.get("/revocations", summary="The revocations in force", dependencies=admin)
    async def revocations(
        response: Response,
        after: Annotated[
            int, Query(ge=0, le=_LAST, description="The last `id` of the page before.")
        ] = 0,
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
        dependencies=admin,
        status_code=204,
    )
    async def take_back(
        request: Request,
        number: Annotated[
            int,
            Path(alias="id", ge=1, le=_LAST, description="The `id` in the list.", examples=[7]),
        ],
    ) -> None:
        with trail.of(request, "reinstate", f"revocation:{number}"):
            if not await revoker.take_back(number):
                msg = "No such revocation"
                raise NotFound(msg)


def _add_introspect(routes: APIRouter, verify: Verify, gate: AdminGate) -> None:
    @routes.post(
        "/introspect",
        summary="Introspect a token",
        dependencies=[gate.requires("introspect")],
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
