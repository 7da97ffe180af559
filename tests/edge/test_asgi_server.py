"""What the portable edge makes of the server that runs it."""

from types import SimpleNamespace
from typing import Any

import pytest

from propylon.edge.asgi_server import AsgiServer, start_message
from propylon.wire.message import Response

BLOCK = b"\r\nDate: then\r\nServer: theirs\r\nA: b"


class Cycle:
    """A cycle of uvicorn's, with the headers that it adds."""

    def __init__(self, *adds: bytes, closing: bool = False) -> None:
        self.default_headers = [(name, b"x") for name in adds]
        self.transport = SimpleNamespace(is_closing=lambda: closing)
        self.disconnected = False

    async def receive(self) -> None:
        """What uvicorn passes to the app."""


@pytest.mark.parametrize(
    ("adds", "left"),
    [
        ((), [b"date", b"server", b"a"]),
        ((b"date",), [b"server", b"a"]),
        ((b"server", b"date", b"a"), [b"a"]),
    ],
)
def test_what_uvicorn_adds(adds: tuple[bytes, ...], left: list[bytes]) -> None:
    """Date and Server make room if uvicorn adds them; any other header of the upstream passes."""
    head = Response(200, b" 200 OK", BLOCK, 0, keep_alive=True)
    message = start_message(head, head.block, AsgiServer(Cycle(*adds).receive).adds)
    assert [name for name, _ in message["headers"]] == left


async def plain() -> None:
    """Another server's `receive`."""


@pytest.mark.parametrize("receive", [plain, SimpleNamespace(receive=plain).receive, [].append])
def test_another_server(receive: Any) -> None:
    """Nearly all servers add both; whether a client has left, only `receive` tells."""
    server = AsgiServer(receive)
    assert server.adds == {b"date", b"server"}
    assert not server.client_is_gone
    server.give_up()


def test_a_client_that_has_left() -> None:
    """The transport of uvicorn shows it, and uvicorn is told."""
    cycle = Cycle(closing=True)
    server = AsgiServer(cycle.receive)
    assert server.client_is_gone
    server.give_up()
    assert cycle.disconnected
    assert not AsgiServer(Cycle().receive).client_is_gone
