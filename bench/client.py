"""A strict HTTP/1.1 client: an answer is whole, or it says what was wrong with it."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import httptools

CHUNK = 1 << 16


class Failed(Exception):
    """What a caller would see as a failure; the text is its kind, the same for each of a kind."""


@dataclass
class Answer:
    """What came back, filled by the parser."""

    status: int = 0
    instance: str = ""
    body: bytearray = field(default_factory=bytearray)
    begun: int = 0
    kept: bool = False
    complete: bool = False

    def __post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-instance":
            self.instance = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        # Asked now: at the end, the parser has forgotten what it answers this by.
        self.kept = self.parser.should_keep_alive()
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


class Connection:
    """One connection that is kept as long as both sides want, and opened again when it is gone."""

    def __init__(self, port: int, timeout: float) -> None:
        self.port = port
        self.timeout = timeout
        # The client's end of the last one that was opened, and when: it tells which worker had it.
        self.local_port = 0
        self.opened = 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a whole request, and read its whole answer.

        Raises:
            Failed: There was none, or not a whole one in time.
        """
        answer = None
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self._exchange(request)
            return answer
        except TimeoutError as error:
            raise Failed(f"nothing for {self.timeout:g} s") from error
        except ConnectionRefusedError as error:
            raise Failed("refused") from error
        except OSError as error:
            raise Failed("reset") from error
        finally:
            if answer is None:
                self.close()

    async def _exchange(self, request: bytes) -> Answer:
        reader, writer = await self._open()
        writer.write(request)
        answer = Answer()
        while not answer.complete:
            data = await reader.read(CHUNK)
            if not data:
                raise Failed("cut" if answer.begun else "closed unanswered")
            try:
                answer.parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise Failed("not HTTP") from error
        if answer.begun > 1:
            raise Failed("two answers to one request")
        if not answer.kept:
            self.close()
        return answer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # What the gateway closed while it was idle is no failure: any client opens it again.
        if self._streams is None or _is_gone(self._streams[0]):
            self.close()
            self.opened = time.monotonic()
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            self.local_port = self._streams[1].get_extra_info("sockname")[1]
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _is_gone(reader: asyncio.StreamReader) -> bool:
    return reader.at_eof() or reader.exception() is not None


class Pace:
    """So many turns a second; those that a delay made impossible are left out, not caught up with."""

    def __init__(self, interval: float, first: float) -> None:
        self.interval = interval
        self.due = time.monotonic() + first

    async def turn(self) -> None:
        await asyncio.sleep(max(0.0, self.due - time.monotonic()))
        missed = int(max(0.0, time.monotonic() - self.due) / self.interval)
        self.due += self.interval * (1 + missed)


async def status_of(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """One request on a connection of its own; status 0 where there was no answer."""
    connection = Connection(port, timeout=5.0)
    with contextlib.suppress(Failed):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
        answer = await connection.ask(head.encode())
        connection.close()
        return answer.status, bytes(answer.body)
    return 0, b""
