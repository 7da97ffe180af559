"""Say who is asking. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from propylon.wire.grammar import SCOPE_TEXT

__all__ = ["ANONYMOUS", "Principal", "identify", "is_line", "is_listable", "is_scope"]

# What ends a line for any reader that there is: C0 and C1 (NEL is one), and Unicode's own separators.
# Lone surrogates have no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, init=False)
class Principal:
    """Who is asking: subject, scopes, roles and the claims they came from."""

    subject: str
    email: str
    scopes: frozenset[str]
    roles: frozenset[str]
    claims: Mapping[str, object]
    # The identity headers, rendered once for as long as the principal is remembered.
    block: bytes

    def __init__(
        self,
        subject: str = "",
        email: str = "",
        scopes: Iterable[str] = frozenset(),
        roles: Iterable[str] = frozenset(),
        claims: Mapping[str, object] | None = None,
        block: bytes = b"",
    ) -> None:
        """Take scopes and roles in any collection. Raises TypeError for one that is none of texts."""
        put = object.__setattr__  # the class is frozen
        put(self, "subject", subject)
        put(self, "email", email)
        put(self, "scopes", _names("scopes", scopes))
        put(self, "roles", _names("roles", roles))
        put(self, "claims", {} if claims is None else claims)
        put(self, "block", block)

    @property
    def known(self) -> bool:
        """Whether anybody vouched for them."""
        return bool(self.subject)

    def __str__(self) -> str:
        """Return the subject, as logs name it."""
        return self.subject or "anonymous"


def _names(what: str, given: Iterable[str]) -> frozenset[str]:
    # Rules compare sets: a list or a tuple would be a 500 when somebody asks, and of a text each
    # letter would be a scope.
    if isinstance(given, str):
        msg = f'{what} must be a collection of str, such as {what}=["read"], and not one str'
        raise TypeError(msg)
    names = frozenset(given)
    if not all(isinstance(name, str) for name in names):
        msg = f"{what} must be a collection of str, and nothing else in it"
        raise TypeError(msg)
    return names


ANONYMOUS = Principal()


def is_line(value: str) -> bool:
    """Say whether a value can stand in a header and come out of it as it was.

    Space at the ends would be trimmed on the way (RFC 9110, 5.5): "admin " must not arrive as "admin".
    """
    return bool(value) and value == value.strip() and _CONTROL.search(value) is None


def is_listable(value: str) -> bool:
    """Say whether a value can stand in a comma-joined header, and stays one value."""
    return "," not in value and is_line(value)


def is_scope(value: str) -> bool:
    """Say whether a value is a scope, which is stricter than a role: tokens and challenges hold it too."""
    return SCOPE_TEXT.fullmatch(value) is not None


def identify(principal: Principal) -> Principal:
    """Return the principal with its identity headers rendered; a header without a value is left out.

    Raises ValueError for a value that would make another header, or another value.
    """
    pairs = (
        (b"X-User-Id", _line(principal.subject)),
        (b"X-User-Email", _line(principal.email)),
        (b"X-User-Roles", _list(principal.roles, is_listable)),
        (b"X-User-Scopes", _list(principal.scopes, is_scope)),
    )
    lines = [b"\r\n%b: %b" % (name, value.encode()) for name, value in pairs if value]
    return replace(principal, block=b"".join(lines))


def _line(value: str) -> str:
    if value and not is_line(value):
        msg = "a subject or email with control characters, or with space at an end"
        raise ValueError(msg)
    return value


def _list(values: Iterable[str], fits: Callable[[str], bool]) -> str:
    if not all(map(fits, values)):
        msg = (
            "a role or scope that is empty, or with a comma, control characters or space at an end;"
            " or a scope with a quote, a backslash or anything but visible ASCII"
        )
        raise ValueError(msg)
    return ",".join(sorted(values))
