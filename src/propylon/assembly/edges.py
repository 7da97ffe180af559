"""Make the `EdgeState` of each listener, and set the limits of a configuration in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import get_args

from propylon.compile.access import admin_rule
from propylon.compile.redirect import redirecting_table
from propylon.config.models.endpoints import PUBLIC, REDIRECT, Area, listeners_of
from propylon.config.models.schema import GatewayConfig
from propylon.control.admin import AdminGate
from propylon.edge.crowd import Crowd
from propylon.edge.state import EdgeState
from propylon.edge.trust import Trust
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Route
from propylon.wire.request import FieldsMemory

__all__ = ["SocketPorts", "adjust_edges", "adjust_gate", "open_edges"]

# Seconds. A connection's silence may last a little longer than its limit.
_CONNECTION_TICK = 0.25


@dataclass(frozen=True, slots=True)
class SocketPorts:
    """What the edges need for open sockets: `chance(bits)` returns random bits; `count` is told of each that opens and ends."""

    chance: Callable[[int], int]
    count: Callable[[Route, int], None]


def open_edges(
    config: GatewayConfig,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    pipeline: Callable[[], Pipeline],
    sockets: SocketPorts,
) -> dict[str, EdgeState]:
    """Return the edge of each listener, by its name. They share all but their pipelines, and so their routes."""
    edges = {PUBLIC: _edge(config, loop, outbox, pipeline(), sockets)}
    for listener in listeners_of(config):
        edges[listener] = _like(edges[PUBLIC], pipeline())
    # The listeners that only redirect: the same from the start to the end, as their sockets are.
    if (table := redirecting_table(config)) is not None:
        edges[REDIRECT] = _like(edges[PUBLIC], pipeline())
        edges[REDIRECT].pipeline.table = table
    return edges


def adjust_edges(edges: Iterable[EdgeState], config: GatewayConfig) -> None:
    """Put the limits of a configuration into force, and the proxies that it trusts."""
    server = config.server
    for edge in edges:
        edge.trust = _trust(config)
        edge.origins.clear()
        edge.max_header = server.max_header
        edge.header_timeout = server.timeouts.header
        edge.idle_timeout = server.timeouts.idle
        edge.body_timeout = server.timeouts.body
        edge.crowd.most = server.max_connections
        edge.crowd.most_per_client = server.max_connections_per_client


def adjust_gate(gate: AdminGate, config: GatewayConfig) -> None:
    """Put into force who may use the endpoints that want admin, and on which listener."""
    rules = {area: admin_rule(config, area) for area in get_args(Area)}
    gate.apply(rules, config.admin.listen or PUBLIC)


def _edge(
    config: GatewayConfig,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
    pipeline: Pipeline,
    sockets: SocketPorts,
) -> EdgeState:
    timeouts = config.server.timeouts
    return EdgeState(
        pipeline=pipeline,
        trust=_trust(config),
        ticker=Ticker(loop, _CONNECTION_TICK),
        outbox=outbox,
        loop=loop,
        max_header=config.server.max_header,
        header_timeout=timeouts.header,
        idle_timeout=timeouts.idle,
        body_timeout=timeouts.body,
        chance=sockets.chance,
        count_socket=sockets.count,
    )


def _like(edge: EdgeState, pipeline: Pipeline) -> EdgeState:
    # It has a crowd of its own: the public's clients must not keep operators out.
    return replace(edge, pipeline=pipeline, crowd=Crowd(), memory=FieldsMemory(), origins={})


def _trust(config: GatewayConfig) -> Trust:
    return Trust.of(
        config.server.trusted_proxies,
        config.server.forwarded,
        reads_certificates=config.tls.clients is not None,
    )
