"""Six loads on a gateway whose client and upstream are transports of memory: nothing but the gateway costs anything.

- `repeated`: a browser's GET with a token, again and again, and always the same answer;
- `heads`: path and Referer differ from request to request, as behind a load balancer;
- `answers`: each answer has a header of its own;
- `post`: a small body behind a head that repeats;
- `big`: an answer of 256 KiB, in pieces as a socket gives them;
- `refused`: a token that is none.

`varied` is `heads` and `answers` together. A load's name may be followed by what the route or the
file has besides: `repeated+limit`, `repeated+traces`; or by what it has not: `repeated+unlogged` has no log,
`repeated+uncounted` no metrics, `repeated+unseen` neither.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jwt

from propylon import Gateway
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import STATE_KEY, EdgeState
from propylon.telemetry.access_log import AccessLog, Stamp
from propylon.telemetry.metrics import Metrics

SECRET = "Zk8vQw3xN0pT6rJ2yHs9LmBdFgCeXaUi71oKqRtV"
LOADS = ("repeated", "heads", "answers", "post", "big", "refused")
RULES = {
    "": "",
    "limit": "rate_limit: {rate: 900000/s, burst: 1000000}",
    "hits": "cache: {ttl: 24h}",
    "misses": "cache: {}",
    "limits": "rate_limit: [{name: a, rate: 900000/s}, {name: b, rate: 900000/m}]",
}
# What the file may have besides; in a load's name as the rules are: `repeated+traces`.
_TRACES = 'traces: {{endpoint: "http://127.0.0.1:9", sampling: {{ratio: {}}}}}'
SECTIONS = {
    "traces": _TRACES.format("1%"),
    "unsampled": _TRACES.format(0),
    "traced": _TRACES.format(1),
}
# Who is not told of an exchange's end.
WITHOUT: dict[str, tuple[type, ...]] = {
    "unlogged": (AccessLog,),
    "uncounted": (Metrics,),
    "unseen": (AccessLog, Metrics),
}
_ANSWER = b'{"order": 1042, "lines": [%b]}' % b", ".join(b"%d" % n for n in range(1, 222))
_PIECE = b"x" * 65536  # what one read of a socket gives
_PIECES = 4
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-N: %b\r\n\r\n"
)
_CONFIG = """
log: {{level: info}}
auth: {{jwt: {{secret: "{secret}"}}, tokens: {{enabled: false, database: "sqlite:///{folder}/t.db"}}}}
services: {{orders: {{url: "http://127.0.0.1:9"}}}}
routes: [{{path: /api/v1/orders, service: orders, {rules}}}]
{more}
"""
_REQUEST = (
    b"%b /api/v1/orders/%b?expand=lines HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux"
    b" x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: application/json, text/plain, */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer:"
    b" https://app.example.com/%b\r\nAuthorization: Bearer %b\r\nOrigin: https://app.example.com\r\nConnection:"
    b" keep-alive\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\nPriority: u=0\r\n"
)
_PACE = 50e-6  # seconds between two requests: 20,000 a second


class Pipe(asyncio.Transport):
    """A transport of memory: what is written is handed to a function."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        """Hand over to `written`."""
        super().__init__()
        self.written = written
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """There is no socket, but an address."""
        return ("192.0.2.1", 1234) if name == "peername" else default

    def write(self, data: Any) -> None:
        """Hand over."""
        self.written(data)

    def is_closing(self) -> bool:
        """Until it is closed, no."""
        return self.closing

    def close(self) -> None:
        """Take note."""
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def get_write_buffer_size(self) -> int:
        """All has been handed over."""
        return 0


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time goes on by as much for each request: how often clocks tick depends on no machine."""

    now: float | None = None  # None: while nothing is counted, the real time

    def time(self) -> float:
        """The real time, or that of the requests so far."""
        return super().time() if self.now is None else self.now


class World:
    """A gateway, one client connection, and an upstream of memory."""

    def __init__(self, load: str, folder: Path) -> None:
        """Write the configuration into the folder."""
        self.load, _, rules = load.partition("+")
        self.file = folder / "propylon.yaml"
        more = SECTIONS.get(rules, "")
        self.without = WITHOUT.get(rules, ())
        rules = "" if more or self.without else RULES[rules]
        self.file.write_text(_CONFIG.format(secret=SECRET, folder=folder, rules=rules, more=more))
        self.count = 0
        claims = {"sub": "ann", "exp": int(time.time()) + 86_400, "scope": "read write"}
        secret = SECRET if self.load != "refused" else SECRET[::-1]
        self.token = jwt.encode(claims, secret, algorithm="HS256").encode()
        self.expected = b"HTTP/1.1 401 " if self.load == "refused" else b"HTTP/1.1 200 "

    def request(self) -> bytes:
        """The next request."""
        self.count += 1
        name = b"%d" % self.count if self.load in ("varied", "heads") else b"1042"
        body = b'{"a": 1}' if self.load == "post" else b""
        head = _REQUEST % (b"POST" if body else b"GET", name, name, self.token)
        return head + (b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n") + body

    def answer(self) -> list[bytes]:
        """The answer to it, as it arrives."""
        if self.load == "big":
            return [_HEAD % (_PIECES * len(_PIECE), b"1"), *[_PIECE] * _PIECES]
        name = b"%d" % self.count if self.load in ("varied", "answers") else b"1"
        return [_HEAD % (len(_ANSWER), name) + _ANSWER]

    async def run(
        self, warm: int, requests: int, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """Serve so many requests after `begin`, and as many as `warm` before."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        gateway = Gateway.from_file(self.file, {})

        async def connect(factory: Callable[[], Any], *_: Any, **__: Any) -> Any:
            def answer(data: bytes) -> None:
                if b" HTTP/1.1\r\n" in data:  # a body comes in a write of its own
                    for piece in self.answer():
                        loop.call_soon(upstream.data_received, piece)

            upstream = factory()
            pipe = Pipe(answer)
            upstream.connection_made(pipe)
            return pipe, upstream

        loop.create_connection = connect  # type: ignore[assignment]
        async with gateway.lifespan() as state:
            pipeline = cast("EdgeState", state[STATE_KEY]).pipeline
            for one in pipeline._base:
                if isinstance(
                    one, AccessLog
                ):  # how often its milliseconds tick depends on no machine, either
                    one._stamp = Stamp(loop.time)
            told = [one for one in pipeline._base if not isinstance(one, self.without)]
            pipeline._base = pipeline._observers = tuple(told)
            server_state = SimpleNamespace(connections=set(), tasks=set(), total_requests=0)
            protocol = GatewayProtocol(None, server_state, dict(state), loop)
            answers: asyncio.Queue[bytes] = asyncio.Queue()
            protocol.connection_made(Pipe(answers.put_nowait))
            loop.now = loop.time()
            for number in range(warm + requests):
                if number == warm:
                    begin()
                loop.now += _PACE
                protocol.data_received(self.request())
                data = await answers.get()
                assert data.startswith(self.expected), data[:300]
                rest = _PIECES * len(_PIECE) - len(data) + data.find(b"\r\n\r\n") + 4
                while self.load == "big" and rest > 0:
                    rest -= len(await answers.get())
            end()
            loop.now = None
            protocol.connection_lost(None)
