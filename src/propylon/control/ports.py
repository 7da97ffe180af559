"""Declare the storage that the token endpoints need, as protocols. `stores` and `assembly` implement them. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Revocation

__all__ = ["Account", "Accounts", "Entry", "Grant", "Grants", "Login", "Revoker", "Verify"]

Verify = Callable[[bytes], Awaitable[Verified]]
"""Verify an access token: return what it says, or raise AuthError if it is not valid now."""


class Account(Protocol):
    """A user who may ask for tokens, and the most that these tokens may say."""

    @property
    def username(self) -> str:
        """The name as it was registered. It is the subject of the user's tokens."""

    @property
    def email(self) -> str:
        """The email address; empty if unknown."""

    @property
    def full_name(self) -> str:
        """The email address; empty if unknown."""

    @property
    def scopes(self) -> frozenset[str]:
        """All scopes that a token of this user may have."""

    @property
    def roles(self) -> frozenset[str]:
        """The roles that a token of this user has."""

    @property
    def disabled(self) -> bool:
        """True: the user gets no new tokens."""


class Accounts(Protocol):
    """The users. Every method raises ServiceUnavailable while the database is unavailable."""

    async def authenticate(self, username: str, password: str) -> Account | None:
        """Return the account if the password is right and the user is not disabled, else None.

        The answer takes as long for an unknown name, so that a client cannot find out which names exist.
        """

    async def find(self, username: str) -> Account | None:
        """Return the account of this name, in any capitals; None if there is none."""

    async def page(
        self,
        limit: int,
        *,
        after: str = "",
        prefix: str = "",
        disabled: bool | None = None,
        scope: str = "",
        role: str = "",
    ) -> Sequence[Account]:
        """Return up to `limit` accounts, sorted by name, whose names come behind `after`.

        `prefix` is the beginning of their names, in any capitals. `disabled`, `scope` and `role` are what they must have.
        """

    async def create(self, password: str, **values: Any) -> Account:
        """Add an account with `username`, `scopes`, `roles`, `email`, `full_name` and `disabled`.

        Raises InvalidFields for a value that is not acceptable, and Conflict for a name that is taken.
        """

    async def modify(
        self,
        username: str,
        fits: Callable[[Account], bool] | None = None,
        is_admin: Callable[[Account], bool] | None = None,
        **changes: Any,
    ) -> Account | None:
        """Change `password`, `scopes`, `roles`, `email`, `full_name` or `disabled`; return the account as it is now.

        What takes something away from the user, and a new password, end the user's logins and tokens. None if there is
        no such user. Raises InvalidFields for a value that is not acceptable, PreconditionFailed for an account that does
        not fit any more, and Conflict where nobody would be left of those who are admins. All in one transaction.
        """

    async def discard(
        self,
        username: str,
        fits: Callable[[Account], bool] | None = None,
        is_admin: Callable[[Account], bool] | None = None,
    ) -> bool:
        """Remove an account and end its logins and tokens; False if there is none. Raises as `modify`."""


class Grant(Protocol):
    """A refresh token, as the store knows it."""

    @property
    def family(self) -> str:
        """The id of the login that the token belongs to."""

    @property
    def subject(self) -> str:
        """The username of the account."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that were granted at the login."""

    @property
    def current(self) -> bool:
        """False: the token was exchanged already, and the grace is over."""


class Login(Protocol):
    """A login that goes on; times are seconds since 1970."""

    @property
    def id(self) -> str:
        """The id of the login."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that were granted."""

    @property
    def begun(self) -> float:
        """When the user gave the password."""

    @property
    def renewed(self) -> float | None:
        """When it was last refreshed; None if it never was."""

    @property
    def expires(self) -> float:
        """When it ends."""

    @property
    def address(self) -> str:
        """The client's address at the beginning; empty if it is not known."""


class Grants(Protocol):
    """The refresh tokens. Every method raises ServiceUnavailable while the database is unavailable."""

    async def begin(
        self,
        subject: str,
        scopes: frozenset[str],
        token_id: str,
        expires: float,
        address: str = "",
    ) -> str:
        """Begin a login from a client's address and return its first refresh token.

        `token_id` and `expires` are the `jti` and `exp` of the access token that goes with it.
        """

    async def logins(self, subject: str) -> Sequence[Login]:
        """Return the logins of a user that go on, the oldest first."""

    async def came_from(self, subject: str, address: str) -> bool:
        """Tell whether the user has a login from this address."""

    async def find(self, token: str) -> Grant | None:
        """Return the grant of a refresh token; None if the token is unknown or has expired."""

    async def renew(self, token: str, token_id: str, expires: float) -> str | None:
        """Exchange a refresh token for its successor; None if it must not be exchanged any more."""

    async def end(self, family: str) -> None:
        """End a login: revoke its refresh token and all its access tokens."""


class Entry(Protocol):
    """A revocation in the store, and until when it is kept."""

    @property
    def id(self) -> int:
        """The number of the revocation."""

    @property
    def revocation(self) -> Revocation:
        """What is revoked."""

    @property
    def until(self) -> float:
        """When all tokens that it covers have expired, in seconds since 1970."""


class Revoker(Protocol):
    """The store of revocations. Every method raises ServiceUnavailable while the database is unavailable."""

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke tokens; a revocation of many tokens also ends their logins."""

    async def since(self, subject: str, issuer: str = "") -> float:
        """Return the moment before which all tokens of this issuer's subject are revoked; -inf if there is none."""

    async def entries(self, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        """Return the revocations with numbers above `after`, the oldest first."""

    async def take_back(self, number: int) -> bool:
        """Take a revocation back, everywhere; False if there is none of this number."""
