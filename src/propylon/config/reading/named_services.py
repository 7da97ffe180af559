"""Make services and routes of `NAME_SERVICE_URL` and `NAME_SERVICE_PUBLIC`, where there is no file. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from propylon.config.models.syntax import check_method, check_path
from propylon.config.reading.environment import Setting
from propylon.config.reading.problems import Finding, Problem
from propylon.config.reading.rules import UNUSED_VARIABLE

__all__ = ["NamedServices", "named_services", "unused_variables"]

_URL = re.compile(r"([A-Z][A-Z0-9_]*)_SERVICE_URL")
_PUBLIC = re.compile(r"([A-Z][A-Z0-9_]*)_SERVICE_PUBLIC")
# Without these three, no user could log in at an auth service. Only POST, and nothing below them: a service has more under
# /signup than people remember.
_OF_AUTH = "/login,/signup,/refresh"
_AUTH = "auth"
_OTHERS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET")


class NamedServices(NamedTuple):
    """Services and routes as a file would have them, where each came from, and what is wrong with the variables."""

    services: dict[str, object]
    routes: list[dict[str, object]]
    places: list[Setting]
    problems: list[Finding]


class _Open(NamedTuple):
    """A path that needs no token; without a method, it is open for all."""

    path: str
    method: str | None


def named_services(environ: Mapping[str, str], prefix: str) -> NamedServices:
    """Return a service and its routes for each `NAME_SERVICE_URL`; `_` in a name becomes `-`."""
    made = NamedServices({}, [], [], [])
    for name, variable in sorted(_named(environ)):
        made.services[name] = {"url": environ[variable]}
        made.places.append(Setting(("services", name), None, variable))
        public = variable.removesuffix("_URL") + "_PUBLIC"
        text = environ.get(public, _OF_AUTH if name == _AUTH else "")
        try:
            opened = [_open(entry, name) for entry in text.split(",") if entry.strip()]
        except ValueError as error:
            # An empty key is shown as the one above it.
            made.places.append(Setting(("services", name, ""), None, public))
            made.problems.append((("services", name, ""), str(error)))
            opened = []
        for route in _routes(name, prefix, opened):
            place = variable if public not in environ else public
            made.places.append(Setting(("routes", len(made.routes)), None, place))
            made.routes.append(route)
    return made


def unused_variables(environ: Mapping[str, str], *, has_file: bool) -> Iterator[Problem]:
    """Yield a warning for each `NAME_SERVICE_PUBLIC` that opens nothing."""
    if has_file:
        return
    for variable in sorted(environ):
        match = _PUBLIC.fullmatch(variable)
        if match is not None and not environ.get(f"{match[1]}_SERVICE_URL"):
            msg = f"opens nothing, because {match[1]}_SERVICE_URL is not set"
            yield Problem(variable, "", msg, UNUSED_VARIABLE.id)


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, text in environ.items():
        if text and (match := _URL.fullmatch(variable)):
            yield match[1].lower().replace("_", "-"), variable


def _open(entry: str, name: str) -> _Open:
    """Read `/login` or `GET /items`. Raises ValueError."""
    method, _, path = entry.strip().rpartition(" ")
    if method:
        check_method(method)
    elif name == _AUTH:
        method = "POST"
    return _Open(check_path(path, names=False), method or None)


def _routes(name: str, prefix: str, opened: list[_Open]) -> Iterator[dict[str, object]]:
    base = f"{prefix}/{name}"
    yield {"name": name, "path": base, "service": name, "strip_prefix": True}
    for path, methods in _by_path(opened).items():
        one: dict[str, object] = {
            "path": base + path,
            "exact": True,
            "service": name,
            "rewrite": path,
        }
        # Names of the routes, for logs and metrics.
        yield {**one, **methods, "name": f"{name}{path}", "auth": "none"}
        if methods:
            # The other methods go the way of the rest of the service. Without this route they would be 405.
            taken = methods["methods"]
            others = [method for method in _OTHERS if method not in taken]
            others += [method for method in ("POST",) if method not in taken]
            yield {**one, "methods": others, "name": f"{name}{path} (token)"}


def _by_path(opened: list[_Open]) -> dict[str, dict[str, list[str]]]:
    """Return the methods that are open at each path, as keys of a route; no key where all are."""
    found: dict[str, list[str | None]] = {}
    for one in opened:
        found.setdefault(one.path, []).append(one.method)
    return {
        path: {} if None in methods else {"methods": [m for m in methods if m is not None]}
        for path, methods in found.items()
    }
