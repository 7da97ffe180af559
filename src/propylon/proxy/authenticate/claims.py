"""Check the claims of a token (RFC 7519, 4.1) and make a principal of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from propylon.proxy.authenticate.jws import BadToken, read_json
from propylon.proxy.authenticate.kinds import check_kind
from propylon.proxy.challenge import unlike
from propylon.proxy.principal import (
    MISSING,
    Principal,
    claim_at,
    identify,
    is_line,
    is_listable,
    is_scope,
)
from propylon.wire.grammar import LATEST

__all__ = [
    "MISSING",
    "MOST_LEEWAY",
    "Rules",
    "Verified",
    "claim_at",
    "judge",
    "principal_of",
    "read",
]

_Claims = Mapping[str, object]

# Rules:
# - A claim that the gateway relies on (sub, exp, nbf, iat, iss, aud, type, jti) is well-formed, or the token is refused.
# - A claim that only grants or informs (scopes, roles, email) is void if it is malformed, and grants nothing.
# - Of the claims that may hold the subject, the first that a token has counts, even if it is malformed: falling back to
#   the next one would make another person of the caller.
# - Of the claims that may hold scopes, or roles, all count. Issuers spread them: Keycloak writes roles of the realm and of
#   each client into claims of their own.

# Seconds. RFC 7519, 4.1.4: "usually no more than a few minutes, to account for clock skew". The configuration allows no
# more, and the stores keep what they know of a token for so long after its `exp`.
MOST_LEEWAY = 600.0

# Characters. Subject and id become a header, a log field, and a key in a store: all want a bound.
_MAX_TEXT = 256
# Characters. An issuer is a URL (OpenID Connect Core, 2).
_MAX_ISSUER = 1024
# Characters: 64 before the @ and 255 after it (RFC 5321, 4.5.3.1).
_MAX_EMAIL = 320


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration demands of a token; an empty set demands nothing."""

    issuers: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    leeway: float = 0.0
    skew: float = 0.0  # seconds that `iat` and `nbf` may lie ahead; at least `leeway`
    # Scopes and roles are the union of all these claims; the subject is the first that the token has. `a.b` means b
    # inside a, unless a claim is named "a.b" as a whole.
    scopes_claims: tuple[str, ...] = ("scope", "scopes")
    roles_claims: tuple[str, ...] = ("roles",)
    subject_claims: tuple[str, ...] = ("sub",)
    # The only `typ` that a token's header may have; empty: any that does not name another kind of token.
    required_type: str = ""
    # Whether upstreams get X-User-Issuer: with several issuers, a subject alone does not say who it is.
    tells_issuer: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that was verified: its principal, and until when it holds.

    `expires` includes the leeway: from that moment on the token is refused. `issued` and `token_id` are for
    the list of revoked tokens.
    """

    principal: Principal
    expires: float
    issued: float | None
    token_id: str | None


def judge(payload: bytes | _Claims, rules: Rules, now: float) -> Verified:
    """Return the principal of a token whose claims hold at `now`. Raises BadToken.

    The caller has verified the signature. The expiry is checked last: only an expired token that is good
    otherwise is reported as expired, so that the client refreshes it, and a forger learns nothing.
    """
    claims = read(payload) if isinstance(payload, bytes) else payload
    _check_issuer(claims, rules)
    _check_audience(claims, rules)
    check_kind(claims, audience_checked=bool(rules.audiences))
    expires = _timestamp(claims, "exp")
    issued = _timestamp(claims, "iat")
    not_before = _timestamp(claims, "nbf")
    # RFC 7519 leaves `exp` optional; here it is required, because a leaked token would be good forever.
    if expires is None:
        msg = "it never expires (no exp)"
        raise BadToken(msg)
    # `iat` in the future: the clocks differ by more than the skew, or the token was made for later. RFC 7519 asks for
    # no check of `iat`. Two machines whose clocks differ by a second would refuse each other's fresh tokens.
    if max(not_before or 0, issued or 0) > now + max(rules.skew, rules.leeway):
        ahead = max(not_before or 0, issued or 0) - now
        msg = f"not valid yet (nbf or iat): {ahead:.0f} s ahead of this machine's clock"
        raise BadToken(msg)
    token_id = _text(claims, "jti") if "jti" in claims else None
    verified = Verified(principal_of(claims, rules), expires + rules.leeway, issued, token_id)
    if now >= verified.expires:
        msg = f"expired {now - verified.expires:.0f} s ago (exp, leeway included)"
        raise BadToken(msg, expired=True)
    return verified


def principal_of(claims: _Claims, rules: Rules) -> Principal:
    """Return the principal that the claims describe, with its identity headers. Raises BadToken.

    Only the subject is required. Another claim of the wrong shape grants nothing, and does not void the token:
    issuers put all kinds of things into claims that the operator does not use.
    """
    email = claims.get("email")
    issuer = claims.get("iss", "")
    principal = Principal(
        subject=_subject(claims, rules.subject_claims),
        email=email if isinstance(email, str) and _is_email(email) else "",
        scopes=_union(_scopes, claims, rules.scopes_claims),
        roles=_union(_roles, claims, rules.roles_claims),
        claims=claims,
        issuer=issuer if isinstance(issuer, str) else "",
    )
    return identify(principal, tells_issuer=rules.tells_issuer)


def read(payload: bytes) -> _Claims:
    """Return the claims of a payload. Raises BadToken if it is no JSON object."""
    claims = read_json(payload)
    if not isinstance(claims, dict):
        msg = "the payload is no JSON object"
        raise BadToken(msg)
    return claims


def _check_issuer(claims: _Claims, rules: Rules) -> None:
    # A malformed `iss` is refused even if no issuer is configured: such a token comes from no sound issuer.
    issuer = claims.get("iss", MISSING)
    if not isinstance(issuer, str):
        wrong = issuer is not MISSING or bool(rules.issuers)
    else:
        # The issuer is half of the caller's name, and may become a header: it is one line of text.
        wrong = not _is_issuer(issuer) or (bool(rules.issuers) and issuer not in rules.issuers)
    if wrong:
        raise BadToken(
            unlike("not from a configured issuer (iss)", claims.get("iss"), rules.issuers)
        )


def _check_audience(claims: _Claims, rules: Rules) -> None:
    # RFC 7519, 4.1.3: a string or a list of strings. A token without `aud` is for no configured audience.
    audience = claims.get("aud", [])
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        msg = "its audience (aud) is neither a string nor a list of strings"
        raise BadToken(msg)
    if rules.audiences and rules.audiences.isdisjoint(named):
        raise BadToken(
            unlike("not for a configured audience (aud)", claims.get("aud"), rules.audiences)
        )


def _timestamp(claims: _Claims, name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # True is an int in Python. NaN fails every comparison, so `now >= nan` would never call the token expired; the
    # range check below refuses it.
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"its {name} is not a number"
        raise BadToken(msg)
    # Some libraries write milliseconds: those are far beyond the year 9999, and taken for seconds they would make a
    # token that never expires.
    if not 0 <= value <= LATEST:
        msg = f"its {name} is not a time in seconds since 1970"
        raise BadToken(msg)
    return float(value)


def _is_issuer(value: str) -> bool:
    return not value or (len(value) <= _MAX_ISSUER and is_line(value))


def _subject(claims: _Claims, names: Iterable[str]) -> str:
    found = ((name, claim_at(claims, name)) for name in names)
    name, value = next((pair for pair in found if pair[1] is not MISSING), ("sub", None))
    # Some issuers number their users. True is an int in Python, and no user's number.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _line(value, name)


def _text(claims: _Claims, name: str) -> str:
    return _line(claims.get(name), name)


def _line(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not is_line(value):
        msg = f"its {name} is missing, empty, too long or no plain text"
        raise BadToken(msg)
    return value


def _is_email(value: str) -> bool:
    return len(value) <= _MAX_EMAIL and is_line(value) and not any(map(str.isspace, value))


def _union(
    read_names: Callable[[object], frozenset[str]], claims: _Claims, names: Iterable[str]
) -> frozenset[str]:
    return frozenset().union(*(read_names(claim_at(claims, name)) for name in names))


def _scopes(value: object) -> frozenset[str]:
    # Scopes are one string with spaces (RFC 6749, 3.3; RFC 9068, 2.2.3). Some issuers write a list.
    return _names(value.split(" ") if isinstance(value, str) else value, is_scope)


def _roles(value: object) -> frozenset[str]:
    # The name of a role may have spaces ("Super User"), so one string is one role.
    return _names([value] if isinstance(value, str) else value, is_listable)


def _names(value: object, fits: Callable[[str], bool]) -> frozenset[str]:
    # A list with one wrong item is void as a whole: the issuer means something else by this claim.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return frozenset()
    # Upstreams get the names joined by commas, where "a,admin" would read as two.
    return frozenset(filter(fits, value))
