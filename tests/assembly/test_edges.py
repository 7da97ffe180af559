"""The edges of several listeners, and the limits that a configuration gives them."""

import asyncio
from typing import Any

from propylon.assembly.edges import SocketPorts, adjust_edges, open_edges
from propylon.config.models.schema import GatewayConfig
from propylon.edge.state import EdgeState
from propylon.loop.outbox import Outbox
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from tests.support.virtual import run


def pipeline() -> Pipeline:
    """A pipeline without routes."""
    return Pipeline(Table(()), (), clock=lambda: 0.0, chance=lambda bits: 0)


def config(**server: Any) -> GatewayConfig:
    """A configuration with these keys of the section `server`."""
    return GatewayConfig.model_validate({"server": server})


def edges() -> tuple[EdgeState, EdgeState]:
    """The edge of the public listener and that of another one, as the configuration is by default."""
    loop = asyncio.get_running_loop()
    loaded = GatewayConfig.model_validate({"admin": {"listen": "127.0.0.1:8001"}})
    ports = SocketPorts(lambda bits: 0, lambda route, change: None)
    first, other = opened = [*open_edges(loaded, loop, Outbox(loop), pipeline, ports).values()]
    adjust_edges(opened, config())
    return first, other


def test_listeners_share_no_crowd() -> None:
    """Clients that fill the public listener leave the operator's one free."""

    async def main() -> None:
        first, other = edges()
        assert first.crowd is not other.crowd
        assert (first.crowd.most, first.crowd.most_per_client) == (10_000, None)
        assert first.ticker is other.ticker

    run(main())


def test_limits_change() -> None:
    """A reload sets every limit anew, and keeps the connections that are counted."""

    async def main() -> None:
        first, _ = edges()
        crowd, origin = first.crowd, first.trust.origin("10.0.0.1", "http")
        assert crowd.enter(origin) is None
        adjust_edges(
            [first],
            config(
                max_connections=7,
                max_connections_per_client=1,
                trusted_proxies=["10.0.0.0/8"],
                timeouts={"header": 1, "idle": 2, "body": 3},
                max_header=2048,
            ),
        )
        assert first.crowd is crowd
        assert (crowd.open, crowd.most, crowd.most_per_client) == (1, 7, 1)
        assert (first.header_timeout, first.idle_timeout, first.body_timeout) == (1, 2, 3)
        assert first.max_header == 2048
        assert first.trust.origin("10.0.0.1", "http").trusted

    run(main())
