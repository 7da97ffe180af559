"""Issue tokens for a password or for a refresh token: the rules of logins.

A login begins with a password. It goes on as long as its newest refresh token is exchanged in time. If a refresh token
is used again after the grace, the gateway cannot tell the thief from the owner, so it ends the whole login.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from propylon.control.issuer import Issued, Issuer
from propylon.control.ports import Account, Accounts, Grant, Grants, Revoker
from propylon.errors import AuthError, NotFound
from propylon.proxy.authenticate.guesses import Guesses

__all__ = ["Session", "Sessions"]

log = logging.getLogger(__name__)

_UNKNOWN = "unknown or expired refresh token"
_CHALLENGE = ((b"WWW-Authenticate", b"Bearer"),)


@dataclass(frozen=True, slots=True)
class Session:
    """The tokens that a client gets, and the scopes that were granted."""

    access: Issued
    refresh: str
    scopes: frozenset[str]
    subject: str  # the username


class Sessions:
    """Begins logins and renews them."""

    def __init__(
        self,
        accounts: Accounts,
        grants: Grants,
        revoker: Revoker,
        issuer: Issuer | None,
        *,
        guesses: Guesses | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Issue tokens that `issuer` signs, to the users that `accounts` knows."""
        self._guesses = guesses or Guesses(time.monotonic)
        self._sleep = sleep
        self._accounts = accounts
        self._grants = grants
        self._revoker = revoker
        self.issuer = issuer  # a reload may replace it; None: no tokens are issued

    async def begin(
        self,
        username: str,
        password: str,
        requested: frozenset[str] | None = None,
        address: str = "",
    ) -> Session:
        """Return the first tokens of a login from a client's address.

        Raises AuthError, with the same message for an unknown name, a wrong password and a disabled user. Raises
        RateLimited after too many failures, and NotFound if no tokens are issued here.
        """
        issuer = self._signing()
        began = issuer.clock()
        account = await self._authenticate(username, password, address)
        scopes = _granted(account.scopes, requested)
        access = await self._issue(issuer, account, scopes)
        refresh = await self._grants.begin(
            account.username, scopes, access.token_id, access.expires, address
        )
        # The user may have been disabled or changed after the password was verified. What the new tokens say would
        # outlive that, so the login ends again.
        if await self._revoker.since(account.username, issuer.issuer or "") > began:
            grant = await self._grants.find(refresh)
            if grant is not None:
                await self._grants.end(grant.family)
            raise _wrong(reason="the user was changed, or tokens were revoked, during the login")
        return Session(access, refresh, scopes, account.username)

    async def _authenticate(self, username: str, password: str, address: str) -> Account:
        self._guesses.check(username, address)
        delay = self._guesses.delay(username)
        # Before a thread hashes the password: a delay there would let a few attackers keep all threads busy.
        if delay > 0 and not await self._came_from(username, address):
            await self._sleep(delay)
        account = await self._accounts.authenticate(username, password)
        if account is None:
            self._guesses.failed(username)
            raise _wrong(reason="wrong credentials")
        self._guesses.succeeded(username, address)
        return account

    async def check_password(self, username: str, password: str, address: str) -> None:
        """Verify the password of a user who is logged in. Raises AuthError and RateLimited."""
        await self._authenticate(username, password, address)

    async def _came_from(self, username: str, address: str) -> bool:
        account = await self._accounts.find(username)
        if account is None or not address:
            return False
        return await self._grants.came_from(account.username, address)

    async def renew(
        self, refresh: str, requested: frozenset[str] | None = None, address: str = ""
    ) -> Session:
        """Return the next tokens of a login.

        Raises AuthError if the token is unknown. Raises AuthError and ends the login if the token was used before and
        the grace is over, or the user is gone or disabled. Raises NotFound if no tokens are issued here.
        """
        issuer = self._signing()
        grant = await self._grants.find(refresh)
        if grant is None:
            raise _refused(_UNKNOWN)
        if not grant.current:
            raise await self._end_reused(grant, address)
        account = await self._accounts.find(grant.subject)
        if account is None or account.disabled or account.username != grant.subject:
            raise await self._end_login(grant, "no such user any more: the login ends")
        # Scopes that the user has lost since the login are gone. New scopes take a new login.
        scopes = _granted(account.scopes & grant.scopes, requested)
        access = await self._issue(issuer, account, scopes)
        successor = await self._grants.renew(refresh, access.token_id, access.expires)
        if successor is None:
            raise await self._end_reused(grant, address)
        return Session(access, successor, scopes, account.username)

    def _signing(self) -> Issuer:
        """Return the issuer. Called first, so that no password is verified in vain. Raises NotFound."""
        if self.issuer is None:
            msg = "No tokens are issued here"
            raise NotFound(
                msg, reason="auth.tokens.enabled is false, or auth.jwt.secret was removed"
            )
        return self.issuer

    async def _issue(self, issuer: Issuer, account: Account, scopes: frozenset[str]) -> Issued:
        return issuer.issue(
            account.username,
            scopes=scopes,
            roles=account.roles,
            email=account.email,
            after=await self._revoker.since(account.username, issuer.issuer or ""),
        )

    async def _end_reused(self, grant: Grant, address: str) -> AuthError:
        fields = {"principal": grant.subject, "client_ip": address}
        log.warning("refresh token reuse", extra={"fields": fields})
        return await self._end_login(grant, "refresh token reuse: the login ends")

    async def _end_login(self, grant: Grant, reason: str) -> AuthError:
        await self._grants.end(grant.family)
        return _refused(reason)


def _granted(allowed: frozenset[str], requested: frozenset[str] | None) -> frozenset[str]:
    """Return the requested scopes that are allowed; all allowed ones if none were requested."""
    return allowed if requested is None else allowed & requested


def _wrong(reason: str) -> AuthError:
    msg = "Incorrect username or password"
    return AuthError(msg, headers=_CHALLENGE, reason=reason)


def _refused(reason: str) -> AuthError:
    msg = "The refresh token is not valid"
    return AuthError(msg, headers=_CHALLENGE, reason=reason)
