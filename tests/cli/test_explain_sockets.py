"""`propylon explain WEBSOCKET`: the same stages as the data plane's, and no token in what it prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from propylon.cli.main import app
from tests.support.tokens import SECRET, mint

CONFIG = """
auth: {{jwt: {{secret: {secret}}}, tokens: {{enabled: false, database: "sqlite:///{folder}/t.db"}}}}
services: {{up: {{url: "http://127.0.0.1:9"}}}}
routes:
  - {{path: /ws, service: up}}
  - {{path: /open, service: up, auth: none}}
  - {{path: /get, service: up, auth: none, methods: [GET]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with routes for sockets."""
    path = tmp_path / "propylon.yaml"
    path.write_text(CONFIG.format(secret=SECRET, folder=tmp_path))
    return path


def explain(file: Path, *arguments: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["explain", *arguments, "--config", str(file)])
    assert done.exit_code == 0, done.output
    return done.output


def data(file: Path, *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(explain(file, *arguments, "--format", "json"))


def test_a_token_in_the_query(file: Path) -> None:
    """The upstream would get the handshake without it, and neither form of the output shows it."""
    token = mint("alice")
    for spelled in ("token", "%74oken"):
        found = data(file, "WEBSOCKET", f"/ws?a=1&{spelled}={token}")
        assert found["route"]["name"] == "/ws"
        sent = found["upstream"]["request"]
        assert sent.startswith("GET /ws?a=1 HTTP/1.1\r\n")
        assert "\r\nUpgrade: websocket\r\n" in sent
        assert "\r\nX-User-Id: alice\r\n" in sent
        assert token not in json.dumps(found)
        assert token not in explain(file, "WEBSOCKET", f"/ws?a=1&{spelled}={token}")


@pytest.mark.parametrize("path", ["/ws", "/open"])
def test_a_token_as_subprotocol(file: Path, path: str) -> None:
    """It is shown nowhere, also where the route looks at no token."""
    token = mint("alice")
    header = f"Sec-WebSocket-Protocol:chat, bearer.{token}"
    found = explain(file, "WEBSOCKET", path, "-H", header)
    assert token not in found
    assert "Sec-WebSocket-Protocol: chat" in found


def test_a_page_of_another_site(file: Path) -> None:
    """The refusal says what to write."""
    found = data(file, "WEBSOCKET", "/open", "-H", "Origin:https://evil.test")
    assert found["refused"]["status"] == 403
    stage = next(one for one in found["stages"] if one["stage"] == "authenticate")
    assert "websocket.origins" in stage["text"]


def test_no_token(file: Path) -> None:
    """The authenticate stage refuses."""
    found = data(file, "WEBSOCKET", "/ws")
    assert found["refused"]["status"] == 401


def test_a_route_without_sockets(file: Path) -> None:
    """The handshake is the GET that it is, without the offer."""
    sent = data(file, "WEBSOCKET", "/get")["upstream"]["request"]
    assert "Upgrade" not in sent
