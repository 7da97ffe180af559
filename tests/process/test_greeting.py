"""What a start says on standard error: where it listens, what it found, what verifies tokens, where state is kept."""

import socket
from pathlib import Path
from typing import Any

import pytest

from propylon.config.models.endpoints import PUBLIC, REDIRECT
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import Places
from propylon.process.greeting import greeting
from propylon.process.sockets import Listening, Wanted
from tests.config.texts import SECRET

FILE = Path("propylon.yaml")


def said(loaded: Loaded, place: Path | None = None, edge: str = PUBLIC) -> str:
    """The line of one listener, without its address."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = Tcp("127.0.0.1", sock.getsockname()[1])
        (line,) = greeting(loaded, [Listening(Wanted(edge, address), [sock])], place)
    start = f"listening on http://{address}"
    assert line.startswith(start)
    return line.removeprefix(start)


def of(config: dict[str, Any], path: Path | None = FILE) -> Loaded:
    """A configuration, from a file or from nowhere."""
    return Loaded(GatewayConfig.model_validate(config), path, Places())


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({}, "nothing verifies tokens"),
        ({"jwt": {"secret": []}}, "nothing verifies tokens"),
        ({"jwt": {"secret": SECRET}}, "1 secret verifies tokens"),
        ({"jwt": {"secret": [SECRET, SECRET[::-1]]}}, "2 secrets verify tokens"),
        ({"jwt": {"jwks_url": "https://idp.test/k?x=1"}}, "the keys of idp.test verify tokens"),
        (
            {"introspection": {"url": "https://idp.test/i"}},
            "introspection at idp.test verifies tokens",
        ),
        (
            {
                "jwt": [
                    {"secret": SECRET, "issuer": "us"},
                    {"discovery_url": "https://a.test/.well-known/openid-configuration"},
                ],
                "introspection": {"url": "https://idp.test/i"},
            },
            "1 secret, the keys of a.test and introspection at idp.test verify tokens",
        ),
    ],
)
def test_it_says_what_verifies_tokens(auth: dict[str, Any], expected: str) -> None:
    """It counts the secrets, so that one which was wrapped in its file is noticed."""
    assert said(of({"auth": auth})).split("; ")[2] == expected


@pytest.mark.parametrize(
    ("config", "place", "expected"),
    [
        ({}, None, "state in memory"),
        ({}, Path("/dev/shm/p"), "state in /dev/shm/p"),
        (
            {"redis": "redis://me:hunter2@a:1/2"},
            None,
            "limits in Redis at a:1, other state in memory",
        ),
        (
            {"redis": "redis+cluster://:hunter2@a,b:2"},
            Path("/x"),
            "limits in Redis at a:6379,b:2, other state in /x",
        ),
        (
            {"redis": "unix:///run/redis.sock"},
            None,
            "limits in Redis at /run/redis.sock, other state in memory",
        ),
        ({"auth": {"jwt": {"secret": SECRET}}}, None, "state in memory, users in propylon.db"),
        (
            {
                "auth": {
                    "jwt": {"secret": SECRET},
                    "tokens": {
                        "database": "postgresql://me:hunter2@db:5432/users?sslpassword=hunter2"
                    },
                }
            },
            None,
            "state in memory, users in PostgreSQL at db:5432/users",
        ),
    ],
)
def test_it_says_where_state_is_kept(
    config: dict[str, Any], place: Path | None, expected: str
) -> None:
    """Limits in Redis if there is one; the rest on this machine; users in their database. No password is shown."""
    line = said(of(config), place)
    assert line.split("; ")[3] == expected
    assert "hunter2" not in line


def test_it_names_the_file_and_its_size() -> None:
    """File, services and routes come first."""
    config = {"services": {"a": {"url": "http://a"}}, "routes": [{"path": "/", "service": "a"}]}
    assert said(of(config)).startswith("; propylon.yaml: 1 service, 1 route; ")


def test_it_names_the_paths_that_variables_open() -> None:
    """Without a file somebody has to be told which paths need no token."""
    loaded = load(None, {"AUTH_SERVICE_URL": "http://a", "AUTH_SERVICE_PUBLIC": "/login,GET /x"})
    assert said(loaded).startswith("; the environment: 1 service, ")
    opened = "; open without a token: POST /api/v1/auth/login, GET /api/v1/auth/x"
    assert said(loaded).endswith(opened)


def test_a_listener_that_redirects_says_so() -> None:
    """It serves nothing else."""
    assert said(of({}), edge=REDIRECT) == ", which redirects to https"
