"""Take tokens back: who may, and which."""

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

__all__ = ["ADMIN", "UNFIT", "Revocation"]

ADMIN = "admin"
UNFIT = "The request does not fit this endpoint"  # as FastAPI's own refusals of a form say it
_FUTURE = "is in the future"
_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_MOMENT = "must be like 2026-01-01T00:00:00Z (a + is sent as %2B), or seconds since 1970"


class Revocation:
    """Takes back a token of the caller's own; for admins, any, and many at once."""

    def __init__(
        self, verify: Verify, revoker: Revoker, grants: Grants | None, clock: Callable[[], float]
    ) -> None:
        """Take back access tokens by `revoker`, refresh tokens by `grants`; `clock` is the wall's."""
        self._verify = verify
        self._revoker = revoker
        self._grants = grants
        self._clock = clock

    async def one(self, token: str, caller: Principal) -> None:
        """Take back one token; one that is not good is none to take back (RFC 7009, 2.2).

        Raises Forbidden for a good one of somebody else's.
        """
        # What it is shows itself: a hint could only be wrong.
        grant = await self._grants.find(token) if self._grants is not None else None
        if self._grants is not None and grant is not None:
            _check_owner(caller, grant.subject)
            await self._grants.end(grant.family)
            return
        await self._access_token(token.encode("utf-8", "replace"), caller)

    async def _access_token(self, token: bytes, caller: Principal) -> None:
        try:
            verified = await self._verify(token)
        except AuthError:
            return
        _check_owner(caller, verified.principal.subject)
        await self._revoker.revoke(of_token(verified, partial(digest, token)))

    async def many(self, subject: str | None, issued_before: str | None, caller: Principal) -> None:
        """Take back what was issued before a moment, by default now. Raises Forbidden, InvalidFields."""
        if ADMIN not in caller.scopes:
            raise _not_allowed()
        now = self._clock()
        moment = now if issued_before is None else _moment(issued_before)
        if moment > now:
            # It would lock everybody out until then, whoever made the mistake included.
            raise _no_moment(_FUTURE)
        await self._revoker.revoke(
            of_all(moment) if subject is None else of_subject(subject, moment)
        )


def _check_owner(caller: Principal, subject: str) -> None:
    if caller.subject != subject and ADMIN not in caller.scopes:
        raise _not_allowed()


def _not_allowed() -> Forbidden:
    return insufficient("Only an admin takes back tokens of others", (ADMIN,))


def _moment(text: str) -> float:
    if _EPOCH.fullmatch(text):
        return float(text)
    try:
        return read_date_time(text)
    except ValueError as error:
        raise _no_moment(_MOMENT) from error


def _no_moment(said: str) -> InvalidFields:
    return InvalidFields(UNFIT, details={"fields": {"issued_before": said}})
