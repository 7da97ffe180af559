"""Find what keeps `sticky` from working: nothing to sign with, and cookies of one name. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from propylon.config.reading.credentials import jwt_entries
from propylon.config.reading.problems import Finding, Path, dotted

__all__ = ["sticky_findings"]


def sticky_findings(whole: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the problems of a raw configuration."""
    found = list(_stickies(whole))
    signs = any(entry.get("secret") for _, entry in jwt_entries(whole))
    for path, sticky in found:
        if not sticky.get("secret") and not signs:
            msg = "has nothing to sign its cookie with: write secret with what `openssl rand -hex 32` prints, or set auth.jwt.secret"
            yield path, msg
    yield from _same_names(found)


def _stickies(whole: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    services, routes = whole.get("services"), whole.get("routes")
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict) and isinstance(sticky := service.get("sticky"), dict):
            yield ("services", name, "sticky"), sticky
    for at, route in enumerate(routes if isinstance(routes, list | tuple) else ()):
        if isinstance(route, dict) and isinstance(sticky := route.get("sticky"), dict):
            yield ("routes", at, "sticky"), sticky


def _same_names(found: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    """Yield the cookies that overwrite each other. Routes may share one: it names a service, on all of them."""
    first: dict[object, Path] = {}
    for path, sticky in found:
        name = sticky.get("cookie")
        other = first.setdefault(name, path) if isinstance(name, str) else path
        if other != path and not other[0] == path[0] == "routes":
            msg = f'{dotted(other)} sets a cookie "{name}", too, and each would undo the other; write another name'
            yield (*path, "cookie"), msg
