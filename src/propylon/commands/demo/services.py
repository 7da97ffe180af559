"""Run the services of the demo: small ASGI apps on real sockets, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from propylon.process.sockets import listen

__all__ = ["APPS", "running_services"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_TICKS = 5
_BETWEEN_TICKS = 0.3  # seconds
_SLOW = 20.0  # seconds: longer than `first_byte: 1s` of the demo's file
_STOP = 5.0  # seconds that a stop waits for the thread


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the request as it arrived: method, target, every header, body."""
    body = await _body(receive)
    headers = [(b"%b: %b" % (name, value)).decode("latin-1") for name, value in scope["headers"]]
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    target = (scope["raw_path"] + query).decode("ascii")
    seen = {"method": scope["method"], "target": target, "headers": headers, "body": body}
    await _answer(send, seen)


async def orders(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with an order, and with the address of the instance that answers."""
    await _body(receive)
    number = scope["path"].rpartition("/")[2]
    await _answer(send, {"order": number, "answered_by": f"127.0.0.1:{scope['server'][1]}"})


async def clock(scope: Message, receive: Receive, send: Send) -> None:
    """Stream some lines with pauses (`/ticks`), or do not answer (`/slow`)."""
    await receive()
    if scope["path"] == "/slow":
        await _wait(receive)
    if scope["path"] != "/ticks":
        await _answer(send, {"ticks": "/ticks", "slow": "/slow"})
        return
    await send(_start(b"text/plain"))
    for tick in range(1, _TICKS + 1):
        await send({"type": "http.response.body", "body": b"tick %d\n" % tick, "more_body": True})
        await asyncio.sleep(_BETWEEN_TICKS)
    await send({"type": "http.response.body"})


async def broken(scope: Message, receive: Receive, send: Send) -> None:
    """Fail every request but health probes: only the requests themselves can show the fault."""
    await _body(receive)
    status = 200 if scope["path"] == "/health" else 502
    await _answer(send, {"answered_by": "the instance that always fails"}, status)


# Each app by the placeholder of its URL in the demo's file. `orders` runs twice: two instances.
APPS: dict[str, App] = {
    "ECHO": echo,
    "ORDERS_1": orders,
    "ORDERS_2": orders,
    "CLOCK": clock,
    "BROKEN": broken,
}


async def _wait(receive: Receive) -> None:
    """Wait until the caller has closed the connection."""
    try:
        async with asyncio.timeout(_SLOW):
            while (await receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        return


async def _body(receive: Receive) -> str:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body.decode("utf-8", "replace")


async def _answer(send: Send, value: object, status: int = 200) -> None:
    body = json.dumps(value, indent=2).encode() + b"\n"
    length = (b"content-length", b"%d" % len(body))
    await send(_start(b"application/json", length, status=status))
    await send({"type": "http.response.body", "body": body})


def _start(kind: bytes, *more: tuple[bytes, bytes], status: int = 200) -> Message:
    headers = [(b"content-type", kind), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}


@contextmanager
def running_services() -> Iterator[dict[str, str]]:
    """Run every app on its own port; yield their URLs by name; at the end stop them."""
    # Not socket.create_server: its sockets have no protocol number, so asyncio does not switch Nagle's algorithm
    # off. That would delay each answer of two writes by 40 ms.
    sockets = {name: listen("127.0.0.1", 0)[0] for name in APPS}
    servers = {name: _server(APPS[name]) for name in APPS}
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(servers, sockets)), name="propylon-demo", daemon=True
    )
    thread.start()
    try:
        yield {
            name: "http://{}:{}".format(*sock.getsockname()[:2]) for name, sock in sockets.items()
        }
    finally:
        for server in servers.values():
            server.should_exit = True
        thread.join(_STOP)


def _server(app: App) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


async def _serve(servers: dict[str, uvicorn.Server], sockets: dict[str, socket.socket]) -> None:
    await asyncio.gather(*(servers[name].serve(sockets=[sockets[name]]) for name in servers))
