"""Who listens on a port: told by name and number, never by a command line."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from propylon.process.holder import holder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
LISTENS = """
import socket
with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
    print(server.getsockname()[1], flush=True)
    input()
"""


def test_this_process() -> None:
    """A port that this process listens on, and one that nobody listens on any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()
        assert holder(port) == f"{name} (process {os.getpid()})"
    assert holder(port) == ""


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="no IPv6")
def test_another_process_without_its_arguments() -> None:
    """What stands in a command line may be a password."""
    command = [sys.executable, "-c", LISTENS, "--password", "swordfish"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        said = holder(port)
        other.communicate("")
    assert f"(process {other.pid})" in said
    assert "swordfish" not in said


def test_a_connection_is_no_listener() -> None:
    """A port may be one end of an open connection, too."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert holder(client.getsockname()[1]) == ""


def test_where_nothing_is_told(tmp_path: Path) -> None:
    """Without the tables, or without the right to read them, it is not known."""
    assert holder(80, tmp_path) == ""
    (tmp_path / "net").mkdir()
    row = "  0: 0100007F:0050 00000000:0000 0A 0:0 00:0 0 0 0 4711 1 0 100"
    (tmp_path / "net" / "tcp").write_text(f"head\n{row}\n")
    (tmp_path / "12").mkdir()
    assert holder(80, tmp_path) == ""
    (tmp_path / "12" / "fd").mkdir()
    (tmp_path / "12" / "fd" / "3").symlink_to("socket:[4711]")
    assert holder(80, tmp_path) == ""
    (tmp_path / "12" / "comm").write_text("nginx\n")
    assert holder(80, tmp_path) == "nginx (process 12)"
