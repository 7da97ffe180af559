"""Hold what is known of one request and its answer in flight, and declare the port that every edge fills. Pure.

A field of `Exchange` has one writer: the stage that finds the fact out. Stages read what earlier stages wrote, and
observers read everything when the exchange has ended.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from propylon.errors import Details, GatewayError
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import NO_PREFERENCE, PrivacyPreference, Route
from propylon.proxy.trace import SAMPLED
from propylon.services.breaker import Permit
from propylon.services.room import Seat
from propylon.services.service import Instance
from propylon.upstream.ports import Answer, Flow, Outgoing, RequestBody
from propylon.wire.forwarded import x_forwarded_host
from propylon.wire.message import Request, Response
from propylon.wire.proxy_header import Ends

__all__ = [
    "CURRENT",
    "Attempt",
    "Downstream",
    "Exchange",
    "Explanation",
    "IncomingBody",
    "Notes",
    "Observer",
    "Origin",
    "PolicyRun",
    "Settlement",
    "StandIn",
    "Tracing",
    "entropy",
]


_NAMING = partial(x_forwarded_host, "http")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, as far as the gateway believes it.

    `peer` is the address at the other end of the socket. `client` is the address of the client: the same, unless the
    peer is a proxy that the operator trusts. `forwarded` is the block that tells the upstream (X-Forwarded-*), and
    `naming` returns the lines that name the Host that the client asked for. `host` is that Host as a trusted proxy
    reported it. `root` is the path below which an ASGI server has mounted the gateway; matching does not see it. `proxied`: `peer` is
    not of the socket, but of the PROXY header that a trusted peer sent. `holder` is the principal of the client's certificate,
    which was verified in the TLS handshake, and `certificate` the block that tells the upstream of it (X-Client-Cert-*).
    """

    client: str
    peer: str
    scheme: str
    forwarded: bytes
    host: bytes | None = None
    trusted: bool = False
    naming: Callable[[bytes], bytes] = _NAMING
    root: bytes = b""
    proxied: bool = False
    holder: Principal | None = None
    certificate: bytes = b""


class IncomingBody(RequestBody, Protocol):
    """A request's body as the edge receives it, with the limit that the route sets."""

    limit: int | None
    received: int

    async def gathered(self) -> bytes | None:
        """Wait for the whole body; None if it is larger than what is kept for a retry. To be called before `pipe`."""

    def watch(self, watcher: Callable[[bytes], None]) -> None:
        """Call back with each piece of the body, from the first one on; to be called before `pipe`."""


class Downstream(Protocol):
    """The client's side of an exchange: all that an edge has to provide.

    Calls never block. An edge that cannot send tells the attached flow to pause (back-pressure).
    """

    origin: Origin
    started: bool  # a byte of the final answer may have left: nothing can be taken back
    closes: bool  # the connection ends with this exchange
    bytes_out: int  # of the answer's body

    @property
    def ends(self) -> Ends:
        """The two ends of the client's connection, for services that are told of them."""

    @property
    def body(self) -> IncomingBody | None:
        """The request's body, if it has one."""

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Send a whole answer, with `block` in place of the head's own. Raises ClientGone if the edge sees that first."""

    def start(self, head: Response, block: bytes) -> None:
        """Send the head of an answer whose body will follow, with `block` in place of its own. Raises ClientGone."""

    def attach(self, flow: Flow) -> None:
        """Name what is to be paused while the client reads slowly."""

    def write(self, data: bytes) -> None:
        """Send a piece of the body; an empty one is nothing."""

    def finish(self, trailers: bytes = b"") -> None:
        """End the body; `trailers` is the block that the upstream sent behind it."""

    def interim(self, head: Response) -> None:
        """Send a 1xx answer, if the client can take one."""

    async def upgrade(self, exchange: Exchange, answer: Answer, block: bytes) -> None:
        """Send a 101 with `block`, and pass the other protocol's bytes both ways until one side ends it.

        `answer` is the upstream's `Switched`. Sets `exchange.close_code`. Raises ConnectFailed or ClientGone before
        the 101.
        """

    def throw(self, error: GatewayError) -> None:
        """Raise `error` where the exchange waits; nothing if it is over."""

    def abort(self) -> None:
        """Cut the connection: a broken answer must not look whole."""


class Explanation(Protocol):
    """What follows one request through the stages, for a client that has asked why it went as it did."""

    def follow(self, exchange: Exchange, route: Route, table: object, found: Route) -> Route:
        """Return the route with stages that tell what they do. `found` is the route of `table` that it is, or is a part of."""

    def asked(self, instance: Instance, sent: Outgoing) -> None:
        """Note an attempt: the request goes to this instance."""

    def failed(self, answer: Answer | None, error: GatewayError | None) -> None:
        """Note how an attempt has failed."""

    def raced(self, winner: Instance) -> None:
        """Note whose answer goes on of the last two attempts, which ran side by side."""

    def refused(self, exchange: Exchange, error: GatewayError, table: object) -> Details:
        """Add the explanation to the exchange's lines, and return it for the body of the refusal."""


class Settlement(Protocol):
    """What is to be done at the end of an exchange: give back what it held, and charge what it has cost."""

    def settle(self, exchange: Exchange) -> None:
        """Do it. Called once, whatever happened; does not wait, and must not raise."""


def entropy(chance: Callable[[int], int]) -> bytes:
    """Return the 80 random hexadecimal digits of an exchange; `chance(bits)` returns random bits."""
    # A third of the time of `%080x`, which goes through a text.
    return hexlify(chance(320).to_bytes(40))


class Tracing(Protocol):
    """What follows exchanges for a trace: the port that telemetry fills."""

    def begin(self, exchange: Exchange, parent: bytes) -> None:
        """Give the exchange its notes; `parent` is the client's span, empty where the trace begins here."""

    def place(self, exchange: Exchange, route: Route) -> None:
        """Decide anew by what a route says, before the upstream is told."""

    def lines(self, exchange: Exchange) -> bytes:
        """Return the lines about the trace for the answer, which begins now."""

    def end(self, exchange: Exchange) -> None:
        """Record the exchange, which has ended."""


class Attempt(NamedTuple):
    """An attempt that was followed by another, or had no good answer; times on the clock of the pipeline."""

    instance: Instance
    began: float
    ended: float
    status: int  # 0: there was no answer
    error: GatewayError | None


class PolicyRun(NamedTuple):
    """A policy that has run; `failure` is what it raised, or empty."""

    name: str
    began: float
    ended: float
    failure: str


class StandIn(NamedTuple):
    """What answers in place of a service that has failed: `stored`, `fixed` or `service`; and what failed."""

    by: str
    reason: str
    service: str
    error: GatewayError | None  # None: the service has answered, with the status in `reason`


class Notes:
    """What a trace needs to know besides: only where traces are on.

    `parent` is the span above this exchange: of another program, or that of the endpoint of which this is a call; then
    `caller` is the endpoint's exchange. `says`: `lines` has something for the answer. `began` is the beginning of the
    attempt under way, if it is not the first. `calls` are those of the endpoint that answered, while it is open whether
    this exchange is kept.
    """

    __slots__ = (
        "attempts",
        "began",
        "caller",
        "calls",
        "over",
        "parent",
        "policies",
        "says",
        "tracing",
    )

    def __init__(self, tracing: Tracing, parent: bytes, says: bool) -> None:  # noqa: FBT001
        """Begin with nothing."""
        self.tracing = tracing
        self.parent = parent
        self.says = says
        self.caller: Exchange | None = None
        self.began = 0.0
        self.over = False
        self.attempts: tuple[Attempt, ...] = ()
        self.policies: tuple[PolicyRun, ...] = ()
        self.calls: tuple[Exchange, ...] = ()


class Exchange:
    """One request and its answer in flight: what the stages found out, for the record.

    `request` is None when not even the head could be read. `entropy` is 80 random hexadecimal digits: the request id,
    the trace id and the span are cut from it, because one call of the generator costs less than three. Times are in
    seconds, on the clock of the pipeline.
    """

    __slots__ = (
        "answered",
        "attempts",
        "began",
        "close_code",
        "downstream",
        "ended",
        "entropy",
        "error",
        "excused",
        "explanation",
        "faults",
        "flags",
        "gathered",
        "head",
        "held",
        "instance",
        "limited",
        "lines",
        "notes",
        "owed",
        "permit",
        "principal",
        "privacy",
        "queued",
        "request",
        "request_id",
        "retried",
        "route",
        "seat",
        "stand_in",
        "status",
        "streams",
        "trace_flags",
        "trace_id",
        "trace_state",
        "unpacked",
        "upstream_began",
        "upstream_status",
    )

    def __init__(
        self, request: Request | None, downstream: Downstream, entropy: bytes, began: float
    ) -> None:
        """Begin with nothing found out; `began` is the time now."""
        self.request = request
        self.downstream = downstream
        self.entropy = entropy
        self.request_id = entropy[:32]
        # Of the trace that the exchange belongs to: one that begins here, unless the client sent one.
        self.trace_id = entropy[32:64]
        self.trace_flags = SAMPLED
        self.trace_state = (
            False  # whether the client's tracestate goes on: only with a valid traceparent
        )
        self.began = began
        self.ended = began
        self.route: Route | None = None
        self.principal: Principal = ANONYMOUS
        self.privacy: PrivacyPreference = (
            NO_PREFERENCE  # what the client lets the gateway keep of this
        )
        # What the gateway says in any answer, a refusal included: a block. Each stage appends its own (CORS, limits).
        self.lines = b""
        # The ids of the limits that refused the request, or would have if they were enforced.
        self.limited: tuple[str, ...] = ()
        self.owed: Settlement | None = None  # settled at the end
        self.unpacked: IncomingBody | None = None  # the request's body without its codings
        self.notes: Notes | None = None  # for a trace; None: traces are off
        self.head: Response | None = None  # of the upstream's answer
        self.instance: Instance | None = None
        self.permit: Permit | None = None  # of the breaker, to be given back at the end
        self.excused = False  # the upstream failed while the client had not sent its whole body
        self.held = 0.0  # seconds that the policies took: `timeouts.total` covers them
        self.seat: Seat | None = (
            None  # its place at an instance that counts them, given back at the end
        )
        # How its wait for a place has ended (served, full, late, gone), and after how many seconds; None: it did not wait.
        self.queued: tuple[str, float] | None = None
        self.attempts = 0
        self.retried: tuple[
            str, ...
        ] = ()  # why the request was sent again: one reason for each time
        self.upstream_began = began
        self.answered = 0.0  # when the head of the final answer was there; 0: there is none
        self.streams = False  # the answer's body did not come with its head
        self.upstream_status = 0
        self.status = 0
        self.close_code = 0  # of a WebSocket that has ended
        self.error: GatewayError | None = None
        self.flags: tuple[str, ...] = ()
        self.stand_in: StandIn | None = None  # None: the route's service has answered, or nobody
        self.gathered = (
            0.0  # seconds that were waited for the client's body before anything else was done
        )
        # What of the request does not fit the service's document: places.
        self.faults: tuple[str, ...] = ()
        self.explanation: Explanation | None = None  # asked for by a client that may ask

    @property
    def body(self) -> IncomingBody | None:
        """The request's body as the service gets it, if there is one."""
        return self.downstream.body if self.unpacked is None else self.unpacked


CURRENT: ContextVar[Exchange] = ContextVar("propylon.exchange")
"""The exchange that a team's code runs for: set before its policies and its endpoints, and nowhere else."""

# OBSERVE: called once for each exchange, whatever happened, synchronously and after it has ended. An observer must be
# quick and must not raise: there is no client left to tell.
Observer = Callable[[Exchange], None]
