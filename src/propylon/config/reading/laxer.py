"""Find routes that a client can choose in place of stricter ones to the same service, by what it sends. Pure.

A header, a parameter and a cookie are the client's to choose. A route that is chosen by one, and asks for a token, protects
nothing if the client gets to the same service without it.
"""

from collections import defaultdict
from collections.abc import Iterator

from propylon.config.models.match import MatchConfig
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.models.syntax import shape
from propylon.config.reading.problems import Finding

__all__ = ["laxer_routes"]

_AUTH = ("none", "optional", "required")
_ANYTHING = MatchConfig()


def laxer_routes(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each route to which a client can turn from a stricter one."""
    by_service: defaultdict[str, list[tuple[int, RouteConfig]]] = defaultdict(list)
    if all(route.match == _ANYTHING for route in config.routes):
        return
    for at, route in enumerate(config.routes):
        for service in route.services:
            by_service[service].append((at, route))
    for group in by_service.values():
        chosen = [(at, route) for at, route in group if route.match != _ANYTHING]
        for at, one in group:
            stricter = _stricter(one, chosen if one.match == _ANYTHING else group)
            if stricter is not None:
                msg = (
                    f'asks for less than "{stricter.name}", which leads to the same service, and the client chooses'
                    " between them by what it sends; let both ask for the same"
                )
                yield ("routes", at), msg


def _stricter(one: RouteConfig, others: list[tuple[int, RouteConfig]]) -> RouteConfig | None:
    """Return a route that a client can leave for this one, and that asks for more."""
    return next(
        (other for _, other in others if _turns(one, other) and not _asks_as_much(one, other)), None
    )


def _turns(one: RouteConfig, other: RouteConfig) -> bool:
    """Whether a client that changes nothing but what `match` looks at comes from the other to this."""
    if one is other or (one.methods and other.methods and not {*one.methods} & {*other.methods}):
        return False
    if one.hosts and other.hosts and not {*one.hosts} & {*other.hosts}:
        return False
    mine, theirs = _split(one.path), _split(other.path)
    if mine == theirs:
        return True
    # What the stricter one does not match goes on to less specific places.
    above = len(mine) < len(theirs) and not one.exact and other.match != _ANYTHING
    return above and all(a in {b, "{}"} for a, b in zip(mine, theirs, strict=False))


def _split(path: str) -> list[str]:
    return [part for part in shape(path).split("/") if part]


def _asks_as_much(one: RouteConfig, other: RouteConfig) -> bool:
    return (
        _AUTH.index(one.auth) >= _AUTH.index(other.auth)
        and {*one.scopes} >= {*other.scopes}
        and _within(one.roles, other.roles)
        and _within(one.issuers, other.issuers)
        and (other.security is None or one.security == other.security)
        and (not other.basic_auth or one.basic_auth == other.basic_auth)
        and (not other.forward_auth or one.forward_auth == other.forward_auth)
        and _within(one.clients.allow, other.clients.allow)
        and {*one.clients.deny} >= {*other.clients.deny}
    )


def _within(some: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Whether only what the one list lets pass is let pass by the other; an empty one lets all pass."""
    return not allowed or (bool(some) and {*some} <= {*allowed})
