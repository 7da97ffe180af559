"""Define the principal, and render the identity headers that upstreams get. Pure.

Upstreams trust these headers blindly, so no claim of a token may break out of its header line, read as two
values, or lose characters on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from propylon.wire.grammar import SCOPE_TEXT

__all__ = [
    "ANONYMOUS",
    "MISSING",
    "Principal",
    "caller_key",
    "claim_at",
    "claim_text",
    "identify",
    "is_line",
    "is_listable",
    "is_scope",
]

# Whatever any reader takes for the end of a line: C0 and C1 controls (NEL among them) and Unicode's separators.
# Lone surrogates cannot be encoded as UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

MISSING = object()
# Characters. A header that is longer would be refused by many frameworks, together with the request.
_LONGEST_CLAIM = 1024


@dataclass(frozen=True, slots=True, init=False)
class Principal:
    """Who sends the request: subject, scopes, roles and the claims that they come from."""

    subject: str
    email: str
    scopes: frozenset[str]
    roles: frozenset[str]
    claims: Mapping[str, object]
    # The identity headers, rendered once and cached with the principal.
    block: bytes
    # Who says so: the `iss` of the token; empty if it names none.
    issuer: str

    def __init__(
        self,
        subject: str = "",
        email: str = "",
        scopes: Iterable[str] = frozenset(),
        roles: Iterable[str] = frozenset(),
        claims: Mapping[str, object] | None = None,
        block: bytes = b"",
        issuer: str = "",
    ) -> None:
        """Accept scopes and roles as any collection of str. Raises TypeError for anything else."""
        # Written out for a frozen class, because fields take any collection and keep a frozenset.
        put = object.__setattr__
        put(self, "subject", subject)
        put(self, "email", email)
        put(self, "scopes", _names("scopes", scopes))
        put(self, "roles", _names("roles", roles))
        put(self, "claims", {} if claims is None else claims)
        put(self, "block", block)
        put(self, "issuer", issuer)

    @property
    def known(self) -> bool:
        """Whether the request was authenticated."""
        return bool(self.subject)

    @property
    def caller(self) -> str:
        """The caller as a key: two issuers may each have a subject "ann", and these are two people."""
        return caller_key(self.subject, self.issuer)

    def __str__(self) -> str:
        """Return the subject, as logs show it."""
        return self.subject or "anonymous"


def _names(what: str, given: Iterable[str]) -> frozenset[str]:
    # Rules compare sets. A list would fail with a 500 at the first request, and a single str would be taken for a
    # collection of letters: "admin" would grant "a".
    if isinstance(given, str):
        msg = f'{what} must be a collection of str, such as {what}=["read"], and not one str'
        raise TypeError(msg)
    # Any collection is accepted: policies and tests write lists.
    names = frozenset(given)
    if not all(isinstance(name, str) for name in names):
        msg = f"{what} must be a collection of str, and nothing else in it"
        raise TypeError(msg)
    return names


ANONYMOUS = Principal()


def caller_key(subject: str, issuer: str) -> str:
    """Return the key of a caller, the pair of subject and issuer."""
    # Neither may contain a line end, so no other pair has the same key.
    return f"{subject}\n{issuer}"


def is_line(value: str) -> bool:
    """Tell whether a value can be sent in a header and is read as the same value.

    Spaces at the ends are trimmed on the way (RFC 9110, 5.5): the subject "admin " must not arrive as "admin".
    """
    return bool(value) and value == value.strip() and _CONTROL.search(value) is None


def is_listable(value: str) -> bool:
    """Tell whether a value stays one value in a comma-joined header."""
    return "," not in value and is_line(value)


def is_scope(value: str) -> bool:
    """Say whether a value is a scope, which is stricter than a role: tokens and challenges hold it too."""
    return SCOPE_TEXT.fullmatch(value) is not None


def identify(principal: Principal, *, tells_issuer: bool = False) -> Principal:
    """Return the principal with its identity headers rendered; empty ones are left out.

    `tells_issuer`: X-User-Issuer is one of them. Raises ValueError for a value that would inject a header, or be read as another value.
    """
    pairs = (
        (b"X-User-Id", _checked_line(principal.subject)),
        (b"X-User-Email", _checked_line(principal.email)),
        (b"X-User-Roles", _checked_list(principal.roles, is_listable)),
        (b"X-User-Scopes", _checked_list(principal.scopes, is_scope)),
        (b"X-User-Issuer", _checked_line(principal.issuer) if tells_issuer else ""),
    )
    # An empty header is left out: upstreams would have to tell "no email" from "email is empty".
    lines = [b"\r\n%b: %b" % (name, value.encode()) for name, value in pairs if value]
    return replace(principal, block=b"".join(lines))


def _checked_line(value: str) -> str:
    if value and not is_line(value):
        msg = "a subject, email or issuer with control characters, or with space at an end"
        raise ValueError(msg)
    return value


def _checked_list(values: Iterable[str], fits: Callable[[str], bool]) -> str:
    if not all(map(fits, values)):
        msg = (
            "a role or scope that is empty, or with a comma, control characters or space at an end;"
            " or a scope with a quote, a backslash or anything but visible ASCII"
        )
        raise ValueError(msg)
    return ",".join(sorted(values))


def claim_at(claims: Mapping[str, object], name: str) -> object:
    """Return the claim of this name, or at this dotted path; MISSING if there is none."""
    if name in claims:
        return claims[name]
    if "." not in name:
        return MISSING
    value: object = claims
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return MISSING
        value = value[step]
    return value


def claim_text(value: object) -> str:
    """Return a claim as the value of a header: a list joined by commas; empty if it cannot be one."""
    if isinstance(value, list):
        items = [_scalar(item) for item in value]
        # A list with one item that cannot stand in it is left out whole: half a list would mean something else.
        text = ",".join(items) if all(map(is_listable, items)) else ""
    else:
        text = _scalar(value)
    return text if len(text) <= _LONGEST_CLAIM and is_line(text) else ""


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""
