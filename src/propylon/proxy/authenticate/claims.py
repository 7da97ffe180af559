"""Judge what a token claims (RFC 7519, 4.1), and read from it who is asking. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from propylon.proxy.authenticate.jws import BadToken, read_json
from propylon.proxy.principal import Principal, identify, is_line, is_listable, is_scope
from propylon.wire.grammar import LATEST

__all__ = ["MOST_LEEWAY", "Rules", "Verified", "judge", "principal_of"]

_Claims = Mapping[str, object]

# Seconds. RFC 7519, 4.1.4: "usually no more than a few minutes, to account for clock skew". The configuration
# allows no more, and what is known of a token is kept for so long after its `exp`.
MOST_LEEWAY = 600.0

# Characters. A subject and an id become a header, a log field and a key in a store.
_MAX_TEXT = 256
# Characters: 64 before the @ and 255 behind it (RFC 5321, 4.5.3.1).
_MAX_EMAIL = 320
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration asks of a token. Nothing named: not checked."""

    issuers: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    leeway: float = 0.0
    # The first that a token has counts. `a.b` is b within a, unless a claim has that very name.
    scopes_claims: tuple[str, ...] = ("scope", "scopes")
    roles_claims: tuple[str, ...] = ("roles",)


@dataclass(frozen=True, slots=True)
class Verified:
    """Somebody a token vouches for.

    From `expires` on, it is not to be accepted; the leeway is in it. `issued` and `token_id` are for
    asking whether it was revoked.
    """

    principal: Principal
    expires: float
    issued: float | None
    token_id: str | None


def judge(payload: bytes | _Claims, rules: Rules, now: float) -> Verified:
    """Return who a token vouches for, if its claims hold now. Raises BadToken.

    That its signature was verified is the caller's business. That it has expired is found out last:
    the client is told so, and so hears it about a token that would otherwise do.
    """
    claims = _read(payload)
    _check_issuer(claims, rules)
    _check_audience(claims, rules)
    if claims.get("type", "access") != "access":
        # Tokens for refreshing, and the like, are signed with the same key.
        msg = "its type is not access"
        raise BadToken(msg)
    expires = _moment(claims, "exp")
    issued = _moment(claims, "iat")
    begins = _moment(claims, "nbf")
    if expires is None:
        msg = "it never expires (no exp)"
        raise BadToken(msg)
    if max(begins or 0, issued or 0) > now + rules.leeway:
        msg = "not valid yet (nbf or iat)"
        raise BadToken(msg)
    token_id = _text(claims, "jti") if "jti" in claims else None
    verified = Verified(principal_of(claims, rules), expires + rules.leeway, issued, token_id)
    if now >= verified.expires:
        msg = "expired"
        raise BadToken(msg, expired=True)
    return verified


def principal_of(claims: _Claims, rules: Rules) -> Principal:
    """Return who the claims are about, with the identity headers rendered. Raises BadToken.

    What is said about them otherwise is void if it has not the expected shape: it grants nothing, and
    is no reason to refuse a token of a good issuer.
    """
    subject = _text(claims, "sub")
    email = claims.get("email")
    scopes = _first(claims, rules.scopes_claims)
    roles = _first(claims, rules.roles_claims)
    principal = Principal(
        subject=subject,
        email=email if isinstance(email, str) and _is_email(email) else "",
        # RFC 6749, 3.3: scopes are parted by spaces. RFC 9068, 2.2.3: so it is in a claim. Some write a list.
        scopes=_names(scopes.split(" ") if isinstance(scopes, str) else scopes, is_scope),
        roles=_names(roles, is_listable),
        claims=claims,
    )
    return identify(principal)


def _read(payload: bytes | _Claims) -> _Claims:
    if not isinstance(payload, bytes):
        return payload
    claims = read_json(payload)
    if not isinstance(claims, dict):
        msg = "the payload is no JSON object"
        raise BadToken(msg)
    return claims


def _check_issuer(claims: _Claims, rules: Rules) -> None:
    issuer = claims.get("iss", _MISSING)
    if not isinstance(issuer, str):
        wrong = issuer is not _MISSING or bool(rules.issuers)
    else:
        wrong = bool(rules.issuers) and issuer not in rules.issuers
    if wrong:
        msg = "not from a configured issuer (iss)"
        raise BadToken(msg)


def _check_audience(claims: _Claims, rules: Rules) -> None:
    audience = claims.get("aud", [])
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        msg = "its audience (aud) is neither a string nor a list of strings"
        raise BadToken(msg)
    if rules.audiences and rules.audiences.isdisjoint(named):
        msg = "not for a configured audience (aud)"
        raise BadToken(msg)


def _moment(claims: _Claims, name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # True is an int to Python. NaN is in no range; asked otherwise, it would never have expired.
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"its {name} is no number"
        raise BadToken(msg)
    # Milliseconds, which some libraries write, are beyond it: as seconds they would never expire.
    if not 0 <= value <= LATEST:
        msg = f"its {name} is no moment in seconds since 1970"
        raise BadToken(msg)
    return float(value)


def _text(claims: _Claims, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not is_line(value):
        msg = f"its {name} is missing, empty, too long or no plain text"
        raise BadToken(msg)
    return value


def _is_email(value: str) -> bool:
    return len(value) <= _MAX_EMAIL and is_line(value) and not any(map(str.isspace, value))


def _first(claims: _Claims, names: Iterable[str]) -> object:
    for name in names:
        value = _find(claims, name)
        if value is not _MISSING:
            return value
    return None


def _find(claims: _Claims, name: str) -> object:
    if name in claims:
        return claims[name]
    if "." not in name:
        return _MISSING
    value: object = claims
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value


def _names(value: object, fits: Callable[[str], bool]) -> frozenset[str]:
    # Half a list is as void as none: whoever wrote something else into it meant something else.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return frozenset()
    # They are joined by commas in a header: "a,admin" would be two there.
    return frozenset(filter(fits, value))
