"""Find a team's own endpoints on the FastAPI app, so that the gateway routes them like its own.

The gateway routes a request before FastAPI sees it. So each FastAPI route is translated into an `Endpoint` with a path,
methods and an access rule. A route that states no access rule gets the strict one: the gateway asks for a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from propylon.config.models.endpoints import Access, Endpoint
from propylon.control.identity import declared_access
from propylon.control.service import called_services

__all__ = ["custom_routes", "find_called", "find_endpoints"]

# FastAPI's `{path:path}` matches slashes too, so the endpoint answers for every path below.
_DEEP = re.compile(r"/[^/]*\{[^{}]*:path\}.*\Z")
# Safe by default: where the endpoint declares nothing, the gateway asks for a token.
_ACCESS: dict[str, Access] = {"checked": "checked", "public": "public", "undeclared": "known"}
_BY_STRICTNESS: tuple[Access, ...] = ("public", "checked", "known")


def custom_routes(app: FastAPI, builtin: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes of the app that are not among the gateway's own (`builtin`).

    FastAPI takes 20 ms to tell what the 20 of the gateway's own are: a third of what a worker does before it serves.
    """
    known = {id(route) for route in builtin}
    return [route for route in app.routes if id(route) not in known]


def find_endpoints(app: FastAPI, builtin: Iterable[BaseRoute]) -> tuple[Endpoint, ...]:
    """Return the endpoints of the app that are not among the gateway's own (`builtin`).

    FastAPI takes the first endpoint that matches, the gateway the most specific one. So where two endpoints can match
    the same request, both get the stricter access of the two. Otherwise a client could pass the gateway by the rule of
    the open endpoint, and FastAPI would then run the guarded one.
    """
    translated = map(_endpoint, iter_route_contexts(custom_routes(app, builtin)))
    found = [endpoint for endpoint in translated if endpoint is not None]
    return tuple(replace(endpoint, access=_strictest(endpoint, found)) for endpoint in found)


def find_called(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and service for each service that an endpoint calls, in mounted FastAPI apps, too."""
    for route in iter_route_contexts(list(routes)):
        path = prefix + (route.path or "")
        if isinstance(route.original_route, Mount):
            yield from find_called(route.original_route.routes, path)
        elif isinstance(dependant := getattr(route, "dependant", None), Dependant):
            yield from ((path, name) for name in called_services(dependant))


def _strictest(endpoint: Endpoint, all_endpoints: Iterable[Endpoint]) -> Access:
    """Return the strictest access among the endpoints that can match the same request."""
    overlapping = (other.access for other in all_endpoints if _overlap(endpoint, other))
    return max(overlapping, key=_BY_STRICTNESS.index)


def _endpoint(route: RouteContext) -> Endpoint | None:
    if isinstance(route.original_route, WebSocketRoute):
        return None
    written = route.path or ""
    if isinstance(route.original_route, Mount):
        return Endpoint(_path(written), None, "known", exact=False, max_body=None)
    methods = frozenset(route.methods) if route.methods else None
    if methods is not None and "GET" in methods:
        methods |= {"HEAD"}  # the app answers HEAD by GET (HeadAsGet)
    path = _DEEP.sub("", written)
    return Endpoint(
        _path(path), methods, _ACCESS[declared_access(route)], exact=path == written, max_body=None
    )


def _path(written: str) -> str:
    """Return the path as the gateway matches it: a segment with a parameter matches any segment."""
    segments = written.strip("/").split("/")
    return "/" + "/".join("{}" if "{" in segment else segment for segment in segments)


def _overlap(left: Endpoint, right: Endpoint) -> bool:
    """Whether one request can match both endpoints."""
    if left.methods is not None and right.methods is not None and not left.methods & right.methods:
        return False
    lefts, rights = _segments(left.path), _segments(right.path)
    if any(a != b and "{}" not in (a, b) for a, b in zip(lefts, rights, strict=False)):
        return False
    shorter = right if len(lefts) > len(rights) else left
    return len(lefts) == len(rights) or not shorter.exact


def _segments(path: str) -> list[str]:
    return [part for part in path.strip("/").split("/") if part]
