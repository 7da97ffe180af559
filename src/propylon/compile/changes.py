"""Compile what changes by the values of a request: header templates, the query, names in `rewrite`. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from urllib.parse import quote

from propylon.config.models.headers import HeaderRulesConfig
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.templates import QueryConfig, names_in, names_of_rewrite
from propylon.proxy.changes import Changes, Lines, QueryChanges
from propylon.proxy.route import HeaderOverrides
from propylon.proxy.template import OF_CALLER, Name, parse
from propylon.wire.lookalikes import reduced

__all__ = [
    "compile_changes",
    "compile_templates",
    "names_of_caller",
    "segment_places",
    "templated_names",
]

# Routes that are looked at before the loop gets a turn: a fifth of a millisecond.
_SLICE = 512
# What the gateway has verified. A service that believes a header with one of these must not get it from a client.
_VERIFIED = frozenset({"claim", "user"})


def segment_places(path: str) -> dict[str, int]:
    """Return the numbers of the segments that a route's path names, by their names."""
    parts = enumerate(path.strip("/").split("/"))
    return {part[1:-1]: at for at, part in parts if part.startswith("{")}


def compile_changes(written: RouteConfig) -> Changes | None:
    """Return what changes in the requests of a route by their values; None if nothing does."""
    places = segment_places(written.path)
    rules = written.headers.request
    names = [name for name, text in rules.set.items() if names_in([text])]
    lines = _lines(rules, places)
    query = _query(written.query, places)
    fills = bool(_filled(written))
    if not (lines or query or fills):
        return None
    return Changes(frozenset(reduced(name.encode("ascii")) for name in names), lines, query, fills)


def compile_templates(written: RouteConfig, base: HeaderOverrides) -> HeaderOverrides:
    """Return what the operator sets in answers in place of the gateway's headers, with lines that each exchange fills in."""
    rules = written.headers.response
    lines = _lines(rules, segment_places(written.path))
    if not lines:
        return base
    names = [name.lower().encode("ascii") for name, text in rules.set.items() if names_in([text])]
    return replace(base, names=(*base.names, *names), templates=lines)


def names_of_caller(written: RouteConfig) -> tuple[Name, ...]:
    """Return the names in what a service gets whose values no URL tells: its answer may depend on them."""
    names = [
        *names_in((*written.headers.request.texts, *written.query.texts)),
        *_filled(written),
    ]
    return tuple(dict.fromkeys(name for name in names if name.kind in OF_CALLER))


def templated_names(config: GatewayConfig) -> Generator[None, None, frozenset[bytes]]:
    """Collect the headers that tell a service, on any route, who is asking, `reduced`, in slices.

    What a client sends under these names is removed on every route, as it is for `claims`.
    """
    found: set[bytes] = set()
    for at, route in enumerate(config.routes):
        for name, text in route.headers.request.set.items():
            if any(one.kind in _VERIFIED for one in names_in([text])):
                found.add(reduced(name.encode("ascii")))
        if at % _SLICE == 0:
            yield
    return frozenset(found)


def _filled(written: RouteConfig) -> list[Name]:
    """Return the names in `rewrite` that are no segments of the path."""
    pieces = names_of_rewrite(written.rewrite or "", written.path)
    return [piece for piece in pieces if isinstance(piece, Name) and piece.kind != "path"]


def _lines(rules: HeaderRulesConfig, places: Mapping[str, int]) -> Lines:
    added = [(name, text) for name, texts in rules.add.items() for text in texts]
    pairs = [(name, parse(text)) for name, text in (*rules.set.items(), *added)]
    return tuple(
        (name.encode("ascii"), template.bound(places)) for name, template in pairs if template.names
    )


def _query(written: QueryConfig, places: Mapping[str, int]) -> QueryChanges | None:
    removed = frozenset(name.encode("utf-8") for name in (*written.remove, *written.set))
    added = [(name, text) for name, texts in written.add.items() for text in texts]
    lines = tuple(
        (quote(name, safe="").encode("ascii"), parse(text).bound(places))
        for name, text in (*written.set.items(), *added)
    )
    return QueryChanges(removed, lines) if removed or lines else None
