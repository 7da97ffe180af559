"""Compile `forward_auth`: a route whose requests another service decides about.

Routes that ask at the same URL share its connections and its breaker, and keep them over a reload.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from propylon.config.models.forward_auth import ForwardAuthConfig
from propylon.config.models.route import RouteConfig
from propylon.proxy.counts import Counts
from propylon.proxy.forward_auth import LARGEST, Decider, ForwardAuth
from propylon.proxy.route import Forwards
from propylon.services.breaker import Breaker, Listener
from propylon.services.circuit import Circuit
from propylon.upstream.ports import Upstream
from propylon.upstream.site import Connect, Site

__all__ = ["AskCompiler", "Asks", "Unasked", "asking", "replaced_by_answer", "shown_url"]

_CONNECTIONS = 256  # of a worker, to one URL
_ALWAYS_TOLD = ("Cookie", "Authorization")
# A service that is down is asked once a second. A longer rest would refuse requests to all routes behind it after it is
# back; without one, each request would wait for the timeout.
_CIRCUIT = Circuit(
    failure_threshold=5,
    failure_rate=0.5,
    failure_window=10.0,
    min_throughput=5,
    recovery_timeout=1.0,
    half_open_timeout=5.0,
    probes=1,
)


class Asks(Protocol):
    """Makes the forward stages of routes with `forward_auth`."""

    def before(
        self, route: str, config: ForwardAuthConfig, then: Forwards, *, preflights: bool
    ) -> Forwards:
        """Return what asks, and then does what `then` does. `preflights`: those of CORS pass without a question."""


class Unasked:
    """Where nothing is served, nobody is asked: `propylon explain` says so."""

    def before(
        self,
        route: str,  # noqa: ARG002 — as `Asks`
        config: ForwardAuthConfig,  # noqa: ARG002 — as `Asks`
        then: Forwards,
        *,
        preflights: bool,  # noqa: ARG002 — as `Asks`
    ) -> Forwards:
        """Return `then`."""
        return then


@dataclass(slots=True)
class AskCompiler:
    """Makes the stages of all routes, for one configuration after the other.

    - `connect` opens a pool of connections.
    - `counts` returns where the questions of a route are counted, by its name.
    - `clock` is monotonic, in seconds; `listener` hears of breakers.
    """

    connect: Connect
    counts: Callable[[str], Counts]
    clock: Callable[[], float]
    listener: Listener
    wall: Callable[[], float] = time.time
    _deciders: WeakValueDictionary[tuple[str, float], Decider] = field(
        default_factory=WeakValueDictionary
    )

    def before(
        self, route: str, config: ForwardAuthConfig, then: Forwards, *, preflights: bool
    ) -> Forwards:
        """Return what asks, and then does what `then` does."""
        return ForwardAuth(
            decider=self._decider(config),
            told=_lines((*_ALWAYS_TOLD, *config.request_headers)),
            headers=tuple(name.encode("ascii") for name in config.headers),
            cookies=frozenset(name.encode("ascii") for name in config.cookies),
            opens=config.on_failure == "open",
            preflights=preflights,
            then=then,
            counts=self.counts(route),
        )

    def upstreams(self) -> Iterator[Upstream]:
        """Yield what is asked over: their connections are to stay open."""
        return (decider.upstream for decider in list(self._deciders.values()))

    def _decider(self, config: ForwardAuthConfig) -> Decider:
        key = (config.url, config.timeout)
        known = self._deciders.get(key)
        if known is None:
            known = self._deciders[key] = self._made(config)
        return known

    def _made(self, config: ForwardAuthConfig) -> Decider:
        site = Site(config.url, self.connect, _CONNECTIONS)
        name = shown_url(config.url)
        breaker = Breaker(name, _CIRCUIT, clock=self.clock, wall=self.wall, listener=self.listener)
        ask = partial(site.ask, within=config.timeout, limit=LARGEST)
        return Decider(ask, breaker, site.upstream, name)


def asking(route: RouteConfig, then: Forwards, asks: Asks | None) -> Forwards:
    """Return the forward stage of a route, with a question before it if it has `forward_auth`.

    Without a compiler nobody can be asked, and so nothing passes.
    """
    config = route.forward_auth
    if not config:
        return then
    if asks is None:
        msg = "a table of routes with forward_auth, and nothing that asks"
        raise RuntimeError(msg)
    name = route.name or route.path
    return asks.before(name, config, then, preflights=route.preflight == "pass")


def replaced_by_answer(route: RouteConfig) -> tuple[bytes, ...]:
    """Return the client's headers that the answer replaces on this route alone: other routes need their Authorization."""
    config = route.forward_auth
    names = [name.lower() for name in config.headers] if config else []
    return (b"authorization",) if "authorization" in names else ()


def shown_url(url: str) -> str:
    """Return a URL without what may be a secret: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _lines(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return a pattern of whole lines with these names."""
    listed = "|".join(re.escape(name) for name in names)
    return re.compile(rf"\r\n(?:{listed}):[^\r\n]*".encode("ascii"), re.IGNORECASE)
