"""A compiled configuration over one upstream, and what becomes of requests."""

from collections.abc import Mapping
from typing import Any

from propylon.compile.authentication import Authentication
from propylon.compile.routes import NOTHING_TO_VERIFY_WITH, Parts
from propylon.compile.services import Dependencies, compile_service
from propylon.compile.table import compile_table
from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal, identify
from propylon.proxy.route import Route
from propylon.services.service import Service
from propylon.upstream.pool import Address
from tests.proxy.authenticate.stand_in import signed, verifier
from tests.proxy.doubles import ENTROPY, STILL, Asked, Client, Counting, request, run, whole

ORDERS = {"orders": {"url": "http://orders:8000"}}
PAGE = b"https://app.example.com"
KEY = {"auth": {"jwt": {"secret": "kV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w"}}}
TOKEN = b"Authorization: Bearer " + signed("alice", scope="read", roles=["clerk"])
BAD = b"Authorization: Bearer x.y.z"
ALICE = identify(Principal("alice", email="a@b.example", scopes=frozenset({"read"})))


class World:
    """A compiled configuration over one upstream, and whatever was connected to."""

    def __init__(self, written: Mapping[str, Any], *, verified: bool = False, **parts: Any) -> None:
        self.config = GatewayConfig.model_validate({"services": ORDERS, **written})
        self.up = Asked(whole(200, b"hello", b"\r\nX-Theirs: 1\r\nContent-Length: 5"))
        self.own = Asked()
        self.connected: list[tuple[Address, int]] = []
        dependencies = Dependencies(self._connect, lambda: 0.0, clock=lambda: 0.0, wall=lambda: 0.0)
        self.services: dict[str, Service] = {
            name: compile_service(name, one, dependencies).service
            for name, one in self.config.services.items()
        }
        stages = Authentication(verifier()).stages if verified else NOTHING_TO_VERIFY_WITH
        own = builtin_endpoints(self.config.prefix, self.config.auth)
        endpoints = (*own, *parts.pop("endpoints", ()))
        self.table: Table = compile_table(
            self.config, Parts(self.own, STILL, stages, endpoints, **parts), self.services
        )

    def _connect(self, address: Address, limit: int) -> Asked:
        self.connected.append((address, limit))
        return self.up

    @property
    def routes(self) -> list[Route]:
        """Those that were written."""
        return [route for route in self.table.routes if not route.service.builtin]

    @property
    def route(self) -> Route:
        """The only one."""
        [route] = self.routes
        return route

    def handle(
        self, target: str = "/a", *lines: bytes, method: str = "GET", client: str = "192.0.2.1"
    ) -> tuple[int, bytes]:
        """Status and header block that a client gets."""
        downstream = Client(client=client)
        pipeline = Pipeline(
            self.table,
            (),
            clock=Counting(),
            chance=lambda bits: ENTROPY,
        )
        run(pipeline.handle(request(target.encode(), *lines, method=method.encode()), downstream))
        [(_, head, block, _)] = downstream.events
        return head.status, block

    def sent(self, *lines: bytes, target: str = "/a") -> bytes:
        """The block that the upstream gets."""
        status, _ = self.handle(target, *lines)
        assert status == 200
        return self.up.got[-1][1]


def one(rest: Mapping[str, Any] | None = None, *, top: Any = None, **parts: Any) -> World:
    """A world with one route, which anybody may use unless it says otherwise."""
    route = {"path": "/a", "service": "orders", "auth": "none", **(rest or {})}
    return World({"routes": [route], **(top or {})}, **parts)
