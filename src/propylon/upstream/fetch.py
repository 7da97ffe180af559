"""Fetch a small document from an upstream, whole: what the gateway itself asks of others.

No redirect is followed: an answer must come from where the operator said (a key set that moves to
another host is an attack, or a mistake that somebody should see).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from propylon.errors import BadResponse, StaleConnection, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.upstream.ports import Answer, BodySink, Outgoing, Timeouts, Upstream
from propylon.wire.message import NO_BODY, Response

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, read to its end."""

    status: int
    block: bytes
    body: bytes


async def fetch(
    upstream: Upstream,
    line: bytes,
    block: bytes,
    *,
    body: bytes | None = None,
    within: float,
    limit: int,
) -> Fetched:
    """Send one request (`line` without the version) and read the answer, in `within` seconds at most.

    `block` is the finished header block, without the framing of `body`. Must run in a task. Raises
    what `Upstream.send` raises, BadResponse for a body of more than `limit` bytes, and
    UpstreamTimeout.
    """
    given = None if body is None else _Given(body)
    outgoing = Outgoing(
        line.split(b" ", 1)[0].decode("ascii"),
        line + b" HTTP/1.1",
        block,
        given,
        Timeouts(within, within, within, within, within),
        asyncio.get_running_loop().time() + within,
        length=NO_BODY if body is None else len(body),
    )
    try:
        async with asyncio.timeout(within):
            try:
                answer = await upstream.send(outgoing, _Collector(limit))
            except StaleConnection:
                # Closed between two questions: that is no failure, and asking changes nothing there.
                answer = await upstream.send(outgoing, _Collector(limit))
            return await _read(answer, limit)
    except TimeoutError as error:
        msg = "The upstream did not answer in time"
        raise UpstreamTimeout(msg) from error


async def _read(answer: Answer, limit: int) -> Fetched:
    head = answer.head
    content = answer.body
    if content is None and head.length != NO_BODY:
        collector = _Collector(limit)
        content = await collector.collect(answer)
    if content is not None and len(content) > limit:
        raise _too_large(limit)
    return Fetched(head.status, head.block, content or b"")


def _too_large(limit: int) -> BadResponse:
    return BadResponse(f"The upstream's answer is larger than {limit} bytes")


class _Collector:
    """A sink that keeps a bounded body, and nobody's 1xx answers."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []
        self._answer: Answer | None = None
        self._ended: Signal[None] | None = None

    async def collect(self, answer: Answer) -> bytes:
        """Return the body. Raises BadResponse as soon as it is too large."""
        self._answer = answer
        self._ended = answer.pipe(self)
        self._check()
        await self._ended
        if self._size > self._limit:  # it was all there at once
            raise _too_large(self._limit)
        return b"".join(self._pieces)

    def interim(self, head: Response) -> None:
        """Drop it."""

    def write(self, data: bytes) -> None:
        """Keep a piece."""
        self._size += len(data)
        if self._size <= self._limit:
            self._pieces.append(data)
        else:
            self._check()

    def finish(self, trailers: bytes = b"") -> None:
        """Nothing to do: the signal says so, too."""

    def _check(self) -> None:
        """Stop reading what is too large, once it can be said to whoever waits."""
        if self._size > self._limit and self._answer is not None and self._ended is not None:
            self._pieces.clear()
            self._answer.abort()
            self._ended.fail(_too_large(self._limit))


class _Given:
    """A request body that is there from the start."""

    started = True
    complete = True
    replayable = True

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def pipe(self, sink: BodySink) -> None:
        """Push all of it."""
        sink.body_data(self._data)
        sink.body_end()

    def unpipe(self) -> None:
        """Nothing is left to push."""

    def pause(self) -> None:
        """Nothing is left to push."""

    def resume(self) -> None:
        """Nothing is left to push."""
