"""Read an answer that may have no end, line by line: a watch of the Kubernetes API, the events of Docker.

Rules. A line is bounded, and so is what waits to be read: while the reader is slow, the upstream is. The head has a timeout, and
so has silence between two pieces. Leaving the block closes the connection, unless the answer has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from propylon.errors import BadResponse, StaleConnection, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.upstream.ports import NEVER, Answer, Outgoing, Timeouts, Upstream
from propylon.wire.message import NO_BODY, Response

__all__ = ["Lines", "open_lines"]

# Bytes that may wait for the reader before the upstream has to.
_MOST_WAITING = 1024 * 1024


class Lines:
    """The lines of an answer, without their ends; a last one without an end is a line, too."""

    def __init__(self, limit: int) -> None:
        self.status = 0
        self._limit = limit
        self._pieces: list[bytes] = []  # of the line that is not complete
        self._size = 0
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes in `_lines`
        self._news = asyncio.Event()
        self._answer: Answer | None = None
        self._ended: Signal[None] | None = None
        self._is_paused = False
        self._is_over = False
        self._error: BadResponse | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line. Raises UpstreamReset, UpstreamTimeout or BadResponse for an answer that breaks off."""
        while not self._lines and self._error is None and not self._is_over:
            self._news.clear()
            await self._news.wait()
        if self._lines:
            return self._next()
        if self._error is not None:
            raise self._error
        if self._ended is not None:
            self._ended.result()
        raise StopAsyncIteration

    def _next(self) -> bytes:
        line = self._lines.popleft()
        self._waiting -= len(line)
        if self._is_paused and self._answer is not None and self._waiting < _MOST_WAITING // 2:
            self._is_paused = False
            self._answer.resume()
        return line

    def skip(self) -> None:
        """Drop the lines that wait to be read."""
        while self._lines:
            self._next()

    def begin(self, answer: Answer) -> None:
        """Read the answer from now on."""
        self._answer = answer
        self.status = answer.head.status
        if answer.body is not None or answer.head.length == NO_BODY:
            self.write(answer.body or b"")
            self._end()
        else:
            self._ended = answer.pipe(self)
            self._ended.add_done_callback(lambda _: self._end())

    def close(self) -> None:
        """Let go of an answer that has not ended."""
        if self._answer is not None and not self._is_over:
            self._answer.abort()

    # The sink

    def interim(self, head: Response) -> None:
        """Ignore a 1xx answer: the final one follows."""

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if self._error is not None:
            return
        *complete, rest = data.split(b"\n")
        for end in complete:
            self._take(end)
            self._lines.append(b"".join(self._pieces))
            self._waiting += self._size
            self._pieces, self._size = [], 0
        self._take(rest)
        if self._size > self._limit or any(len(line) > self._limit for line in self._lines):
            self._refuse()
        elif self._waiting > _MOST_WAITING and self._answer is not None and not self._is_paused:
            self._is_paused = True
            self._answer.pause()
        self._news.set()

    def finish(self, trailers: bytes = b"") -> None:
        """Do nothing: the signal of `pipe` is set at the same time."""

    def _take(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)

    def _refuse(self) -> None:
        self._lines.clear()
        self._pieces.clear()
        self._error = BadResponse(
            f"A line of the upstream's answer is longer than {self._limit} bytes"
        )
        if self._answer is not None:
            self._answer.abort()

    def _end(self) -> None:
        if self._pieces:
            self._lines.append(b"".join(self._pieces))
            self._pieces = []
        self._is_over = True
        self._news.set()


@asynccontextmanager
async def open_lines(
    upstream: Upstream, line: bytes, block: bytes, *, within: float, silence: float, limit: int
) -> AsyncIterator[Lines]:
    """Send a request without a body, and yield the lines of its answer, whose status is known by then.

    `line` is the request line without the version. The head has to come within `within` seconds; then no silence may last longer than
    `silence` seconds, and no line be longer than `limit` bytes. Raises what `Upstream.send` raises, and UpstreamTimeout.
    """
    lines = Lines(limit)
    timeouts = Timeouts(within, within, silence, within, NEVER, silence)
    method = line.split(b" ", 1)[0].decode("ascii")

    async def send() -> Answer:
        end = asyncio.get_running_loop().time() + within
        outgoing = Outgoing(method, line + b" HTTP/1.1", block, None, timeouts, end)
        return await upstream.send(outgoing, lines)

    try:
        async with asyncio.timeout(within):
            try:
                answer = await send()
            except StaleConnection:  # closed between two requests: that is no failure
                answer = await send()
    except TimeoutError as error:
        msg = "The upstream did not answer in time"
        raise UpstreamTimeout(msg) from error
    lines.begin(answer)
    try:
        yield lines
    finally:
        lines.close()
