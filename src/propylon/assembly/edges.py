"""Make the edges of the listeners, and set the limits that a configuration gives them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network

from propylon.config.models.schema import GatewayConfig
from propylon.edge.crowd import Crowd
from propylon.edge.state import EdgeState
from propylon.edge.trust import Trust
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.pipeline import Pipeline
from propylon.wire.request import FieldsMemory

__all__ = ["adjust", "another_edge", "first_edge"]

# A connection's silence may last this much longer than the configuration says, in seconds.
_TICK = 0.25


def first_edge(
    config: GatewayConfig, pipeline: Pipeline, outbox: Outbox, loop: asyncio.AbstractEventLoop
) -> EdgeState:
    """Return the edge of the public listener."""
    timeouts = config.server.timeouts
    return EdgeState(
        pipeline=pipeline,
        trust=_trust(config),
        ticker=Ticker(loop, _TICK),
        outbox=outbox,
        loop=loop,
        max_header=config.server.max_header,
        header_timeout=timeouts.header,
        idle_timeout=timeouts.idle,
        body_timeout=timeouts.body,
    )


def another_edge(first: EdgeState, pipeline: Pipeline) -> EdgeState:
    """Return the edge of another listener. It has a crowd of its own: the public's clients must not keep operators out."""
    return replace(first, pipeline=pipeline, crowd=Crowd(), memory=FieldsMemory(), origins={})


def adjust(edge: EdgeState, config: GatewayConfig) -> None:
    """Set the limits of the configuration that is in force now."""
    server = config.server
    edge.trust = _trust(config)
    edge.origins.clear()
    edge.max_header = server.max_header
    edge.header_timeout = server.timeouts.header
    edge.idle_timeout = server.timeouts.idle
    edge.body_timeout = server.timeouts.body
    edge.crowd.most = server.max_connections
    edge.crowd.most_per_client = server.max_connections_per_client


def _trust(config: GatewayConfig) -> Trust:
    server = config.server
    networks = [ip_network(network, strict=False) for network in server.trusted_proxies]
    return Trust(networks, server.forwarded)
