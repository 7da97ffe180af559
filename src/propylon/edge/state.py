"""Hold what all connections of a worker share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from propylon.edge.trust import Trust
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.exchange import Origin
from propylon.proxy.pipeline import Pipeline
from propylon.wire.request import FieldsMemory

__all__ = ["STATE_KEY", "EdgeState"]

# Under this name the state travels from the app's lifespan to the protocol.
STATE_KEY = "propylon"


@dataclass(slots=True)
class EdgeState:
    """The core, and the limits of the edge. Sizes in bytes, times in seconds.

    `ticker` watches connections, which have seconds to spare; `draining` is True from the moment a
    stop was asked for: answers close their connections then.
    """

    pipeline: Pipeline
    trust: Trust
    ticker: Ticker
    outbox: Outbox
    loop: asyncio.AbstractEventLoop
    max_header: int
    header_timeout: float
    idle_timeout: float
    body_timeout: float
    draining: bool = False
    memory: FieldsMemory = field(default_factory=FieldsMemory)
    # Origins of peers that connect directly, for the edge that knows no connections; bounded.
    origins: dict[tuple[str, str], Origin] = field(default_factory=dict)
