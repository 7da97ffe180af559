"""What a start says on standard error: where it listens, and how many secrets verify tokens."""

import socket

import pytest

from propylon.config.models.schema import GatewayConfig
from propylon.process.run import _greet, _verifying
from tests.config.texts import SECRET


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ([], ""),
        ([SECRET], "; 1 secret verifies tokens"),
        ([SECRET, SECRET[::-1]], "; 2 secrets verify tokens"),
    ],
)
def test_the_start_line(secrets: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts the secrets, so that one which was wrapped in its file is noticed."""
    config = GatewayConfig.model_validate({"auth": {"jwt": {"secret": secrets}}})
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        _greet([sock], config, _verifying(config))
    assert capsys.readouterr().err == f"propylon: listening on http://127.0.0.1:{port}{said}\n"
