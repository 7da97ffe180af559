"""Name what the token endpoints need to know and to keep: whoever keeps it fits these shapes. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Revocation

__all__ = ["Account", "Accounts", "Grant", "Grants", "Revoker", "Verify"]

Verify = Callable[[bytes], Awaitable[Verified]]
"""Return what a token says; raise AuthError for any that is not good now."""


class Account(Protocol):
    """Somebody who may ask for tokens, and what these may say."""

    @property
    def username(self) -> str:
        """The name as it was given; the subject of tokens."""

    @property
    def email(self) -> str:
        """Empty if none is known."""

    @property
    def full_name(self) -> str:
        """Empty if none is known."""

    @property
    def scopes(self) -> frozenset[str]:
        """The most that a token of theirs may say."""

    @property
    def roles(self) -> frozenset[str]:
        """What a token of theirs says."""

    @property
    def disabled(self) -> bool:
        """Whether they get no more tokens."""


class Accounts(Protocol):
    """Who may ask for tokens. Every method raises ServiceUnavailable when nobody can tell."""

    async def authenticate(self, username: str, password: str) -> Account | None:
        """Return the account whose password this is; None for all others, after the same work."""

    async def find(self, username: str) -> Account | None:
        """Return an account by name."""


class Grant(Protocol):
    """What a refresh token stands for."""

    @property
    def family(self) -> str:
        """What names the login that it came of."""

    @property
    def subject(self) -> str:
        """The name of the account."""

    @property
    def scopes(self) -> frozenset[str]:
        """What was granted at the login."""

    @property
    def current(self) -> bool:
        """False: it was used before."""


class Grants(Protocol):
    """Refresh tokens. Every method raises ServiceUnavailable when nobody can tell."""

    async def begin(
        self, subject: str, scopes: frozenset[str], token_id: str, expires: float
    ) -> str:
        """Return the first refresh token of a login, beside an access token with this id and `exp`."""

    async def find(self, token: str) -> Grant | None:
        """Return what a refresh token stands for; None if nobody knows it, or it has expired."""

    async def renew(self, token: str, token_id: str, expires: float) -> str | None:
        """Exchange a refresh token that was found for its successor; None if somebody was faster."""

    async def end(self, family: str) -> None:
        """End all that came of a login: its refresh token, and its access tokens."""


class Revoker(Protocol):
    """Where tokens are taken back. Every method raises ServiceUnavailable when that cannot be done."""

    async def revoke(self, revocation: Revocation) -> None:
        """Take tokens back, and the logins that they came of where the revocation means many."""

    async def since(self, subject: str) -> float:
        """Return the moment before which no token of the subject counts; -inf if all do."""
