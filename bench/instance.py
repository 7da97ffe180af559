"""A service that can be made to fail: PUT /mode/NAME says how it answers from then on.

fine        200 with 16 KB that are always the same
errors      500 to everything, /health too
cut-head    a reset in the middle of the answer's head
cut-body    a reset in the middle of the answer's body
silent      nothing at all, on an open connection

GET /held says how many requests wait in silence. Both ways of control answer in every mode.
"""

import argparse
import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

import httptools
import uvloop

BODY = (b"0123456789abcdef" * 1024)[: 16 * 1024]
# Long enough for the gateway to have read what was sent: a reset throws away what has not been read.
BEFORE_RESET = 0.02
# SO_LINGER with no time to linger: closing is a reset.
RESET = struct.pack("ii", 1, 0)


def answer(status: bytes, body: bytes, name: str) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nX-Instance: %b\r\n\r\n%b"
        % (
            status,
            len(body),
            name.encode(),
            body,
        )
    )


class Instance:
    """What all connections of one service share."""

    def __init__(self, name: str, mode: str, *, blind: bool) -> None:
        self.mode = mode
        self.blind = blind
        self.held = 0
        self.name = name
        self.fine = answer(b"200 OK", BODY, name)
        self.error = answer(b"500 Internal Server Error", b"out of order", name)
        self.modes: dict[str, Callable[[Conversation], None]] = {
            "fine": lambda c: c.send(self.fine),
            "errors": lambda c: c.send(self.error),
            "cut-head": lambda c: c.send_and_reset(self.fine[:24]),
            "cut-body": lambda c: c.send_and_reset(self.fine[: len(self.fine) // 2]),
            "silent": lambda c: c.hold(),
        }

    def control(self, path: str) -> bytes | None:
        """The answer to what the bench asks of it, or nothing."""
        if path == "/held":
            return answer(b"200 OK", b"%d" % self.held, self.name)
        if path == "/health" and self.blind:
            return self.fine
        mode = path.removeprefix("/mode/")
        if mode == path or mode not in self.modes:
            return None
        self.mode = mode
        return answer(b"200 OK", b"", self.name)


class Conversation(asyncio.Protocol):
    """One connection; a gateway sends one request at a time."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.parser = httptools.HttpRequestParser(self)
        self.path = ""
        self.holds = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.instance.held -= self.holds

    def on_url(self, url: bytes) -> None:
        self.path = url.decode("latin-1")

    def on_message_complete(self) -> None:
        said = self.instance.control(self.path)
        if said is not None:
            self.send(said)
        else:
            self.instance.modes[self.instance.mode](self)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def hold(self) -> None:
        self.holds = True
        self.instance.held += 1

    def send_and_reset(self, data: bytes) -> None:
        self.send(data)
        asyncio.get_running_loop().call_later(BEFORE_RESET, self.reset)

    def reset(self) -> None:
        connected = self.transport.get_extra_info("socket")
        if connected is not None and not self.transport.is_closing():
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


async def serve(port: int, instance: Instance) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Conversation(instance), "127.0.0.1", port, backlog=1024
    )
    await listener.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("name", help="what it says in X-Instance")
    parser.add_argument("--mode", default="fine")
    parser.add_argument("--blind", action="store_true", help="/health is fine in every mode")
    options = parser.parse_args()
    uvloop.run(serve(options.port, Instance(options.name, options.mode, blind=options.blind)))


if __name__ == "__main__":
    main()
