"""What a start says on standard error: where it listens, and how many secrets verify tokens."""

import socket

import pytest

from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.process.greeting import greeting
from propylon.process.sockets import Listening, Wanted
from tests.config.texts import SECRET


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([], ""),
        ([SECRET], "; 1 secret verifies tokens"),
        ([SECRET, SECRET[::-1]], "; 2 secrets verify tokens"),
    ],
)
def test_the_start_line(secrets: list[str], said: str) -> None:
    """It counts the secrets, so that one which was wrapped in its file is noticed."""
    config = GatewayConfig.model_validate({"auth": {"jwt": {"secret": secrets}}})
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        listening = Listening(Wanted(PUBLIC, Tcp("127.0.0.1", port)), [sock])
        lines = list(greeting(config, [listening]))
    assert lines == [f"listening on http://127.0.0.1:{port}{said}"]
