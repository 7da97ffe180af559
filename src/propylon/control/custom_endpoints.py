"""Find a team's own endpoints on the app, so that they are routed like the gateway's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from propylon.config.models.endpoints import Access, Endpoint
from propylon.control.identity import identity_of

__all__ = ["endpoints_of"]

# `{path:path}` takes slashes too: the endpoint answers for everything below.
_DEEP = re.compile(r"/[^/]*\{[^{}]*:path\}.*\Z")
# Safe by default: who is asked for no identity by the endpoint is asked for a token by the gateway.
_ACCESS: dict[str, Access] = {"checked": "checked", "public": "public", "unsaid": "known"}
_STRICTER: tuple[Access, ...] = ("public", "checked", "known")


def endpoints_of(app: FastAPI, own: Iterable[BaseRoute]) -> tuple[Endpoint, ...]:
    """Return the endpoints of the app that are not among the gateway's `own`.

    FastAPI takes the first endpoint that fits, the gateway the most specific one. Where several may answer
    a request, the strictest of them says whom it is for, so that none is reached by way of another.
    """
    known = {id(route) for route in own}
    theirs = [route for route in app.routes if id(route) not in known]
    found = [one for one in map(_endpoint, iter_route_contexts(theirs)) if one is not None]
    return tuple(
        replace(one, access=max((o.access for o in found if _meet(one, o)), key=_STRICTER.index))
        for one in found
    )


def _endpoint(route: RouteContext) -> Endpoint | None:
    if isinstance(route.original_route, WebSocketRoute):
        return None
    written = route.path or ""
    if isinstance(route.original_route, Mount):
        return Endpoint(_path(written), None, "known", exact=False, max_body=None)
    methods = frozenset(route.methods) if route.methods else None
    if methods is not None and "GET" in methods:
        methods |= {"HEAD"}  # the app answers it, too
    path = _DEEP.sub("", written)
    return Endpoint(
        _path(path), methods, _ACCESS[identity_of(route)], exact=path == written, max_body=None
    )


def _path(written: str) -> str:
    """Return the path as the gateway matches it: a segment with a parameter in it is any segment."""
    segments = written.strip("/").split("/")
    return "/" + "/".join("{}" if "{" in segment else segment for segment in segments)


def _meet(one: Endpoint, other: Endpoint) -> bool:
    """Whether there may be a request for both."""
    if one.methods is not None and other.methods is not None and not one.methods & other.methods:
        return False
    mine, theirs = one.path.strip("/").split("/"), other.path.strip("/").split("/")
    mine, theirs = [part for part in mine if part], [part for part in theirs if part]
    if any(a != b and "{}" not in (a, b) for a, b in zip(mine, theirs, strict=False)):
        return False
    longer = one if len(mine) > len(theirs) else other
    shorter = other if longer is one else one
    return len(mine) == len(theirs) or not shorter.exact
