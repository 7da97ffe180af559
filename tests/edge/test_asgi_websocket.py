"""WebSockets behind an ASGI server, without the server: what is asked of it, and what it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from propylon import Gateway
from propylon.edge import asgi
from tests.support.sockets import echo
from tests.support.tokens import SECRET, mint
from tests.support.upstream import Upstream
from tests.upstream.peer import run

Message = MutableMapping[str, Any]

CONFIG = """
auth: {{jwt: {{secret: {secret}}}, tokens: {{enabled: false, database: "sqlite:///{folder}/t.db"}}}}
services: {{up: {{url: "http://127.0.0.1:{port}"}}}}
routes:
  - {{path: /ws, service: up, auth: none}}
  - {{path: /mine, service: up}}
"""


class Server:
    """An ASGI server's side of one WebSocket."""

    def __init__(self, app: Callable[..., Any], path: str, **more: Any) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.scope: Message = {
            "type": "websocket",
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"host", b"gw.test"),
                (b"connection", b"Upgrade"),
                (b"upgrade", b"websocket"),
                (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
                (b"sec-websocket-version", b"13"),
            ],
            "extensions": {"websocket.http.response": {}},
            **more,
        }
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(self.scope, self.receive, self.sent.put))

    @property
    def receive(self) -> Callable[[], Awaitable[Message]]:
        """What the app gets for that."""
        return self.incoming.get

    def say(self, **message: Any) -> None:
        """The client sends something."""
        self.incoming.put_nowait({"type": "websocket.receive", **message})

    def leave(self, code: int) -> None:
        """The client closes."""
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": code})

    async def told(self) -> Message:
        """What the gateway sends next."""
        async with asyncio.timeout(20):
            return await self.sent.get()


class Uvicorn(Server):
    """uvicorn's side: by its `receive` the gateway knows uvicorn, and sees whether the connection is closed."""

    closing = False
    default_headers: ClassVar[list[tuple[bytes, bytes]]] = []

    @property
    def transport(self) -> Any:
        """The client's connection."""
        return SimpleNamespace(is_closing=lambda: self.closing, get_extra_info=lambda _: None)

    async def _receive(self) -> Message:
        return await self.incoming.get()

    @property
    def receive(self) -> Callable[[], Awaitable[Message]]:
        """A method of the connection."""
        return self._receive


@asynccontextmanager
async def running(folder: Path, up: Upstream) -> AsyncIterator[Gateway]:
    """A gateway in front of the upstream."""
    file = folder / "propylon.yaml"
    file.write_text(CONFIG.format(secret=SECRET, folder=folder, port=up.port))
    gateway = Gateway.from_file(file, {})
    async with gateway.lifespan():
        yield gateway


def test_messages_pass(tmp_path: Path) -> None:
    """Texts are texts, bytes are bytes, and the client's code reaches the upstream."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            server = Server(gateway.asgi, "/ws", query_string=b"token=secret")
            assert (await server.told())["type"] == "websocket.accept"
            assert server.scope["query_string"] == b"", "a server would log it"
            server.say(text="h\u00e9llo")
            assert await server.told() == {"type": "websocket.send", "text": "h\u00e9llo"}
            server.say(bytes=b"\xff", text=None)
            assert await server.told() == {"type": "websocket.send", "bytes": b"\xff"}
            server.leave(4001)
            await server.task
        assert up.wait(lambda: up.closes)
        assert up.closes == [(4001, "")]

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))


def test_a_client_of_tests(tmp_path: Path) -> None:
    """FastAPI's TestClient makes no real handshake; the gateway's own with the upstream is one all the same."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            headers = [
                (b"host", b"testserver"),
                (b"connection", b"upgrade"),
                (b"sec-websocket-key", b"testserver=="),
                (b"sec-websocket-version", b"13"),
            ]
            query = f"a=1&token={mint('ann')}".encode()
            mounted = {"root_path": "/gw", "raw_path": b"/gw/mine"}
            server = Server(
                gateway.asgi, "/gw/mine", headers=headers, query_string=query, **mounted
            )
            assert (await server.told())["type"] == "websocket.accept"
            assert up.last.target == b"/mine?a=1"
            assert up.last.get("x-user-id") == "ann"
            server.leave(1000)
            await server.task

    with Upstream(fallback=echo, upgrades=True, identified=True) as up:
        run(main(up))


def test_http_2_has_no_key(tmp_path: Path) -> None:
    """The gateway makes the handshake that HTTP/1.1 wants (RFC 8441)."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            headers = [(b"host", b"gw.test"), (b"sec-websocket-protocol", b"chat")]
            server = Server(gateway.asgi, "/ws", headers=headers, http_version="2", scheme="wss")
            accepted = await server.told()
            assert (accepted["type"], accepted["subprotocol"]) == ("websocket.accept", "chat")
            assert up.last.get("x-forwarded-proto") == "https"
            server.leave(1005)
            await server.task

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))


def test_a_client_that_vanishes(tmp_path: Path) -> None:
    """The upstream's connection is closed without a made-up code."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            server = Server(gateway.asgi, "/ws")
            await server.told()
            server.leave(1006)
            await server.task
        assert up.closes == []

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))


def test_a_closed_connection_is_no_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes it before the gateway hears with which code: the upstream gets the code all the same."""
    monkeypatch.setattr(asgi, "_WATCH_DISCONNECT_AFTER", 0.0)

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            server = Uvicorn(gateway.asgi, "/ws")
            await server.told()
            server.closing = True
            assert gateway.running is not None
            ticker = gateway.running.edge.ticker
            seen = ticker.now
            while ticker.now <= seen:  # its look at the deadlines is over
                await asyncio.sleep(0.001)
            server.leave(4001)
            await server.task
        assert up.wait(lambda: up.closes)
        assert up.closes == [(4001, "")]

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))


@pytest.mark.parametrize("extensions", [{"websocket.http.response": {}}, {}, None])
def test_a_refusal(tmp_path: Path, extensions: dict[str, Any] | None) -> None:
    """It has status and body where the server can send them; else the socket is closed before it is accepted."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            server = Server(gateway.asgi, "/mine", extensions=extensions)
            first = await server.told()
            if extensions:
                assert (first["type"], first["status"]) == ("websocket.http.response.start", 401)
                assert (await server.told())["type"] == "websocket.http.response.body"
            else:
                assert first["type"] == "websocket.close"
            await server.task
            assert server.sent.empty()
        assert not up.raw

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))


def test_a_server_that_stops(tmp_path: Path) -> None:
    """If it cancels its task, the upstream's connection ends with it."""

    async def main(up: Upstream) -> None:
        async with running(tmp_path, up) as gateway:
            server = Server(gateway.asgi, "/ws")
            await server.told()
            server.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await server.task
            await asyncio.sleep(0.05)
            running_ = gateway.running
            assert running_ is not None
            assert len(running_.edge.sockets) == 0

    with Upstream(fallback=echo, upgrades=True) as up:
        run(main(up))
