"""Hold what all client connections of one worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.edge.crowd import Crowd
from propylon.edge.open_sockets import OpenSockets
from propylon.edge.trust import Trust
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.exchange import Origin
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Route
from propylon.wire.request import FieldsMemory

__all__ = ["LISTENERS_KEY", "SOURCE_KEY", "STATE_KEY", "EdgeState"]

# The key of the lifespan state under which the app hands `EdgeState` to the protocol.
STATE_KEY = "propylon"
# The key under which the process hands a protocol the client's address from a PROXY header.
SOURCE_KEY = "propylon.source"
# The key of the lifespan state for a mapping: from the name of each listener to its `EdgeState`, the public one's
# ("") included.
LISTENERS_KEY = "propylon.listeners"


@dataclass(slots=True)
class EdgeState:
    """The pipeline, and the limits that the edge enforces. Sizes in bytes, times in seconds.

    - `ticker` watches the deadlines of the connections. It is coarse: these timeouts are seconds long.
    - `header_timeout` is for a whole head, so that a slowloris client that sends a byte now and then gains nothing.
    - `body_timeout` is the longest silence: of a client that sends its body, or that should read its answer.
    - `sockets` are the open WebSockets and other tunnels. `chance(bits)` returns random bits to mask their frames with;
      `count_socket` is told of each that opens (1) and ends (-1).
    - `draining` is True from the moment that a stop was requested: answers then close their connections.
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
    chance: Callable[[int], int]
    count_socket: Callable[[Route, int], None]
    draining: bool = False
    crowd: Crowd = field(default_factory=Crowd)
    # Parsed header lines and peers' origins, for the ASGI edge: it sees no connections to keep them on. Both bounded.
    memory: FieldsMemory = field(default_factory=FieldsMemory)
    origins: dict[tuple[str, str, str], Origin] = field(default_factory=dict)
    sockets: OpenSockets = field(init=False)

    def __post_init__(self) -> None:
        """Begin without open sockets."""
        self.sockets = OpenSockets(self.ticker, self.loop, self.chance, self.count_socket)
