"""The table of the middlewares, and what is not translated of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.target import Target
from propylon.commands.imports.traefik import auth, traffic
from propylon.commands.imports.traefik.headers import headers
from propylon.commands.imports.traefik.services import bare
from propylon.commands.imports.tree import Item, named, plain

__all__ = ["Middlewares"]

_MOST = 200
# Without them a route protects nothing less.
_HARMLESS = {
    "circuitbreaker": "the service's circuit opens by itself; write services.X.circuit",
    "errors": "answers of services reach the client as they are; write fallback for failures",
    "contenttype": "propylon guesses no types",
    "grpcweb": "propylon speaks no gRPC",
    "passtlsclientcert": "write tls.clients: the service gets X-Client-Cert-* then",
    "redirecttrailingslash": "write redirect",
}
_PATHS = frozenset({"stripprefix", "addprefix", "replacepath", "replacepathregex"})


class Middlewares:
    """The middlewares of the files, by name."""

    def __init__(self, draft: Draft, middlewares: dict[str, Item]) -> None:
        """Make the table."""
        self._middlewares = middlewares
        self.always: list[str] = []  # of entry points
        self._handlers: dict[str, Callable[[Route, Item], None]] = {
            "basicauth": auth.basic,
            "forwardauth": auth.forward,
            "ipallowlist": auth.allow_list,
            "ipwhitelist": auth.allow_list,
            "ratelimit": traffic.rate_limit,
            "inflightreq": traffic.in_flight,
            "buffering": traffic.buffering,
            "compress": traffic.compress,
            "retry": partial(traffic.retry, draft),
            "redirectscheme": traffic.redirect_scheme,
            "redirectregex": traffic.redirect_regex,
            "headers": headers,
        }

    def kinds(self, references: Item) -> set[str]:
        """Return which kinds of middlewares a router has."""
        return {kind for kind, _ in self._all(references.texts(), None, references)}

    def redirects_to_https(self, references: Item) -> bool:
        """Tell whether a router does nothing but send clients to HTTPS."""
        found = list(self._all(references.texts(), None, references))
        return any(
            kind == "redirectscheme" and named(one, "scheme").text() == "https"
            for kind, one in found
        )

    def apply(self, route: Route, references: Item) -> None:
        """Translate the middlewares of a router, in their order, behind those of all routers."""
        target = Target.of(route)
        names = [*self.always, *references.texts()]
        for kind, config in self._all(names, route, references):
            if kind in _PATHS:
                _path(target, kind, config)
            elif handler := self._handlers.get(kind):
                handler(route, config)
                route.close_untaken(config)
            elif kind in _HARMLESS:
                route.lost(config.at, f"the middleware {config.key}", _HARMLESS[kind])
            else:
                route.close(
                    config.at,
                    f"the middleware {config.key}",
                    "see whether a key or a policy in Python does it",
                )
        target.write()
        route.open()

    def _all(
        self, names: list[str], route: Route | None, at: Item, depth: int = 0
    ) -> Iterator[tuple[str, Item]]:
        """Yield kind and settings, with those of chains; what is missing closes the route."""
        for number, name in enumerate(names):
            middleware = self._middlewares.get(bare(name))
            if middleware is None or depth > 10 or number > _MOST:
                if route is not None:
                    route.close(
                        at.at,
                        f"the middleware {name} is not in these files",
                        "name the file that has it",
                    )
                continue
            for key, config in middleware.items():
                if plain(key) == "chain":
                    yield from self._all(named(config, "middlewares").texts(), route, at, depth + 1)
                else:
                    yield plain(key), config


def _path(target: Target, kind: str, config: Item) -> None:
    match kind:
        case "stripprefix":
            _strip(target, config)
        case "addprefix":
            target.prefix(named(config, "prefix").text(), config.at)
        case "replacepath":
            target.set(named(config, "path").text(), config.at)
        case _:
            target.regex(
                named(config, "regex").text(), named(config, "replacement").text(), config.at
            )


def _strip(target: Target, config: Item) -> None:
    """Take the prefix off that the route's path begins with."""
    named(config, "forceSlash")
    path = [part for part in str(target.route.keys["path"]).split("/") if part]
    prefixes = [
        [part for part in text.split("/") if part] for text in named(config, "prefixes").texts()
    ]
    for prefix in prefixes:
        if prefix == path[: len(prefix)] and target.segments == path:
            target.strip(len(prefix), config.at)
            return
    if any(prefix[: len(path)] == path for prefix in prefixes) and not target.route.keys.get(
        "exact"
    ):
        target.route.close(
            config.at,
            "a prefix is taken off that only some paths of the route have",
            "write a route for it",
        )
    else:
        target.route.same(config.at, "no path of the route has the prefix")
