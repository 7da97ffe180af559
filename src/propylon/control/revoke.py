"""Revoke tokens (RFC 7009): check who may revoke which, and write the revocation."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from propylon.control.ports import Accounts, Grants, Revoker, Verify
from propylon.errors import AuthError, Forbidden, InvalidFields
from propylon.proxy.authenticate.revocation import of_all, of_subject, of_token
from propylon.proxy.authenticate.verify import digest
from propylon.proxy.challenge import insufficient, missing
from propylon.proxy.principal import Principal
from propylon.wire.grammar import BEARER, read_date_time

__all__ = ["ADMIN", "INVALID_FORM", "RevocationEndpoint"]

ADMIN = "admin"
INVALID_FORM = (
    "The request does not fit this endpoint"  # the message of control/errors.py for invalid forms
)
_ANONYMOUS = "the endpoint needs to know who is asking"
_FUTURE = "is in the future"
_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_MOMENT = "must be like 2026-01-01T00:00:00Z (a + is sent as %2B), or seconds since 1970"


class RevocationEndpoint:
    """Revokes the caller's own tokens; for a caller with the scope `admin`, any token, and many at once."""

    def __init__(
        self,
        verify: Verify,
        revoker: Revoker,
        grants: Grants | None,
        clock: Callable[[], float],
        accounts: Accounts | None = None,
    ) -> None:
        """Revoke access tokens in `revoker` and refresh tokens in `grants`; `clock` is the wall clock."""
        self._accounts = accounts
        self._verify = verify
        self._revoker = revoker
        self._grants = grants
        self._clock = clock

    async def end_login(self, token: str) -> str | None:
        """End the login of a refresh token, and return whose it was, for the audit log; None if it is none.

        A client that has the token may end what it stands for (RFC 7009, 2.1): a client logs out when its access token has
        expired. The token itself shows its kind, so `token_type_hint` is not needed: it could only be wrong.
        """
        grant = await self._grants.find(token) if self._grants is not None else None
        if self._grants is None or grant is None:
            return None
        await self._grants.end(grant.family)
        return f"user:{grant.subject}"

    async def check_known(self, caller: Principal, authorization: str | None) -> None:
        """Raise AuthError for an anonymous caller: with the reason why the token that was sent is not valid."""
        if caller.known:
            return
        match = BEARER.fullmatch((authorization or "").encode("latin-1"))
        if match is not None:
            await self._verify(match[1])
        raise missing(_ANONYMOUS)

    async def revoke_token(self, token: str, caller: Principal) -> str | None:
        """Revoke an access token, and return whose; do nothing for one that is not valid (RFC 7009, 2.2).

        Raises Forbidden if another user owns the token and the caller has no scope `admin`.
        """
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
        if subject is None:
            await self._revoker.revoke(of_all(moment))
            return
        for name in await self._names(subject):
            await self._revoker.revoke(of_subject(name, moment, issuer))

    async def _names(self, subject: str) -> list[str]:
        """Return the subject, and how the user of that name writes it: logins ignore capitals, tokens do not."""
        account = None if self._accounts is None else await self._accounts.find(subject)
        return list(dict.fromkeys([subject, *([] if account is None else [account.username])]))


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
