"""Compile what chooses the instance of a request by what the request is: the hash of `balance`, and `sticky`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from propylon.compile.carriers import in_turn
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.models.sticky import StickyConfig
from propylon.proxy.authenticate.claims import MISSING, claim_at
from propylon.proxy.limit.keys import (
    KeyOf,
    by_address,
    by_caller,
    by_claim,
    by_cookie,
    by_header,
    by_query,
    by_segment,
)
from propylon.proxy.principal import Principal
from propylon.proxy.queue import Queue
from propylon.proxy.route import Route, Selects
from propylon.proxy.select import ByKey
from propylon.proxy.sticky import Cookie, StickyInstance
from propylon.services.hashing import Rendezvous
from propylon.services.warmup import Warmup
from propylon.wire.cookies import without_cookies

__all__ = ["Selection", "compile_hash", "queued"]

_ADDRESS = by_address()
_SAME_SITE: Mapping[str, str] = {"lax": "Lax", "strict": "Strict", "none": "None"}


class Selection:
    """Compiles for the routes of a configuration what chooses instances, and keeps callers where they are."""

    def __init__(self, config: GatewayConfig) -> None:
        """Take the services, and the secret of tokens."""
        self._services = config.services
        self._secrets = tuple(
            one.get_secret_value().encode() for one in config.auth.jwt.secret or ()
        )

    def applied(self, route: Route, written: RouteConfig, above: RouteConfig) -> Route:
        """Return the route with what chooses its instances. `above` is the route of the file: its cookie is no service's business."""
        service = self._services.get(route.service.name)
        if service is None:
            return route
        select = compile_hash(written.path, service, route.service.warmup)
        hidden = {one.cookie for one in (above.sticky, service.sticky) if one is not None}
        if service.sticky is not None:
            sticky = service.sticky
            cookie = self.cookie(sticky, f"service {route.service.name}")
            select = StickyInstance(route.service, cookie, sticky.on_failure == "refuse", select)
        if select is None and not hidden:
            return queued(route)
        names = frozenset(name.encode("ascii") for name in hidden)
        hide = partial(without_cookies, names=names) if names else None
        return queued(replace(route, select=select, hide=in_turn(route.hide, hide)))

    def cookie(self, written: StickyConfig, scope: str) -> Cookie:
        """Return the cookie, with keys of its own: a value for one service is none for another."""
        own = written.secret
        secrets = self._secrets if own is None else (own.get_secret_value().encode(),)
        only = "; HttpOnly" if written.http_only else ""
        return Cookie(
            written.cookie,
            [_key_of(secret, scope) for secret in secrets],
            attributes=f"; Path={written.path}{only}; SameSite={_SAME_SITE[written.same_site]}",
            max_age=written.max_age,
            secure=written.secure,
        )


def queued(route: Route) -> Route:
    """Return the route with the queue of its service, if it has one."""
    room = route.service.room
    if room is None:
        return route
    queue = Queue(route.service, room, route.select)
    return replace(route, select=queue, queue=queue.enter)


def _key_of(secret: bytes, scope: str) -> bytes:
    # The secret signs tokens, too: a key that is made from it says nothing of it.
    digest = blake2b(secret, digest_size=32, person=b"propylon sticky").digest()
    return blake2b(scope.encode(), digest_size=32, key=digest).digest()


def compile_hash(
    path: str, service: ServiceConfig | None, warmup: Warmup | None = None
) -> Selects | None:
    """Return what chooses the instances of a service on a route of this path; None: its `balance` does, by turns or by load."""
    if service is None or service.balance.hash is None:
        return None
    return ByKey(_key(service.balance.hash, path), Rendezvous(service.balance.bound), warmup)


def _key(key: str, path: str) -> KeyOf:
    kind, _, name = key.partition(":")
    match kind:
        case "caller":
            return by_caller(_ADDRESS)
        case "header":
            return by_header(name, _ADDRESS)
        case "cookie":
            return by_cookie(name, _ADDRESS)
        case "query":
            return by_query(name, _ADDRESS)
        case "claim":
            return by_claim(partial(_claim, name), _ADDRESS)
        case "path":
            segments = path.strip("/").split("/")
            segment = f"{{{name}}}"
            return (
                by_segment(segments.index(segment), _ADDRESS) if segment in segments else _ADDRESS
            )
    return _ADDRESS


def _claim(path: str, principal: Principal) -> object:
    value = claim_at(principal.claims, path)
    return None if value is MISSING else value
