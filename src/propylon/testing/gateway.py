"""The gateway under test: the whole gateway, with requests that return when they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uvicorn.server import ServerState

from propylon.assembly.gateway import Gateway
from propylon.config.models.syntax import parse_upstream
from propylon.config.reading.load import load
from propylon.edge.protocol import GatewayProtocol
from propylon.testing import pipe
from propylon.testing.client import Response, Talk, request
from propylon.testing.clocks import Clock, seen_by_the_gateway
from propylon.testing.loop import VirtualLoop, threads_counted
from propylon.testing.network import Network
from propylon.testing.refused import NotInMemory, check_config
from propylon.testing.tokens import Issuers, with_test_keys
from propylon.testing.upstream import Upstream

__all__ = ["GatewayUnderTest", "Pending", "running"]

_PORTS = {"http": 80, "https": 443}
_CLIENT = "192.0.2.1"


class Pending:
    """A request under way, which `gateway.begin` has sent."""

    def __init__(self, loop: VirtualLoop, answer: asyncio.Task[Response]) -> None:
        """Take what will be the answer."""
        self._loop = loop
        self._answer = answer

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self._answer.done()

    def result(self) -> Response:
        """Return the answer; wait for it on the test's clock. Raises ConnectionLost."""
        return self._loop.wait_for(self._answer)


class GatewayUnderTest:
    """A gateway without sockets. Each request is a client's on a connection of its own."""

    def __init__(self, gateway: Gateway, loop: VirtualLoop, clock: Clock, network: Network) -> None:
        """Have a gateway answer, which `lifespan` has started by the first request."""
        self.gateway = gateway
        self.clock = clock
        self._loop = loop
        self._issuers = Issuers.of(gateway.config, clock.time)
        self._upstreams = dict(_upstreams(gateway, network, self._issuers))
        self._server = ServerState()
        self._state: dict[str, Any] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        """Start; the stack stops it."""
        self._state.update(await stack.enter_async_context(self.gateway.lifespan()))

    def upstream(self, name: str) -> Upstream:
        """Return what stands in for a service; for a provider of keys, or for `forward_auth`, by the host of its URL. Raises LookupError."""
        if name not in self._upstreams:
            known = ", ".join(sorted(self._upstreams)) or "none"
            msg = f"the gateway's configuration has no service {name!r}; it has: {known}"
            raise LookupError(msg)
        return self._upstreams[name]

    def token(
        self,
        subject: str,
        *,
        scope: str = "",
        roles: tuple[str, ...] = (),
        expires: float = 3600.0,
        **claims: Any,
    ) -> str:
        """Return a token that the gateway accepts for `expires` seconds. Raises NotInMemory if it verifies none."""
        return self._issuers.token(subject, scope, roles, expires, claims)

    def begin(self, method: str, path: str, *, client: str = _CLIENT, **given: Any) -> Pending:
        """Send a request, and do what can be done at once; `client` is the address that it comes from.

        The rest is as of `request`.
        """
        answer = self._loop.create_task(self._ask(method, path, client, given))
        self._loop.advance()
        return Pending(self._loop, answer)

    async def _ask(self, method: str, path: str, client: str, given: Mapping[str, Any]) -> Response:
        answer: asyncio.Future[Response] = self._loop.create_future()
        talk = Talk(request(method, path, **given), answer)
        edge = GatewayProtocol(None, self._server, self._state, self._loop)
        transport = pipe.connect(self._loop, talk, edge, client)
        try:
            return await answer
        finally:
            transport.close()

    def request(self, method: str, path: str, *, client: str = _CLIENT, **given: Any) -> Response:
        """Send a request and return the answer. `params`, `headers`, `json`, `data`, `content` are httpx's; `token` is a bearer token.

        What the gateway waits for passes on the test's clock. Raises ConnectionLost.
        """
        return self._loop.complete(self._ask(method, path, client, given))

    def get(self, path: str, **given: Any) -> Response:
        """GET; see `request`."""
        return self.request("GET", path, **given)

    def head(self, path: str, **given: Any) -> Response:
        """HEAD; see `request`."""
        return self.request("HEAD", path, **given)

    def options(self, path: str, **given: Any) -> Response:
        """OPTIONS; see `request`."""
        return self.request("OPTIONS", path, **given)

    def post(self, path: str, **given: Any) -> Response:
        """POST; see `request`."""
        return self.request("POST", path, **given)

    def put(self, path: str, **given: Any) -> Response:
        """PUT; see `request`."""
        return self.request("PUT", path, **given)

    def patch(self, path: str, **given: Any) -> Response:
        """PATCH; see `request`."""
        return self.request("PATCH", path, **given)

    def delete(self, path: str, **given: Any) -> Response:
        """DELETE; see `request`."""
        return self.request("DELETE", path, **given)

    def drain(self) -> None:
        """Turn unready, as at the begin of a stop: answers close their connections from now on."""
        self.gateway.drain()


def _upstreams(
    gateway: Gateway, network: Network, issuers: Issuers
) -> Iterator[tuple[str, Upstream]]:
    """Yield each stand-in by its name. Services that share host and port share it."""
    for url, provider in issuers.providers():
        yield provider.name, network.listen(_site(url), provider)
    for name, service in gateway.config.services.items():
        upstream = Upstream(name)
        places = [parse_upstream(url) for url in service.urls]
        for at in places:
            place = (at.socket, 0) if at.socket else (at.host, at.port)
            upstream = network.listen(place, upstream)
        yield name, upstream
    for route in gateway.config.routes:
        site = _site(route.forward_auth.url) if route.forward_auth else None
        if site is not None and site[0] not in gateway.config.services:
            yield site[0], network.listen(site, Upstream(site[0]))


def _site(url: str) -> tuple[str, int]:
    """Return where a URL is asked."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


@contextmanager
def running(
    config: Path, environ: Mapping[str, str], folder: Path, prepare: Callable[[Gateway], None]
) -> Iterator[GatewayUnderTest]:
    """Run the gateway of a configuration file; its database is in `folder`. Raises ConfigError, NotInMemory.

    `prepare` gets it before it starts, to add policies and endpoints.
    """
    loop = VirtualLoop()
    clock, network = Clock(loop), Network()
    try:
        with seen_by_the_gateway(clock), threads_counted(), network.in_force():
            gateway = _gateway(config, environ, folder)
            prepare(gateway)
            tested = GatewayUnderTest(gateway, loop, clock, network)
            stack = AsyncExitStack()
            loop.complete(tested.start(stack))
            try:
                yield tested
            finally:
                loop.complete(stack.aclose())
                loop.end()
    finally:
        if not loop.is_closed():
            loop.close()


def _gateway(config: Path, environ: Mapping[str, str], folder: Path) -> Gateway:
    database = {"auth.tokens.database": f"sqlite:///{folder}/propylon.db"}
    loaded = load(config, environ, database)
    check_config(loaded.config)
    # The watchdog measures how long code holds the loop in real time: here there is nothing to measure.
    unwatched = loaded.config.policies.model_copy(update={"budget": None})
    config_of_test = with_test_keys(loaded.config).model_copy(update={"policies": unwatched})
    loaded = replace(loaded, config=config_of_test)

    def again() -> Any:
        msg = "reload: a gateway under test keeps its test keys; start another one in another test"
        raise NotInMemory(msg)

    return Gateway(loaded, again)
