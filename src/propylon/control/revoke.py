"""Revoke tokens (RFC 7009): check who may revoke which, and write the revocation."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from propylon.control.ports import Grants, Revoker, Verify
from propylon.errors import AuthError, Forbidden, InvalidFields
from propylon.proxy.authenticate.revocation import of_all, of_subject, of_token
from propylon.proxy.authenticate.verify import digest
from propylon.proxy.challenge import insufficient
from propylon.proxy.principal import Principal
from propylon.wire.grammar import read_date_time

__all__ = ["ADMIN", "INVALID_FORM", "RevocationEndpoint"]

ADMIN = "admin"
INVALID_FORM = (
    "The request does not fit this endpoint"  # the message of control/errors.py for invalid forms
)
_FUTURE = "is in the future"
_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_MOMENT = "must be like 2026-01-01T00:00:00Z (a + is sent as %2B), or seconds since 1970"


class RevocationEndpoint:
    """Revokes the caller's own tokens; for a caller with the scope `admin`, any token, and many at once."""

    def __init__(
        self, verify: Verify, revoker: Revoker, grants: Grants | None, clock: Callable[[], float]
    ) -> None:
        """Revoke access tokens in `revoker` and refresh tokens in `grants`; `clock` is the wall clock."""
        self._verify = verify
        self._revoker = revoker
        self._grants = grants
        self._clock = clock

    async def revoke_token(self, token: str, caller: Principal) -> str | None:
        """Revoke a token, and return whose, for the audit log; do nothing for one that is not valid (RFC 7009, 2.2).

        Raises Forbidden if another user owns the token and the caller has no scope `admin`.
        """
        # The token itself shows its kind, so `token_type_hint` is not needed: it could only be wrong.
        grant = await self._grants.find(token) if self._grants is not None else None
        if self._grants is not None and grant is not None:
            _check_owner(caller, grant.subject)
            await self._grants.end(grant.family)
            return f"user:{grant.subject}"
        return await self._revoke_access_token(token.encode("utf-8", "replace"), caller)

    async def _revoke_access_token(self, token: bytes, caller: Principal) -> str | None:
        try:
            verified = await self._verify(token)
        except AuthError:
            return None
        # Another issuer's subject of the same name is another person.
        if caller.caller != verified.principal.caller and ADMIN not in caller.scopes:
            raise _not_allowed()
        await self._revoker.revoke(of_token(verified, partial(digest, token)))
        return f"user:{verified.principal.subject}"

    async def revoke_many(
        self,
        subject: str | None,
        issued_before: str | None,
        caller: Principal,
        issuer: str | None = None,
    ) -> None:
        """Revoke all tokens, or all of a subject, that were issued before a moment; by default now.

        With an issuer: only those of that issuer's subject.

        Raises Forbidden if the caller has no scope `admin`, InvalidFields for a bad or future moment.
        """
        if ADMIN not in caller.scopes:
            raise _not_allowed()
        now = self._clock()
        moment = now if issued_before is None else _parse_moment(issued_before)
        if moment > now:
            # It would refuse every new token until then, the operator's own included.
            raise _invalid_moment(_FUTURE)
        await self._revoker.revoke(
            of_all(moment) if subject is None else of_subject(subject, moment, issuer)
        )


def _check_owner(caller: Principal, subject: str) -> None:
    if caller.subject != subject and ADMIN not in caller.scopes:
        raise _not_allowed()


def _not_allowed() -> Forbidden:
    return insufficient("Only the scope admin may revoke the tokens of others", (ADMIN,))


def _parse_moment(text: str) -> float:
    if _EPOCH.fullmatch(text):
        return float(text)
    try:
        return read_date_time(text)
    except ValueError as error:
        raise _invalid_moment(_MOMENT) from error


def _invalid_moment(why: str) -> InvalidFields:
    return InvalidFields(INVALID_FORM, details={"fields": {"issued_before": why}})
