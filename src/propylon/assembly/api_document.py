"""Make the API document: the gateway's own endpoints, a team's, and what the routes in force show of services.

It is made when somebody asks for it, from what is in force by then, and kept until something of that changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fastapi import FastAPI

from propylon.compile.exposure import expose
from propylon.config.models.schema import GatewayConfig
from propylon.control.identity import BEARER
from propylon.documents.document import Document
from propylon.documents.exposure import Exposure, sample
from propylon.documents.in_force import InForce
from propylon.documents.merge import Collected, Merged, Scheme
from propylon.documents.own import ENVELOPE, components_of, operations_of
from propylon.documents.publish import Mismatch, error_components, publish, publish_route
from propylon.documents.published import Published
from propylon.loop.slices import in_slices, released
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal

__all__ = ["ApiDocument"]

log = logging.getLogger(__name__)

_OPEN = frozenset({"public", "docs", "offered", "local"})
_MOST_HIDDEN = 10  # that are logged
_MOST_TEXTS = 8  # a mount has one; a proxy in front of it may send any
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A token from the token endpoint, or your issuer's.",
}

_Permission = tuple[frozenset[str], frozenset[str], bool]


class ApiDocument:
    """The document of one gateway, for as long as its loop runs."""

    def __init__(
        self,
        api: FastAPI,
        documents: InForce,
        quietly: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Describe the endpoints of `api`, and the services whose `documents` are in force."""
        self._api = api
        self._documents = documents
        self._quietly = quietly
        self._turn = asyncio.Lock()
        self._config = GatewayConfig()
        self._tables: Mapping[str, Table] = {}
        self._made_of: tuple[object, ...] = ()
        self._merged: Merged | None = None
        # By the path of the mount, and what the caller may do; None: all.
        self._texts: dict[tuple[str, _Permission | None], tuple[bytes, ...]] = {}
        self.mismatches: tuple[Mismatch, ...] = ()

    def apply(self, config: GatewayConfig, tables: Mapping[str, Table]) -> None:
        """Go on with another configuration and its tables, by listener; that of "" is the public one."""
        self._config, self._tables = config, tables

    async def text(self, root: str, caller: Principal | None = None) -> tuple[bytes, ...]:
        """Return the document, in pieces, for a gateway mounted at `root`: what `caller` may call; None: all."""
        async with self._turn:
            merged = await self._current()
            # Callers who may do the same share a text: a large one takes a second of work, and nobody needs a token to ask.
            key = root, None if caller is None else _permission(caller)
            if key not in self._texts:
                if len(self._texts) >= _MOST_TEXTS:
                    self._texts.clear()
                permits = None if caller is None else _permits(caller)
                self._texts[key] = await in_slices(merged.text(permits, root))
            return self._texts[key]

    async def compare(self) -> tuple[Mismatch, ...]:
        """Return the operations that ask for scopes which their routes do not ask for."""
        async with self._turn:
            await self._current()
            return self.mismatches

    async def _current(self) -> Merged:
        # Not the documents themselves: one that is no longer in force would stay for as long as nobody asks.
        made_of = (
            tuple((name, one.digest) for name, one in self._documents.current.items()),
            self._config,
            tuple(self._tables.values()),
            len(self._api.routes),
        )
        if self._merged is None or made_of != self._made_of:
            old, self._merged = self._merged, None
            with self._quietly():
                if old is not None:
                    holding: list[Any] = [*old.operations, *old.components.values()]
                    holding += [piece for text in self._texts.values() for piece in text]
                    self._texts.clear()
                    del old
                    await in_slices(released(holding))
                # FastAPI makes its part in one piece, of several milliseconds: in a thread, which gives way.
                self._api.openapi_schema = None
                own = await asyncio.to_thread(self._api.openapi)
                self._merged = await in_slices(self._merge(own, self._documents.current))
            self._made_of, self._texts = made_of, {}
        return self._merged

    def _merge(
        self, own: Mapping[str, Any], documents: Mapping[str, Document]
    ) -> Generator[None, None, Merged]:
        collected = Collected()
        mismatches: list[Mismatch] = []
        for endpoint in operations_of(own, self._wants_token):
            collected.add(endpoint)
            yield
        routes: dict[str, list[Exposure]] = {}
        for exposure in expose(self._config):
            routes.setdefault(exposure.service, []).append(exposure)
            yield
        components = {**components_of(own), **error_components(ENVELOPE)}
        for service, exposures in routes.items():
            document = documents.get(service)
            if document is None:
                for exposure in exposures:
                    for shown in publish_route(exposure, self._chosen):
                        collected.add(shown)
                        yield
                continue
            components.update(document.components)
            for found in publish(document, exposures, self._chosen):
                if isinstance(found, Published):
                    collected.add(found)
                elif found is not None:
                    mismatches.append(found)
                yield
        self.mismatches = tuple(mismatches)
        _say_hidden(collected)
        return Merged(
            info=own["info"],
            schemes=tuple(_schemes(self._config)),
            operations=tuple(collected.operations),
            components=components,
            tags={name: one.title for name, one in documents.items()},
        )

    def _chosen(self, host: str, path: bytes, method: str) -> str | None:
        """Return the name of the route that a request gets: the same table decides it as for requests."""
        places = self._tables[""].places(host.replace("*", "x", 1).encode("ascii"), path)
        # Of routes with conditions, those speak that a request without anything special gets.
        route = places[-1].choose(method) if places else None
        return None if route is None or route.service.builtin else route.name

    def _wants_token(self, path: str, method: str) -> bool | None:
        if not self._tables:
            return False  # the app is asked without the gateway in front, as in a team's tests
        if path == f"{self._config.prefix}/auth/token" and not self._config.auth.issues:
            return None
        segments = tuple(path.strip("/").split("/")) if path.strip("/") else ()
        for table in self._tables.values():
            leaf = table.find(b"", sample(segments))
            route = None if leaf is None else leaf.choose(method)
            if route is not None and route.service.builtin:
                return route.access not in _OPEN
        return None


def _say_hidden(collected: Collected) -> None:
    for first, one in collected.hidden[:_MOST_HIDDEN]:
        log.warning(
            'API document: %s %s of "%s" is not shown: the path of "%s" on another host is the same',
            *(one.method, one.path, one.tag, first.tag),
        )


def _permission(caller: Principal) -> _Permission:
    return frozenset(caller.scopes), frozenset(caller.roles), caller.known


def _permits(caller: Principal) -> Callable[[Published], bool]:
    scopes, roles, known = _permission(caller)

    def permits(operation: Published) -> bool:
        return operation.callers.permit(scopes, roles, known=known)

    return permits


def _schemes(config: GatewayConfig) -> Iterable[Scheme]:
    """Yield the ways to send a token, and where a page gets one: our token endpoint, or the configured providers."""
    yield Scheme(BEARER, _BEARER)
    if config.auth.issues:
        yield Scheme("password", {"type": "oauth2"}, f"{config.prefix}/auth/token")
    urls = [entry.discovery_url for entry in config.auth.jwt.entries if entry.discovery_url]
    for number, url in enumerate(dict.fromkeys(urls), start=1):
        name = "provider" if number == 1 else f"provider{number}"
        yield Scheme(name, {"type": "openIdConnect", "openIdConnectUrl": url})
