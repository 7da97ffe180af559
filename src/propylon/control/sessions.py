"""Give out tokens: for a password, or for a refresh token."""

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
    """An access token, the refresh token beside it, and what was granted."""

    access: Issued
    refresh: str
    scopes: frozenset[str]


class Sessions:
    """The logins: where they begin and how they go on."""

    def __init__(
        self, accounts: Accounts, grants: Grants, revoker: Revoker, issuer: Issuer | None
    ) -> None:
        """Give out what `issuer` signs, to whom `accounts` knows."""
        self._accounts = accounts
        self._grants = grants
        self._revoker = revoker
        self.issuer = issuer  # may be replaced while it runs; None: nothing is given out

    async def begin(
        self, username: str, password: str, asked: frozenset[str] | None = None
    ) -> Session:
        """Return the tokens of a login. Raises AuthError, the same one whatever is wrong; or NotFound."""
        issuer = self._signing()
        account = await self._accounts.authenticate(username, password)
        if account is None:
            msg = "Incorrect username or password"
            raise AuthError(msg, headers=_CHALLENGE, reason="wrong credentials")
        scopes = _granted(account.scopes, asked)
        access = await self._issue(issuer, account, scopes)
        refresh = await self._grants.begin(
            account.username, scopes, access.token_id, access.expires
        )
        return Session(access, refresh, scopes)

    async def renew(self, refresh: str, asked: frozenset[str] | None = None) -> Session:
        """Return the next tokens of a login. Raises NotFound; AuthError, and ends what went wrong."""
        issuer = self._signing()
        grant = await self._grants.find(refresh)
        if grant is None:
            raise _refused(_UNKNOWN)
        if not grant.current:
            raise await self._ended(grant, "refresh token used twice: the login ends")
        account = await self._accounts.find(grant.subject)
        if account is None or account.disabled or account.username != grant.subject:
            raise await self._ended(grant, "no such user any more: the login ends")
        # What was taken from the user since then is gone; what they got since then takes a new login.
        scopes = _granted(account.scopes & grant.scopes, asked)
        access = await self._issue(issuer, account, scopes)
        successor = await self._grants.renew(refresh, access.token_id, access.expires)
        if successor is None:
            raise await self._ended(grant, "refresh token used twice at once: the login ends")
        return Session(access, successor, scopes)

    def _signing(self) -> Issuer:
        """Return what signs. Before all else: nobody's password is looked at for nothing."""
        if self.issuer is None:
            msg = "No tokens are given out here"
            raise NotFound(
                msg, reason="auth.tokens.enabled is false, or there is no secret any more"
            )
        return self.issuer

    async def _issue(self, issuer: Issuer, account: Account, scopes: frozenset[str]) -> Issued:
        return issuer.issue(
            account.username,
            scopes=scopes,
            roles=account.roles,
            email=account.email,
            after=await self._revoker.since(account.username),
        )

    async def _ended(self, grant: Grant, reason: str) -> AuthError:
        await self._grants.end(grant.family)
        return _refused(reason)


def _granted(theirs: frozenset[str], asked: frozenset[str] | None) -> frozenset[str]:
    """Return what was asked for and may be given; all that may be given where nothing was asked for."""
    return theirs if asked is None else theirs & asked


def _refused(reason: str) -> AuthError:
    msg = "The refresh token is not valid"
    return AuthError(msg, headers=_CHALLENGE, reason=reason)
