"""Run the lines of a documentation page in a shell, with a `propylon` that costs no start of Python.

The shell's `propylon` asks this process over a Unix socket. `propylon run` is started there, asked whether it lives, and ended.
"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import NamedTuple

CURL = shutil.which("curl") or ""
_MARK = "-- line"
_SHIM = """\
#!/bin/sh
said=$(for word in "$@"; do printf '%s\\n' "$word"; done |
  {curl} -sS --unix-socket {socket} -H "Directory: $PWD" --data-binary @- http://propylon/)
status=${{said##*
}}
printf '%s\\n' "${{said%
*}}"
exit "$status"
"""

# Gets the arguments and the directory; returns what is printed, and the exit status.
Command = Callable[[list[str], Path], tuple[str, int]]


class Said(NamedTuple):
    """What a line printed, and its status."""

    line: str
    output: str
    status: int


class Shell:
    """A shell with a `propylon` that is answered by a function."""

    def __init__(self, folder: Path, command: Command) -> None:
        """Keep the commands in `folder`."""
        self._bin = folder / "bin"
        self._bin.mkdir()
        socket = folder / "s"
        self._server = UnixStreamServer(str(socket), _handler(command))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        shim = self._bin / "propylon"
        shim.write_text(_SHIM.format(curl=CURL, socket=socket))
        shim.chmod(0o755)

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()

    def run(self, lines: list[str], directory: Path, environ: Mapping[str, str]) -> list[Said]:
        """Run the lines one after the other in one shell, as somebody does who pastes them."""
        link = directory / ".venv" / "bin"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(self._bin)
        script = "\n".join(f"{line}\nprintf '\\n{_MARK} %s\\n' $?" for line in lines)
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=directory,
            env={"PATH": f"{self._bin}:{os.environ['PATH']}", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        found = re.split(rf"\n{_MARK} ([0-9]+)\n", done.stdout)
        return [
            Said(line, output, int(status))
            for line, output, status in zip(lines, found[::2], found[1::2], strict=False)
        ]


def _handler(command: Command) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            words = self.rfile.read(int(self.headers["Content-Length"])).decode().split("\n")[:-1]
            output, status = command(words, Path(self.headers["Directory"]))
            body = f"{output.rstrip()}\n{status}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def address_string(self) -> str:
            """A Unix socket's peer has no address."""
            return ""

    return Handler
