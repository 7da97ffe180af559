"""Find conflicts between the entries of `auth.jwt`, and between them and the routes' `issuers`. Pure."""

from collections.abc import Iterator

from propylon.config.models.inherit import with_defaults
from propylon.config.models.spelling import did_you_mean
from propylon.config.reading.credentials import jwt_entries
from propylon.config.reading.problems import Finding, Path, dotted

__all__ = ["issuer_findings"]

_KEYS = ("secret", "public_key", "jwks_url", "discovery_url")
_ANY = "entries without issuer"


def issuer_findings(written: object) -> Iterator[Finding]:
    """Yield each such conflict of a raw configuration, whether the rest of it is valid or not."""
    entries = list(jwt_entries(written))
    if isinstance(_jwt(written), list):
        yield from _keyless(entries)
        yield from _twice(entries)
    yield from _unknown(written, entries)


def _jwt(written: object) -> object:
    auth = written.get("auth") if isinstance(written, dict) else None
    return auth.get("jwt") if isinstance(auth, dict) else None


def _keyless(entries: list[tuple[Path, dict[str, object]]]) -> Iterator[Finding]:
    for path, entry in entries:
        if not any(_is_written(entry.get(key)) for key in _KEYS):
            msg = "is missing; write it, or public_key, jwks_url or discovery_url, or set JWT_SECRET_KEY"
            yield (*path, "secret"), msg


def _is_written(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def _twice(entries: list[tuple[Path, dict[str, object]]]) -> Iterator[Finding]:
    first: dict[str, Path] = {}
    for path, entry in entries:
        for issuer in dict.fromkeys(_tokens_of(entry)):
            other = first.setdefault(issuer, path)
            if other is path:
                continue
            if issuer == _ANY:
                msg = f"has no issuer, and neither has {dotted(other)}: the gateway could not choose; write issuer"
                yield path, msg
            else:
                key = "issuer" if issuer in _texts(entry.get("issuer")) else "discovery_url"
                msg = f"{issuer} is the issuer of {dotted(other)}, too: one issuer has one entry"
                yield (*path, key), msg


def _tokens_of(entry: dict[str, object]) -> list[str]:
    """Return the issuers of an entry; the document's address stands for one that is read from there."""
    return _texts(entry.get("issuer")) or _texts(entry.get("discovery_url")) or [_ANY]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _unknown(written: object, entries: list[tuple[Path, dict[str, object]]]) -> Iterator[Finding]:
    whole = with_defaults(written)
    routes = whole.get("routes") if isinstance(whole, dict) else None
    # An entry without `issuer` may accept any, and a document may name any.
    if not entries or not all(_texts(entry.get("issuer")) for _, entry in entries):
        return
    known = {issuer for _, entry in entries for issuer in _texts(entry.get("issuer"))}
    for at, route in enumerate(routes if isinstance(routes, list) else ()):
        for issuer in _texts(route.get("issuers")) if isinstance(route, dict) else ():
            if issuer not in known:
                msg = f'no entry of auth.jwt has the issuer "{issuer}"{did_you_mean(issuer, known)}'
                yield ("routes", at, "issuers"), msg
