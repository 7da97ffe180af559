"""Say what a configuration decides about a request, in kinds: the route, the rules of it, what its service would get.

Strategy. The request goes through the real pipeline (`Rehearsal`), up to the service. A log has no tokens and no passwords,
so the stages that ask for them let everything pass here, and their rules are compared as they are written. Limits and
caches depend on what went before; their rules are compared, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from propylon.commands.explain.dry_run import DryRun, Rehearsal, SampleRequest
from propylon.commands.offline import Entry
from propylon.commands.routes import auth_words
from propylon.compile.forward_auth import shown_url
from propylon.config.models.route import RouteConfig
from propylon.config.models.templates import QueryConfig
from propylon.config.reading.load import Loaded
from propylon.explain.stages import Note, limit_text
from propylon.proxy.authenticate import anonymous
from propylon.proxy.authorize import anybody
from propylon.proxy.route import Route, ignore_privacy
from propylon.wire.headers import fields, values

__all__ = ["KINDS", "Decision", "Judge", "Said"]

OWN = ("route", "answer", "service", "path", "headers", "auth", "limit", "cache")
# Told by another kind, or by the request's own way through the pipeline.
_TOLD = frozenset(
    [
        "name",
        "path",
        "exact",
        "methods",
        "hosts",
        "match",
        "priority",
        "clients",
        "maintenance",
        "auth",
        "scopes",
        "roles",
        "security",
        "issuers",
        "basic_auth",
        "forward_auth",
        "respond",
        "redirect",
        "service",
        "split",
        "strip_prefix",
        "rewrite",
        "query",
        "headers",
        "claims",
        "rate_limit",
        "cache",
        "coalesce",
        "sampling",
    ]
)
_OTHERS = tuple(key for key in RouteConfig.model_fields if key not in _TOLD)
KINDS = (*OWN, *_OTHERS)
"""All kinds of decisions, in the order in which they are told; the later ones are keys of a route."""
_NONE = "none"
# Each request has its own, or they are the service's.
_VOLATILE = frozenset({b"host", b"x-request-id", b"traceparent", b"content-length", b"connection"})
_SHOWN_URLS = 3


@dataclass(frozen=True, slots=True)
class Said:
    """What is decided: a value that is compared, and a label by which the same changes are grouped."""

    value: object
    label: str


Decision = Mapping[str, Said]
"""What a configuration decides about a request, by kind; without the kinds that its answer does not come to."""


class Judge:
    """Decides by one configuration. Needs a running loop."""

    def __init__(self, loaded: Loaded) -> None:
        """Compile the configuration."""
        self._loaded = loaded
        self._limits: dict[tuple[int, str], str] = {}
        self._rules: dict[Route, dict[str, Said]] = {}
        self._rehearsal = Rehearsal(loaded, self._adapted)
        self._entries = {entry.route: entry for entry in self._rehearsal.entries}

    def _adapted(self, entry: Entry, _: Note) -> Route:
        """Return a route whose stages ask for nothing that a log does not have."""
        route = entry.route
        self._limits[id(entry.written), route.name] = limit_text(route.limit)
        sockets = route.sockets
        if sockets is not None:
            sockets = replace(sockets, authenticate=anonymous, trusts=lambda _: True)
        return replace(
            route,
            authenticate=anonymous,
            beside_certificate=None,
            authorize=anybody,
            privacy=ignore_privacy,
            privacy_applies=False,
            before=None,
            limit=None,
            split=None,
            sockets=sockets,
        )

    async def decide(self, sample: SampleRequest) -> Decision:
        """Return what is decided about a request."""
        run = await self._rehearsal.send(sample)
        entry = None if run.route is None else self._entries.get(run.route)
        found = {"route": _same(_NONE), "answer": self._answer(run, entry)}
        if entry is not None:
            found |= self._of_route(entry)
            if run.sent:
                found |= _sent(run.sent, entry)
        return found

    def _answer(self, run: DryRun, entry: Entry | None) -> Said:
        if run.sent:
            return _same("from the service")
        status, block = run.answer
        if run.error is not None:
            return _same(f"{run.error.status} {run.error.code}")
        to = b", ".join(values(block, b"location")).decode("latin-1")
        redirect = entry.written.redirect if entry is not None and entry.written else None
        if redirect is not None:
            return Said((status, to), f"{status} to {redirect.to}")
        return _same(f"{status} by the gateway")

    def _of_route(self, entry: Entry) -> dict[str, Said]:
        known = self._rules.get(entry.route)
        if known is None:
            known = self._rules[entry.route] = self._made(entry)
        return known

    def _made(self, entry: Entry) -> dict[str, Said]:
        written, route = entry.written, entry.route
        limit = self._limits[id(written), route.name] or _NONE
        found = {"route": _same(route.name), "limit": _same(limit)}
        if written is None:
            return found | {"auth": _same(entry.auth), "service": _same("the gateway's own")}
        found["auth"] = _auth(written)
        found["cache"] = _same(_cache(written))
        found["service"] = self._service(written)
        for key in _OTHERS:
            found[key] = _same(_dumped(written, key))
        return found

    def _service(self, written: RouteConfig) -> Said:
        if not written.services:
            return _same(_NONE)
        parts = []
        for name in written.services:
            urls = self._loaded.config.services[name].urls
            shown = ", ".join(urls[:_SHOWN_URLS]) + (", ..." if len(urls) > _SHOWN_URLS else "")
            parts.append(f"{name} ({shown})")
        weights = [part.weight for part in written.split] or [1]
        if len(parts) > 1:
            parts = [f"{weight} x {one}" for weight, one in zip(weights, parts, strict=True)]
        return Said(
            (tuple(weights), written.services, _all_urls(self._loaded, written)), ", ".join(parts)
        )


def _all_urls(loaded: Loaded, written: RouteConfig) -> tuple[object, ...]:
    return tuple(tuple(loaded.config.services[name].urls) for name in written.services)


def _same(text: str) -> Said:
    return Said(text, text)


def _auth(written: RouteConfig) -> Said:
    """Return what a caller must show, with whom is asked about it: another file or another service lets others in."""
    basic, forward = written.basic_auth, written.forward_auth
    words = auth_words(written)
    asked = f" at {shown_url(forward.url)}" if forward else ""
    users = basic.file.get_secret_value() if basic else ""
    value = (words, users, forward.model_dump_json() if forward else "")
    return Said(value, ", ".join(words) + asked)


def _cache(written: RouteConfig) -> str:
    if written.cache:
        return (
            _plain(written.cache.model_dump(mode="json", exclude_defaults=True))
            or "by the defaults"
        )
    return "coalesced only" if written.coalesce else _NONE


def _dumped(written: RouteConfig, key: str) -> str:
    value = getattr(written, key)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    else:
        value = written.model_dump(mode="json", include={key})[key]
    return _plain(value) or "default"


def _plain(value: Any) -> str:
    """Return a value in one line; empty for what says nothing."""
    if value in (None, (), [], {}, "", False):
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(", ", ": "))


def _sent(sent: bytes, entry: Entry) -> dict[str, Said]:
    """Return what the service would get: the target, and the headers."""
    line, _, rest = sent.partition(b"\r\n")
    target = line.split(b" ")[1].decode("latin-1")
    block = b"\r\n" + rest.rstrip(b"\r\n")
    lines = tuple(
        sorted(
            (name.lower(), value) for name, value in fields(block) if name.lower() not in _VOLATILE
        )
    )
    query = (
        ", with changes of the query"
        if entry.written and entry.written.query != QueryConfig()
        else ""
    )
    return {
        "path": Said(target, f"{entry.target} at {entry.path}{query}"),
        "headers": Said(lines, ""),
    }
