"""The portable path in memory: scopes in, messages out."""

import asyncio
import random
from collections import deque
from collections.abc import MutableMapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import orjson
import pytest

from propylon.edge.asgi import AnswerCut, serve
from propylon.edge.state import EdgeState
from propylon.edge.trust import Trust
from propylon.errors import UpstreamReset
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward import Forward
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Route
from propylon.wire.headers import fields, values
from tests.proxy.doubles import ENTROPY, Asked, Counting, route, service, streamed, whole
from tests.support.virtual import run
from tests.upstream.peer import until

Message = MutableMapping[str, Any]


class App:
    """The edge with an upstream behind `/a`, and what its exchanges were."""

    def __init__(self, *routes: Route, upstream: Any = None, max_header: int = 65536) -> None:
        loop = asyncio.get_running_loop()
        self.upstream = upstream or Asked()
        self.seen: list[Exchange] = []
        forward = Forward(loop_time=loop.time, clock=loop.time, chance=lambda: 0.0)
        found = routes or [route("/a", service(self.upstream))]
        table = Table(replace(one, forward=forward) for one in found)
        pipeline = Pipeline(
            table,
            (self.seen.append,),
            clock=Counting(),
            chance=lambda bits: ENTROPY,
        )
        self.ticker = Ticker(loop, 0.01)
        self.edge = EdgeState(
            pipeline=pipeline,
            trust=Trust([]),
            ticker=self.ticker,
            chance=random.getrandbits,
            count_socket=lambda route, change: None,
            outbox=Outbox(loop),
            loop=loop,
            max_header=max_header,
            header_timeout=1.0,
            idle_timeout=1.0,
            body_timeout=1.0,
        )
        self.sent: list[Message] = []
        self.incoming: deque[Message] = deque()
        self.silent = False  # `receive` waits when nothing is left, instead of a disconnect

    async def receive(self) -> Message:
        """What the client sends."""
        if self.incoming:
            return self.incoming.popleft()
        if self.silent:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the client gets."""
        self.sent.append(message)

    async def ask(self, **changes: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """One request, to its end."""
        await serve(self.edge, scope(**changes), self.receive, self.send)
        start, *rest = self.sent
        assert start["type"] == "http.response.start"
        assert [one["more_body"] for one in rest] == [True] * (len(rest) - 1) + [False]
        assert not self.ticker._watched
        return start["status"], start["headers"], b"".join(one["body"] for one in rest)


def scope(**changes: Any) -> Message:
    """A request for /a."""
    return {
        "type": "http",
        "method": "GET",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "root_path": "",
        "http_version": "1.1",
        "scheme": "http",
        "client": ("192.0.2.1", 1234),
        "headers": [(b"host", b"a.test")],
        **changes,
    }


HOST = (b"host", b"a.test")


def test_an_answer() -> None:
    """Whole, with names in lower case, as ASGI wants them."""

    async def main() -> None:
        app = App()
        status, headers, body = await app.ask()
        assert (status, body) == (200, b"hello")
        assert dict(headers)[b"content-length"] == b"5"
        assert all(name == name.lower() for name, _ in headers)
        assert len(app.seen) == 1

    run(main())


def test_an_answer_in_pieces() -> None:
    """As they come."""

    async def main() -> None:
        app = App(upstream=Asked(streamed(b"a", b"", b"bc")))
        assert (await app.ask())[2] == b"abc"
        assert app.seen[0].downstream.bytes_out == 3

    run(main())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"raw_path": b"/a%2Fb", "path": "/a/b", "query_string": b"c=%20"}, b"GET /a%2Fb?c=%20"),
        ({"raw_path": None, "path": "/a/b c"}, b"GET /a/b%20c"),
        ({"root_path": "/mount", "raw_path": b"/mount/a/x", "path": "/mount/a/x"}, b"GET /a/x"),
        ({"root_path": "/mount", "raw_path": b"/a/x", "path": "/a/x"}, b"GET /a/x"),
        ({"http_version": "1.0"}, b"GET /a"),
        ({"method": "DELETE"}, b"DELETE /a"),
    ],
)
def test_what_the_upstream_is_asked(changes: Message, line: bytes) -> None:
    """The raw path, less where the app is mounted, with its query."""

    async def main() -> None:
        app = App(
            route("/a", up := service(asked := Asked())),
            route("/a%2Fb", up),
            upstream=asked,
        )
        status, _, _ = await app.ask(**changes)
        if status == 200:
            assert asked.got[0][0] == line + b" HTTP/1.1"
        else:
            assert b"%2F" in line

    run(main())


def test_a_mount_without_a_path() -> None:
    """The root of a mounted app."""

    async def main() -> None:
        app = App(route("/", service(asked := Asked())))
        await app.ask(root_path="/m", raw_path=b"/m", path="/m")
        assert asked.got[0][0] == b"GET / HTTP/1.1"

    run(main())


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": []},
        {"headers": [HOST, HOST]},
        {"headers": [HOST, (b"content-length", b"5"), (b"content-length", b"6")]},
        {"headers": [HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"5")]},
        {"headers": [HOST, (b"a b", b"c")]},
        {"headers": [HOST, (b"", b"c")]},
        {"headers": [HOST, (b"a", b"b\0c")]},
        {"headers": [HOST, (b"a", b"b\rc")]},
        {"headers": [HOST, (b"a", b"b\nc: d")]},
        {"headers": [HOST, (b"a", b"b\r\nx-injected: 1")]},
        {"headers": [HOST, (b"a\r\nx-injected", b"1")]},
        {"headers": [HOST, (b"a", b"b\r\n\r\nGET /admin HTTP/1.1\r\nx: y")]},
        {"raw_path": b"/a b"},
        {"raw_path": b"/a HTTP/1.1\r\nx-injected: 1\r\nx:"},
        {"raw_path": b"/a\xff"},
        {"raw_path": b"a"},
        {"query_string": b"x HTTP/1.1\r\nx-injected: 1\r\ny: "},
        {"query_string": b"x#y"},
        {"method": "GE T"},
        {"method": "G\r\nET"},
        {"method": "get"},
        {"method": "\nGET"},
    ],
)
def test_a_lenient_server_makes_nothing_pass(changes: Message) -> None:
    """HTTP/2 servers hand over what HTTP/1 could not say: 400, and no upstream hears of it."""

    async def main() -> None:
        app = App()
        status, _, body = await app.ask(**changes)
        assert (status, app.upstream.got) == (400, [])
        assert orjson.loads(body)["error"]["code"] == "INVALID_REQUEST"
        assert len(app.seen) == 1

    run(main())


def test_a_head_too_large() -> None:
    """431, as on the fast path."""

    async def main() -> None:
        app = App(max_header=200)
        status, _, _ = await app.ask(headers=[HOST, (b"a", b"b" * 200)])
        assert (status, app.upstream.got) == (431, [])

    run(main())


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", [HOST, (b"content-length", b"6")]),
        ("1.1", [HOST, (b"transfer-encoding", b"chunked")]),
        ("2", [HOST]),
        ("2", [HOST, (b"content-length", b"6")]),
        ("3", [HOST]),
    ],
)
def test_a_request_body(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """In pieces; HTTP/2 needs no header to announce it."""

    async def main() -> None:
        app = App(upstream=Slow(100))
        app.silent = True
        app.incoming.extend(
            {"type": "http.request", "body": piece, "more_body": more}
            for piece, more in ((b"abc", True), (b"", True), (b"def", False))
        )
        status, _, _ = await app.ask(method="POST", http_version=version, headers=headers)
        assert status == 200
        assert app.upstream.got == [b"abc", b"def", None]
        assert app.seen[0].downstream.body is not None
        assert app.seen[0].downstream.body.received == 6

    run(main())


class Slow:
    """An upstream that answers when it has the whole body."""

    def __init__(self, room: int) -> None:
        self.got: list[bytes | None] = []
        self.ended = asyncio.Event()

    def body_data(self, data: bytes) -> None:
        """Keep it."""
        if data:
            self.got.append(data)

    def body_end(self, trailers: bytes = b"") -> None:
        """Answer."""
        self.got.append(None)
        self.ended.set()

    async def send(self, outgoing: Any, sink: Any) -> Any:
        """Wait for the body."""
        outgoing.body.pipe(self)
        await self.ended.wait()
        return whole()


def test_a_body_too_large() -> None:
    """413, as soon as it is."""

    async def main() -> None:
        asked = Slow(0)
        app = App(route("/a", service(asked), max_body=5))
        app.silent = True
        app.incoming.extend(
            {"type": "http.request", "body": b"abc", "more_body": True} for _ in range(2)
        )
        headers = [HOST, (b"transfer-encoding", b"chunked")]
        status, _, _ = await app.ask(method="POST", headers=headers)
        assert (status, asked.got) == (413, [b"abc"])

    run(main())


class Never:
    """An upstream that never answers, and notes that nobody waits any more."""

    def __init__(self) -> None:
        self.given_up = False
        self.asked = False

    async def send(self, outgoing: Any, sink: Any) -> Any:
        """Wait."""
        self.asked = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.given_up = True


def test_a_client_that_leaves() -> None:
    """The upstream is given up; there is nobody left to tell, and no traceback for the server."""

    async def main() -> None:
        app = App(route("/a", service(never := Never())))
        await serve(app.edge, scope(), app.receive, app.send)
        assert never.given_up
        assert (app.sent, app.seen[0].status) == ([], 499)
        assert not app.ticker._watched

    run(main())


def test_a_server_that_cancels() -> None:
    """The upstream must not go on alone."""

    async def main() -> None:
        app = App(route("/a", service(never := Never())))
        app.silent = True
        task = asyncio.create_task(serve(app.edge, scope(), app.receive, app.send))
        await until(lambda: never.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert never.given_up
        assert (len(app.seen), app.seen[0].status) == (1, 499)
        assert not app.ticker._watched

    run(main())


def test_a_client_that_leaves_while_it_is_answered() -> None:
    """`send` raises OSError then (ASGI 2.4)."""

    async def main() -> None:
        app = App(upstream=Asked(streamed(b"a", b"b")))

        async def broken(message: Message) -> None:
            raise BrokenPipeError

        await asyncio.wait_for(
            asyncio.gather(serve(app.edge, scope(), app.receive, broken), return_exceptions=True),
            2,
        )
        assert len(app.seen) == 1
        assert not app.ticker._watched

    run(main())


def test_a_broken_answer() -> None:
    """The server has to cut the connection: it is told by an exception."""

    async def main() -> None:
        app = App(upstream=Asked(streamed(b"a", error=UpstreamReset("broke"))))
        app.silent = True
        with pytest.raises(AnswerCut):
            await serve(app.edge, scope(), app.receive, app.send)
        assert not any(one.get("more_body") is False for one in app.sent)

    run(main())


def test_an_answer_shorter_than_it_said() -> None:
    """Cut, too."""

    async def main() -> None:
        short = streamed(b"a")
        short.head.length = 5
        app = App(upstream=Asked(short))
        with pytest.raises(AnswerCut):
            await serve(app.edge, scope(), app.receive, app.send)

    run(main())


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body(method: str, status: int) -> None:
    """Not even that of an error."""

    async def main() -> None:
        app = App(upstream=Asked(whole(status, b"hello")))
        assert (await app.ask(method=method))[2] == b""
        other = App()
        assert (await other.ask(method="HEAD", raw_path=b"/nowhere"))[2] == b""

    run(main())


def test_a_slow_client_has_the_upstream_wait() -> None:
    """What lies between them is bounded."""

    async def main() -> None:
        pauses: list[str] = []
        answer = streamed(*[b"x" * 20_000] * 5)
        answer.pause = lambda: pauses.append("pause")  # type: ignore[method-assign]
        answer.resume = lambda: pauses.append("resume")  # type: ignore[method-assign]
        app = App(upstream=Asked(answer))
        assert len((await app.ask())[2]) == 100_000
        assert pauses[0] == "pause"
        assert pauses.count("pause") == 1

    run(main())


@pytest.mark.parametrize(("client", "told"), [(None, []), (("192.0.2.1", 1), [b"192.0.2.1"])])
def test_where_it_comes_from(client: tuple[str, int] | None, told: list[bytes]) -> None:
    """The peer, if it has an address; nothing that the client says of itself."""

    async def main() -> None:
        app = App()
        headers = [HOST, (b"x-forwarded-for", b"127.0.0.1"), (b"x-user-id", b"root")]
        await app.ask(client=client, scheme="https", headers=headers)
        block = app.upstream.got[0][1]
        assert values(block, b"x-forwarded-for") == told
        assert values(block, b"x-forwarded-proto") == [b"https"]
        assert b"x-user-id" not in {name.lower() for name, _ in fields(block)}

    run(main())


def test_behind_a_trusted_proxy() -> None:
    """Its word is taken."""

    async def main() -> None:
        app = App()
        app.edge.trust = Trust([ip_network("192.0.2.0/24")])
        await app.ask(headers=[HOST, (b"x-forwarded-for", b"198.51.100.7")])
        assert app.seen[0].downstream.origin.client == "198.51.100.7"

    run(main())
