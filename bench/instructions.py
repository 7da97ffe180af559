"""What a request costs in instructions, counted by valgrind: a figure that a busy machine does not change.

The gateway runs in this process on transports of memory, so that neither the kernel nor the other side is counted.
Two runs of different length are compared: what starting up costs falls out of the difference.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt

from propylon import Gateway
from propylon.edge.protocol import GatewayProtocol

SECRET = "Zk8vQw3xN0pT6rJ2yHs9LmBdFgCeXaUi71oKqRtV"
ANSWER = b'{"order": 1042, "lines": [%b]}' % b", ".join(b"%d" % n for n in range(1, 222))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-N: %b\r\n\r\n"
CONFIG = """
log: {{level: info}}
auth: {{jwt: {{secret: "{secret}"}}, tokens: {{enabled: false, database: "sqlite:///{folder}/t.db"}}}}
services: {{orders: {{url: "http://127.0.0.1:9"}}}}
routes: [{{path: /api/v1/orders, service: orders, {rules}}}]
{more}
"""
REQUEST = (
    b"%b /api/v1/orders/%b?expand=lines HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux"
    b" x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: application/json, text/plain, */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer:"
    b" https://app.example.com/%b\r\nAuthorization: Bearer %b\r\nOrigin: https://app.example.com\r\nConnection:"
    b" keep-alive\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\nPriority: u=0\r\n"
)
PACE = 50e-6  # seconds between two requests: 20,000 a second
LOADS = ("repeated", "varied", "post")
# What a route may have besides; a load's name is followed by it: repeated+limit.
RULES = {
    "": "",
    "limit": "rate_limit: {rate: 900000/s, burst: 1000000}",
    "hits": "cache: {ttl: 24h}",
    "misses": "cache: {}",
    "limits": "rate_limit: [{name: a, rate: 900000/s}, {name: b, rate: 900000/m}]",
}
# What the file may have besides; in a load's name as the rules are: repeated+traces.
TRACES = 'traces: {{endpoint: "http://127.0.0.1:9", sampling: {{ratio: {}}}}}'
SECTIONS = {
    "traces": TRACES.format("1%"),
    "unsampled": TRACES.format(0),
    "traced": TRACES.format(1),
}


class Pipe(asyncio.Transport):
    """A transport of memory: what is written is handed to a function."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self.written = written
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1234) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.written(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def get_write_buffer_size(self) -> int:
        return 0


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time goes on by as much for each request: how often clocks tick depends on no machine."""

    now: float | None = None  # None: while nothing is counted, the real time

    def time(self) -> float:
        return super().time() if self.now is None else self.now


class World:
    """A gateway, one client connection, and an upstream of memory."""

    def __init__(self, load: str, folder: Path) -> None:
        file = folder / "propylon.yaml"
        self.load, _, rules = load.partition("+")
        text = CONFIG.format(
            secret=SECRET, folder=folder, rules=RULES.get(rules, ""), more=SECTIONS.get(rules, "")
        )
        file.write_text(text)
        self.count = 0
        self.file = file
        claims = {"sub": "ann", "exp": int(time.time()) + 86_400, "scope": "read write"}
        self.token = jwt.encode(claims, SECRET, algorithm="HS256").encode()

    def request(self) -> bytes:
        self.count += 1
        name = b"%d" % self.count if self.load == "varied" else b"1042"
        body = b'{"a": 1}' if self.load == "post" else b""
        method = b"POST" if body else b"GET"
        head = REQUEST % (method, name, name, self.token)
        return head + (b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n") + body

    def answer(self) -> bytes:
        name = b"%d" % self.count if self.load == "varied" else b"1"
        return HEAD % (len(ANSWER), name) + ANSWER

    async def run(self, requests: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        gateway = Gateway.from_file(self.file, {})

        async def connect(factory: Callable[[], Any], *_: Any, **__: Any) -> Any:
            def answer(data: bytes) -> None:
                if b" HTTP/1.1\r\n" in data:  # a body comes in a write of its own
                    loop.call_soon(upstream.data_received, self.answer())

            upstream = factory()
            pipe = Pipe(answer)
            upstream.connection_made(pipe)
            return pipe, upstream

        loop.create_connection = connect  # type: ignore[method-assign]
        async with gateway.lifespan() as state:
            server_state = SimpleNamespace(connections=set(), tasks=set(), total_requests=0)
            protocol = GatewayProtocol(None, server_state, dict(state), loop)
            answers: asyncio.Queue[bytes] = asyncio.Queue()
            protocol.connection_made(Pipe(answers.put_nowait))
            loop.now = loop.time()
            for _ in range(requests):
                loop.now += PACE
                protocol.data_received(self.request())
                data = await answers.get()
                assert data.startswith(b"HTTP/1.1 200 "), data[:300]
            loop.now = None
            protocol.connection_lost(None)


def instructions(load: str, requests: int, source: str) -> int:
    """The instructions that one run of so many requests takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            sys.executable,
        ]
        done = subprocess.run(
            [*command, __file__, "--inside", load, str(requests)],
            env={**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(done.stderr[-2000:])
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--source", default=str(Path(__file__).parents[1] / "src"))
    parser.add_argument("--against", help="another checkout's src: the ratio is printed")
    parser.add_argument(
        "--loads", default=",".join(LOADS), help="such as repeated,repeated+limit,repeated+limits"
    )
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        with (
            tempfile.TemporaryDirectory() as folder,
            Path(os.devnull).open("w", encoding="utf-8") as quiet,
            contextlib.redirect_stdout(quiet),
            asyncio.Runner(loop_factory=Loop) as runner,
        ):
            runner.run(World(options.inside[0], Path(folder)).run(int(options.inside[1])))
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    for load in options.loads.split(","):
        figures = [per_request(load, options.requests, options.source)]
        if options.against:
            figures.append(per_request(load, options.requests, options.against))
            print(
                f"{load}: {figures[0]:,.0f} against {figures[1]:,.0f}: {figures[0] / figures[1]:.3f}"
            )
        else:
            print(f"{load}: {figures[0]:,.0f} instructions a request")


def per_request(load: str, requests: int, source: str) -> float:
    """Instructions per request: what twice as many cost more."""
    once, twice = (instructions(load, n, source) for n in (requests, 2 * requests))
    return (twice - once) / requests


if __name__ == "__main__":
    main()
