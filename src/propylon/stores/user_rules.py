"""Define a user, what may change about one, and the rules for both. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from propylon.proxy.principal import is_scope
from propylon.stores.passwords import LONGEST_PASSWORD

__all__ = [
    "UNGUARDED",
    "Change",
    "Guard",
    "InvalidUser",
    "Judge",
    "User",
    "changed",
    "check_password",
    "check_user",
    "fold",
    "loses",
]

SHORTEST_PASSWORD = (
    8  # characters: NIST SP 800-63B, 5.1.1.2, which also advises against further rules
)
_LONGEST_NAME = 128
_LONGEST_FOLDED = 512
_LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
_LONGEST_FULL_NAME = 256


class InvalidUser(Exception):
    """A property of the user is not acceptable; the message says which, and what is."""


@dataclass(frozen=True, slots=True)
class User:
    """A user, and what the tokens of this user say."""

    username: str
    email: str = ""
    full_name: str = ""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What changes about a user; None stays as it is."""

    password: str | None = field(default=None, repr=False)
    scopes: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    email: str | None = None
    full_name: str | None = None
    disabled: bool | None = None


Judge = Callable[[User], bool]


def _always(_: User) -> bool:
    return True


def _never(_: User) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold for a user to be changed or removed, found out in the same transaction.

    `fits` tells whether the user is still the one that the caller has seen. The last user who `is_admin` stays one.
    """

    fits: Judge = _always
    is_admin: Judge = _never

    def loses_admin(self, before: User, after: User | None) -> bool:
        """Tell whether an admin is one no longer; `after` None: the user is gone."""
        return self._acts(before) and (after is None or not self._acts(after))

    def _acts(self, user: User) -> bool:
        return self.is_admin(user) and not user.disabled

    def others(self, users: Iterable[User], but: User) -> bool:
        """Tell whether another of these users is an admin."""
        return any(self._acts(user) for user in users if user.username != but.username)


UNGUARDED = Guard()


def guarded_by(fits: Judge | None, is_admin: Judge | None) -> Guard:
    """Return the guard that asks these; None asks nothing."""
    if fits is None and is_admin is None:
        return UNGUARDED
    return Guard(fits or _always, is_admin or _never)


def fold(username: str) -> str | None:
    """Return the name in the form for look-ups; None if no user can have it."""
    # The name becomes a header and the subject of tokens, so it has no control characters and no spaces. Folding
    # makes "Ann" and "ann" one user, and NFKC makes lookalikes such as full-width letters one user, too.
    if not username.isprintable() or " " in username or not 0 < len(username) <= _LONGEST_NAME:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
    return folded if len(folded) <= _LONGEST_FOLDED else None


def changed(user: User, change: Change) -> User:
    """Return the user as the change makes it."""
    names = ("scopes", "roles", "email", "full_name", "disabled")
    changed = {name: getattr(change, name) for name in names}
    return replace(user, **{name: value for name, value in changed.items() if value is not None})


def loses(before: User, after: User) -> bool:
    """Tell whether tokens from before say more than the user may have now."""
    disabled = after.disabled and not before.disabled
    return disabled or not (before.scopes <= after.scopes and before.roles <= after.roles)


def check_user(user: User) -> None:
    """Check all of a user but the password. Raises InvalidUser."""
    if fold(user.username) is None:
        msg = f"a username has 1 to {_LONGEST_NAME} characters, and no spaces among them"
        raise InvalidUser(msg)
    _check_tokens("scope", user.scopes)
    _check_tokens("role", user.roles)
    if " " in user.email or not user.email.isprintable() or len(user.email) > _LONGEST_EMAIL:
        msg = f"an email address has no spaces, and at most {_LONGEST_EMAIL} characters"
        raise InvalidUser(msg)
    if not user.full_name.isprintable() or len(user.full_name) > _LONGEST_FULL_NAME:
        msg = f"a full name has at most {_LONGEST_FULL_NAME} characters, all of them visible"
        raise InvalidUser(msg)


def _check_tokens(what: str, words: Iterable[str]) -> None:
    for word in words:
        # A role may have spaces elsewhere; here both are kept as texts that are joined by spaces.
        if not is_scope(word):
            # A lone surrogate could not be sent back as JSON.
            shown = word.encode("utf-8", "backslashreplace").decode()
            msg = f'a {what} is visible ASCII without spaces, commas, quotes or backslashes, not "{shown}"'
            raise InvalidUser(msg)


def check_password(password: str) -> None:
    """Check a new password. Raises InvalidUser."""
    if len(password) < SHORTEST_PASSWORD:
        msg = f"a password has at least {SHORTEST_PASSWORD} characters"
        raise InvalidUser(msg)
    if len(password.encode("utf-8", "surrogatepass")) > LONGEST_PASSWORD:
        msg = f"a password has at most {LONGEST_PASSWORD} bytes"
        raise InvalidUser(msg)
