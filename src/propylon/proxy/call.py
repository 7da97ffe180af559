"""CALL: ask a service on behalf of an endpoint of the gateway's app.

    endpoint → begin → forward (balance, break, retry) → relay → read → observe

Strategy. A call is an exchange of its own. Its client is the endpoint: `Call` fills the port `Downstream`, as the edges do.
So a call uses the pools, the breaker, the limits of instances, the retries and the timeouts of its service by the same
code as a proxied request. There is no second HTTP client.

Rules.

1. The exchange of the endpoint's own client is the `parent`. The service hears the same request id and trace, the same
   caller and the same privacy preference. It gets the caller's token only with `forward_token`.
2. A call ends before its endpoint's own time is over: an endpoint must be able to answer without the part that is late.
3. An endpoint that stops waiting cancels its call. That says nothing about the service: the breaker hears of no failure.
4. What has arrived and was not read is bounded: a slow reader pauses the upstream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from propylon.errors import ClientGone, GatewayError
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.carriers import Carrier
from propylon.proxy.exchange import Exchange, Notes, Observer, entropy
from propylon.proxy.forward import settle
from propylon.proxy.principal import Principal
from propylon.proxy.relay import relay
from propylon.proxy.route import Route
from propylon.upstream.fetch import BytesBody
from propylon.upstream.ports import Answer, Flow
from propylon.version import __version__
from propylon.wire.headers import render, values
from propylon.wire.message import NO_BODY, Fields, Request, Response
from propylon.wire.proxy_header import Ends

__all__ = ["Asked", "Call", "Callee", "Caller"]

Clock = Callable[[], float]

# Bytes that may wait for a slow reader: asyncio's own high-water mark for transports.
_HIGH_WATER = 64 * 1024
# The part of the endpoint's remaining time that a call may take: the rest is for an answer without it.
_SHARE = 0.9
# An answer is read by the endpoint's code, which decodes no content coding.
_DEFAULTS = (
    b"\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: propylon/"
    + __version__.encode("ascii")
)


@dataclass(frozen=True, slots=True)
class Callee:
    """A service as calls see it: the rules of a route that no client's request matches.

    - `claims` returns the headers that carry a principal's claims, as in `Request.vouched`.
    - `carriers` are the places beside Authorization where the caller's token may be.
    """

    route: Route
    claims: Callable[[Principal], Mapping[bytes, tuple[bytes, bytes]]]
    carriers: tuple[Carrier, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an endpoint asks of a service; `path` and `query` as they are sent, `timeout` in seconds.

    `query` includes its `?`, or is empty. The endpoint's own `headers` replace those that the gateway would send.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = ""
    timeout: float | None = None


class Call:
    """One call in flight: the `Downstream` that its answer is relayed to, and what the endpoint reads from."""

    def __init__(self, parent: Exchange, body: bytes | None) -> None:
        """Wait for an answer; the service is told of the client of `parent`."""
        origin = parent.downstream.origin
        # Where a server has mounted the gateway says nothing about the path that is called.
        self.origin = replace(origin, root=b"") if origin.root else origin
        self._client = parent.downstream
        self.body = None if body is None else BytesBody(body)
        self.started = False
        self.closes = False
        self.bytes_out = 0
        self.head: Response | None = None
        self.block = b""  # of the answer, in place of the head's own
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._flow: Flow | None = None
        self._paused = False
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def ends(self) -> Ends:
        """The two ends of the connection of the endpoint's own client."""
        return self._client.ends

    # The endpoint's side

    async def answered(self) -> Response:
        """Return the head of the final answer. Raises what ended the call before it."""
        while self.head is None:
            if self._ended:
                raise self._lost()
            await self._change()
        return self.head

    async def read(self) -> bytes:
        """Return the next piece of the body; empty at its end. Raises what broke it off."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            await self._change()
        data = self._pieces.popleft()
        self._held -= len(data)
        if self._paused and self._flow is not None and self._held <= _HIGH_WATER:
            self._paused = False
            self._flow.resume()
        return data

    def close(self) -> None:
        """Stop waiting: cancel what is still under way. A no-op after the end."""
        if self._task is not None:
            self._task.cancel()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _lost(self) -> BaseException:
        return self._failure or RuntimeError("a call without an outcome")

    # What carries the call

    def follow(self, task: asyncio.Task[None]) -> None:
        """Watch the task that carries the call: its end is the call's."""
        self._task = task
        task.add_done_callback(self._end)

    def fail(self, error: BaseException) -> None:
        """Take what ended the call before its answer was whole."""
        self._failure = error

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._failure = ClientGone("The call was cancelled")
        elif (bug := task.exception()) is not None:
            self._failure = bug
        self._ended = True
        self._changed.set()

    # Downstream

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Take a whole answer."""
        self.start(head, block)
        self.write(body)

    def start(self, head: Response, block: bytes) -> None:
        """Take the head of an answer."""
        self.started = True
        self.head = head
        self.block = block
        self._changed.set()

    def attach(self, flow: Flow) -> None:
        """Take what is to be paused while the endpoint reads slowly."""
        self._flow = flow

    def write(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not data:
            return
        self._pieces.append(data)
        self._held += len(data)
        self.bytes_out += len(data)
        if self._held > _HIGH_WATER and self._flow is not None and not self._paused:
            self._paused = True
            self._flow.pause()
        self._changed.set()

    def finish(self, trailers: bytes = b"") -> None:
        """Do nothing: the end of the body is the end of the task."""

    def interim(self, head: Response) -> None:
        """Ignore a 1xx answer: the final one follows."""

    async def upgrade(
        self, exchange: Exchange, answer: Answer, block: bytes  # noqa: ARG002 — as in `Downstream`
    ) -> None:
        """Raise RuntimeError: a call offers no other protocol, so no upstream may change to one."""
        msg = "a call offers no other protocol"
        raise RuntimeError(msg)

    def throw(self, error: GatewayError) -> None:  # noqa: ARG002 — the port's contract
        """Break the call off: its body is the endpoint's, whole and plain."""
        self.close()

    def abort(self) -> None:
        """Break the answer off."""
        self.close()


class Caller:
    """Makes calls: the pipeline of exchanges whose client is an endpoint."""

    __slots__ = ("_chance", "_clock", "_observers")

    def __init__(
        self, clock: Clock, chance: Callable[[int], int], observers: tuple[Observer, ...]
    ) -> None:
        """`clock` counts seconds for durations, `chance(bits)` returns random bits; `observers` are told of each call's end."""
        self._clock = clock
        self._chance = chance
        self._observers = observers

    def begin(self, parent: Exchange, callee: Callee, asked: Asked, left: float) -> Call:
        """Send the request. `left` are the seconds until the endpoint's own answer is due.

        Raises ValueError for a header that the endpoint may not set.
        """
        call = Call(parent, asked.body)
        request = _request(parent, callee, asked)
        route = callee.route if asked.timeout is None else _hurried(callee.route, asked.timeout)
        exchange = Exchange(request, call, entropy(self._chance), self._clock())
        exchange.request_id = parent.request_id
        exchange.trace_id, exchange.trace_flags = parent.trace_id, parent.trace_flags
        exchange.trace_state = parent.trace_state
        if parent.notes is not None:
            # The span above a call is that of the endpoint, which the app has got as an attempt.
            above = parent.entropy[64:]
            exchange.notes = Notes(parent.notes.tracing, above, False)
            exchange.notes.caller = parent
        exchange.principal, exchange.privacy = parent.principal, parent.privacy
        exchange.route = route
        # `held` is what was taken of `timeouts.total` before: here by the endpoint.
        exchange.held = max(0.0, route.timeouts.total - max(0.0, left) * _SHARE)
        call.follow(spawn(self._carry(exchange, call, request, route)))
        return call

    async def _carry(self, exchange: Exchange, call: Call, request: Request, route: Route) -> None:
        exchange.error = ClientGone("The endpoint has stopped waiting")  # unless it ends otherwise
        try:
            answer = await route.forward(exchange, request, route)
            await relay(exchange, answer, route)
            exchange.error = None
        except GatewayError as error:
            if "service" not in error.details:
                error.details = {"service": route.service.name, **error.details}
            call.fail(error)
            # Without the frames: they hold the exchange, which would hold them.
            exchange.error = error.with_traceback(None)
            exchange.status = exchange.status or error.status
        finally:
            exchange.ended = self._clock()
            settle(exchange)
            for observer in self._observers:
                observer(exchange)
            if exchange.notes is not None:
                exchange.notes.tracing.end(exchange)


def _request(parent: Exchange, callee: Callee, asked: Asked) -> Request:
    """Return the request, with what the caller's exchange and the endpoint say."""
    block = _DEFAULTS
    if asked.content_type:
        block += b"\r\nContent-Type: " + asked.content_type.encode("ascii")
    special: dict[bytes, list[bytes]] = {}
    client = parent.request
    if client is not None:
        if callee.route.service.forward_token:
            block += _token(client, parent.principal, callee)
        # W3C Baggage, 3: it goes to everything that is done for the request.
        block += render((b"baggage", value) for value in values(client.block, b"baggage"))
        if b"tracestate" in client.special:
            special[b"tracestate"] = client.special[b"tracestate"]
    fields = Fields(block, special, 1)
    fields.host = b"" if client is None else client.host
    fields.length = NO_BODY if asked.body is None else len(asked.body)
    line = b"%b %b%b HTTP/1.1" % (asked.method.encode("ascii"), asked.path, asked.query)
    request = Request(asked.method, line, asked.path, asked.query, fields)
    if parent.principal.known and (claims := callee.claims(parent.principal)):
        request.vouched = dict(claims)
    for name, value in asked.headers:
        request.set_header(name, value)
    return request


def _token(client: Request, principal: Principal, callee: Callee) -> bytes:
    """Return the line with the caller's token; from a cookie or another header, too, where it was verified there."""
    sent = client.special.get(b"authorization", ())
    if sent:
        return b"".join(b"\r\nAuthorization: " + value for value in sent)
    found = (carrier.find(client) for carrier in callee.carriers if principal.known)
    token = next((token for token in found if token is not None), None)
    return b"" if token is None else b"\r\nAuthorization: Bearer " + token


def _hurried(route: Route, timeout: float) -> Route:
    """Return the route with less time for each part of a call."""
    own = route.timeouts
    timeouts = replace(
        own,
        connect=min(own.connect, timeout),
        first_byte=min(own.first_byte, timeout),
        idle=min(own.idle, timeout),
        total=min(own.total, timeout),
        max_duration=min(own.max_duration, timeout),
        stream=min(own.stream, timeout),
    )
    return replace(route, timeouts=timeouts)
