"""Doubles of what surrounds the pipeline: a client's side, an upstream, a body, a route."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from propylon.errors import GatewayError
from propylon.loop.signal import Signal
from propylon.proxy.authenticate import anonymous
from propylon.proxy.authorize import anybody
from propylon.proxy.exchange import Origin
from propylon.proxy.forward import Forward
from propylon.proxy.route import Pattern, Route
from propylon.services.balance import round_robin
from propylon.services.service import Fleet, Instance, Service
from propylon.upstream.ports import Answer, BodySink, Flow, Outgoing, Sink, Timeouts
from propylon.upstream.reply import Reply
from propylon.wire.message import CHUNKED, Request, Response
from propylon.wire.proxy_header import Ends
from propylon.wire.request import parse_request

T = TypeVar("T")

ENTROPY = 0x1234567890ABCDEF1234567890ABCDEF_FEDCBA0987654321FEDCBA0987654321_0123456789ABCDEF
REQUEST_ID = b"1234567890abcdef1234567890abcdef"
TRACE_ID = b"fedcba0987654321fedcba0987654321"
SPAN_ID = b"0123456789abcdef"


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Step a coroutine that waits for nothing to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the coroutine waits for something")


def request(target: bytes = b"/a", *lines: bytes, method: bytes = b"GET") -> Request:
    """A request for host a.test."""
    head = (b"%b %b HTTP/1.1" % (method, target), b"Host: a.test", *lines)
    return parse_request(b"\r\n".join(head) + b"\r\n\r\n")


def origin(
    client: str = "192.0.2.1", *, trusted: bool = False, host: bytes | None = None
) -> Origin:
    """Where requests come from."""
    block = b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: http" % client.encode()
    return Origin(client, client, "http", block, host, trusted)


class Client:
    """A `Downstream` that writes down what it is told."""

    def __init__(self, body: "Upload | None" = None, **options: Any) -> None:
        self.origin = origin(**options)
        self.ends = Ends("192.0.2.1", 4711, "192.0.2.9", 443)
        self.started = False
        self.closes = False
        self.bytes_out = 0
        self.body = body
        self.events: list[tuple[Any, ...]] = []
        self.flow: Flow | None = None

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Note a whole answer."""
        self.started = True
        self.bytes_out += len(body)
        self.events.append(("respond", head, block, body))

    def start(self, head: Response, block: bytes) -> None:
        """Note a head."""
        self.started = True
        self.events.append(("start", head, block))

    def attach(self, flow: Flow) -> None:
        """Keep the flow."""
        self.flow = flow

    def write(self, data: bytes) -> None:
        """Note a piece."""
        self.bytes_out += len(data)
        self.events.append(("write", data))

    def finish(self, trailers: bytes = b"") -> None:
        """Note the end."""
        self.events.append(("finish",))

    def interim(self, head: Response) -> None:
        """Note a 1xx answer."""
        self.events.append(("interim", head.status))

    def abort(self) -> None:
        """Note the cut."""
        self.events.append(("abort",))

    @property
    def said(self) -> list[str]:
        """What was called, in order."""
        return [event[0] for event in self.events]


class Upload:
    """A request body that is there already."""

    def __init__(self, data: bytes, *, replayable: bool = True, length: int | None = None) -> None:
        self.length = len(data) if length is None else length
        self.complete = True
        self.started = False
        self.limit = -1
        self.received = len(data)
        self.replayable = replayable
        self.data = data

    def pipe(self, sink: BodySink) -> None:
        """Push all of it."""
        assert self.replayable or not self.started, "piped twice without being replayable"
        self.started = True
        sink.body_data(self.data)
        sink.body_end()

    def unpipe(self) -> None:
        """Nothing is under way."""

    def pause(self) -> None:
        """Nothing is under way."""

    def resume(self) -> None:
        """Nothing is under way."""


class Streamed:
    """An `Answer` whose body comes later."""

    body = None

    def __init__(
        self, head: Response, pieces: list[bytes], error: GatewayError | None = None
    ) -> None:
        self.head = head
        self.pieces = pieces
        self.error = error
        self.aborted = 0

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the pieces, then end or fail."""
        for piece in self.pieces:
            sink.write(piece)
        ended: Signal[None] = Signal()
        if self.error is None:
            sink.finish()
            ended.set(None)
        else:
            ended.fail(self.error)
        return ended

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Count."""
        self.aborted += 1


def whole(
    status: int = 200, body: bytes = b"hello", block: bytes = b"\r\nContent-Length: 5"
) -> Reply:
    """An answer that came in one piece."""
    return Reply(Response(status, b" %d X" % status, block, len(body), keep_alive=True), body, None)


def streamed(*pieces: bytes, error: GatewayError | None = None, status: int = 200) -> Streamed:
    """An answer in pieces, which ends with an error if there is one."""
    head = Response(status, b" %d X" % status, b"\r\nA: b", CHUNKED, keep_alive=True)
    return Streamed(head, list(pieces), error)


class Asked:
    """An `Upstream` with a list of what it does, the last of it for ever."""

    busy = 0

    def __init__(self, *script: Any, writes: bool = True) -> None:
        self.script = list(script) or [whole()]
        self.writes = writes
        self.got: list[tuple[bytes, bytes, bytes]] = []
        self.lengths: list[int] = []
        self.deadlines: list[float] = []
        self.piped = 0

    def body_data(self, data: bytes) -> None:
        """Add to the last request."""
        line, block, body = self.got[-1]
        self.got[-1] = (line, block, body + data)

    def body_end(self, trailers: bytes = b"") -> None:
        """Count."""
        self.piped += 1

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Do what comes next."""
        return self._exchange(outgoing)

    async def _exchange(self, outgoing: Outgoing) -> Answer:
        self.got.append((outgoing.line, outgoing.block, b""))
        self.lengths.append(outgoing.length)
        self.deadlines.append(outgoing.deadline)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        failed = isinstance(step, BaseException)
        if outgoing.body is not None and not (isinstance(step, GatewayError) and step.unsent):
            outgoing.body.pipe(self)
        if failed:
            raise step
        answer: Answer = step
        return answer


def instance(upstream: Any, name: str = "one", base: bytes = b"") -> Instance:
    """An instance over a double."""
    return Instance(f"{name}:80", name.encode(), base, upstream)


def service(*upstreams: Any, name: str = "orders", **options: Any) -> Service:
    """A service whose instances are asked in turn."""
    names = ("one", "two", "three")
    found = tuple(instance(up, label) for up, label in zip(upstreams, names, strict=False))
    return Service(name, Fleet(found), round_robin(), **options)


STILL = Forward(loop_time=lambda: 0.0, clock=lambda: 0.0, chance=lambda: 0.0)


def route(path: str = "/a", of: Service | None = None, **options: Any) -> Route:
    """A route that lets everybody in."""
    pattern = {
        key: options.pop(key) for key in ("exact", "host", "methods", "priority") if key in options
    }
    parts = [part for part in path.split("/") if part]
    segments = tuple(None if part == "{}" else part.encode() for part in parts)
    defaults: dict[str, Any] = {
        "name": path,
        "authenticate": anonymous,
        "authorize": anybody,
        "timeouts": Timeouts(),
        "max_body": 1000,
        "forward": STILL,
    }
    return Route(
        pattern=Pattern(segments, **pattern), service=of or service(Asked()), **(defaults | options)
    )


Clock = Callable[[], float]


class Counting:
    """A clock that goes on by one second with every look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The next second."""
        self.now += 1.0
        return self.now
