"""Issue tokens for a password or for a refresh token: the rules of logins.

A login begins with a password. It goes on as long as its newest refresh token is exchanged in time. If a refresh token
is used twice, the gateway cannot tell the thief from the owner, so it ends the whole login.
"""

from __future__ import annotations

from dataclasses import dataclass

from propylon.control.issuer import Issued, Issuer
from propylon.control.ports import Account, Accounts, Grant, Grants, Revoker
from propylon.errors import AuthError, NotFound

__all__ = ["Session", "Sessions"]

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
        self, accounts: Accounts, grants: Grants, revoker: Revoker, issuer: Issuer | None
    ) -> None:
        """Issue tokens that `issuer` signs, to the users that `accounts` knows."""
        self._accounts = accounts
        self._grants = grants
        self._revoker = revoker
        self.issuer = issuer  # a reload may replace it; None: no tokens are issued

    async def begin(
        self, username: str, password: str, requested: frozenset[str] | None = None
    ) -> Session:
        """Return the first tokens of a login.

        Raises AuthError, with the same message for an unknown name, a wrong password and a disabled user. Raises
        NotFound if no tokens are issued here.
        """
        issuer = self._signing()
        account = await self._accounts.authenticate(username, password)
        if account is None:
            msg = "Incorrect username or password"
            raise AuthError(msg, headers=_CHALLENGE, reason="wrong credentials")
        scopes = _granted(account.scopes, requested)
        access = await self._issue(issuer, account, scopes)
        refresh = await self._grants.begin(
            account.username, scopes, access.token_id, access.expires
        )
        return Session(access, refresh, scopes, account.username)

    async def renew(self, refresh: str, requested: frozenset[str] | None = None) -> Session:
        """Return the next tokens of a login.

        Raises AuthError if the token is unknown. Raises AuthError and ends the login if the token was used before, or
        the user is gone or disabled. Raises NotFound if no tokens are issued here.
        """
        issuer = self._signing()
        grant = await self._grants.find(refresh)
        if grant is None:
            raise _refused(_UNKNOWN)
        if not grant.current:
            raise await self._end_login(grant, "refresh token used twice: the login ends")
        account = await self._accounts.find(grant.subject)
        if account is None or account.disabled or account.username != grant.subject:
            raise await self._end_login(grant, "no such user any more: the login ends")
        # Scopes that the user has lost since the login are gone. New scopes take a new login.
        scopes = _granted(account.scopes & grant.scopes, requested)
        access = await self._issue(issuer, account, scopes)
        successor = await self._grants.renew(refresh, access.token_id, access.expires)
        if successor is None:
            raise await self._end_login(grant, "refresh token used twice at once: the login ends")
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

    async def _end_login(self, grant: Grant, reason: str) -> AuthError:
        await self._grants.end(grant.family)
        return _refused(reason)


def _granted(allowed: frozenset[str], requested: frozenset[str] | None) -> frozenset[str]:
    """Return the requested scopes that are allowed; all allowed ones if none were requested."""
    return allowed if requested is None else allowed & requested


def _refused(reason: str) -> AuthError:
    msg = "The refresh token is not valid"
    return AuthError(msg, headers=_CHALLENGE, reason=reason)
