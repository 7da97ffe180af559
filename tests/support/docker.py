"""Play a Docker Engine on a Unix socket: its versions, its list of containers, its events; and as badly as one asks for."""

import asyncio
import json
import re
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
_TARGET = re.compile(r"/v([0-9]+)\.([0-9]+)(/containers/json|/events)")


def container(
    name: str,
    labels: dict[str, str],
    *,
    address: str = "127.0.0.1",
    ports: tuple[int, ...] = (),
    status: str = "Up 5 minutes",
    created: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """One container, as the list has it."""
    return {
        "Id": f"{name:0<64}",
        "Names": [f"/{name}"],
        "Created": created,
        "State": "running",
        "Status": status,
        "Labels": labels,
        "Ports": [{"PrivatePort": port, "Type": "tcp"} for port in ports],
        "NetworkSettings": {"Networks": {"shop_default": {"IPAddress": address}}},
        **more,
    }


class Engine:
    """An engine on a socket, in a thread of its own."""

    def __init__(self, socket: Path, *, newest: str = "1.51", oldest: str = "1.24") -> None:
        self.socket = socket
        self.asked: list[str] = []
        self.answers: list[bytes | None] = (
            []
        )  # of the next lists, instead of the true one; None: none ever
        self.newest, self.oldest = newest, oldest
        self._containers: list[dict[str, Any]] = []
        self._streams: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_unix_server(self._serve, socket))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self.socket}"

    def run(self, *containers: dict[str, Any], event: str = "start") -> None:
        """Have these containers run, and no others; tell of it, unless `event` is empty."""
        self._do(self._change(list(containers), event))

    def cut(self) -> None:
        """Break the streams of events."""
        self._do(self._cut())

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    @property
    def lists(self) -> int:
        """How many lists were asked for."""
        return sum("/containers/json" in target for target in self.asked)

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _cut(self) -> None:
        for writer in list(self._streams):
            writer.transport.abort()

    async def _change(self, containers: list[dict[str, Any]], event: str) -> None:
        self._containers = containers
        if event:
            said = json.dumps({"Type": "container", "Action": event, "Actor": {"ID": "x"}})
            for writer in self._streams:
                text = said.encode() + b"\n"
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, _ = head.split("\r\n")[0].split(" ")
                assert method == "GET", "it is only read"
                self.asked.append(target)
                await self._answer(reader, writer, target)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        if target == "/version":
            said = {"ApiVersion": self.newest, "MinAPIVersion": self.oldest}
            _whole(writer, 200, json.dumps(said).encode())
            return
        match = _TARGET.fullmatch(urlsplit(target).path)
        version = (int(match[1]), int(match[2])) if match else (0, 0)
        if match is None or not _number(self.oldest) <= version <= _number(self.newest):
            _whole(writer, 400, b'{"message": "client version is not supported"}')
        elif match[3] == "/events":
            await self._stream(reader, writer, target)
        else:
            scripted = (
                self.answers.pop(0) if self.answers else json.dumps(self._containers).encode()
            )
            if scripted is not None:
                _whole(writer, 200, scripted)

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        filters = json.loads(parse_qs(urlsplit(target).query)["filters"][0])
        assert {"start", "die", "health_status"} <= set(filters["event"])
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._streams.add(writer)
        try:
            with suppress(ConnectionError):
                await reader.read(1)  # until the gateway leaves
        finally:
            self._streams.discard(writer)
        raise ConnectionError


def _number(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _whole(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
