"""Fetch one small document from an upstream: a key set, an introspection answer, a service's OpenAPI document.

Rules. The answer is bounded in time and size: a key set endpoint that is taken over must not fill the memory. No redirect
is followed: the operator named the host, and a key set that moves to another one is an attack, or a mistake that the
operator should see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import BadResponse, StaleConnection, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.upstream.ports import Answer, BodySink, Outgoing, Timeouts, Upstream
from propylon.wire.message import NO_BODY, Response

__all__ = ["BytesBody", "Fetched", "fetch"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer that was read to its end: its status, header block and whole body."""

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
    """Send one request and return the whole answer, within `within` seconds.

    `line` is the request line without the version; `block` the header block without the framing of `body`. Must run in a
    task. Raises what `Upstream.send` raises, BadResponse for a body of more than `limit` bytes, and UpstreamTimeout.
    """
    request_body = None if body is None else BytesBody(body)
    outgoing = Outgoing(
        line.split(b" ", 1)[0].decode("ascii"),
        line + b" HTTP/1.1",
        block,
        request_body,
        Timeouts(within, within, within, within, within),
        asyncio.get_running_loop().time() + within,
        length=NO_BODY if body is None else len(body),
    )
    try:
        async with asyncio.timeout(within):
            try:
                answer = await upstream.send(outgoing, _Collector(limit))
            except StaleConnection:
                # The upstream closed the connection between two requests. That is no failure, and
                # what is fetched here changes nothing there: it may be sent again.
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
    """A sink that collects a body of at most `limit` bytes, and drops 1xx answers."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []
        self._answer: Answer | None = None
        self._ended: Signal[None] | None = None

    async def collect(self, answer: Answer) -> bytes:
        """Return the body of the answer. Raises BadResponse as soon as it is too large."""
        self._answer = answer
        # `pipe` may push all of the body before it returns, so the limit is checked again below.
        self._ended = answer.pipe(self)
        self._check()
        await self._ended
        if (
            self._size > self._limit
        ):  # it arrived in one piece, and the signal was set before `_check` could fail it
            raise _too_large(self._limit)
        return b"".join(self._pieces)

    def interim(self, head: Response) -> None:
        """Ignore a 1xx answer: the final one follows."""

    def write(self, data: bytes) -> None:
        """Collect a piece, unless the body is too large by now."""
        self._size += len(data)
        if self._size <= self._limit:
            self._pieces.append(data)
        else:
            self._check()

    def finish(self, trailers: bytes = b"") -> None:
        """Do nothing: the signal that `collect` awaits is set at the same time."""

    def _check(self) -> None:
        """Abort an answer that is too large, once there is a signal that can carry the error."""
        if self._size > self._limit and self._answer is not None and self._ended is not None:
            # What is held is freed at once, and the connection closed: the rest of a body without
            # end need not be read to be dropped.
            self._pieces.clear()
            self._answer.abort()
            self._ended.fail(_too_large(self._limit))


class BytesBody:
    """A request body that is complete from the start: an `IncomingBody` of the gateway's own."""

    # As `RequestBody` has them. It can be sent again as often as the caller tries.
    started = True
    complete = True
    replayable = True

    def __init__(self, data: bytes) -> None:
        self.length = self.received = len(data)
        self.limit: int | None = None
        self._data = data

    async def gathered(self) -> bytes | None:
        """Return it."""
        return self._data

    def watch(self, watcher: Callable[[bytes], None]) -> None:
        """Call back with the whole body."""
        watcher(self._data)

    def pipe(self, sink: BodySink) -> None:
        """Push the whole body to `sink`."""
        if self._data:
            sink.body_data(self._data)
        sink.body_end()

    def unpipe(self) -> None:
        """Do nothing: `pipe` has pushed all of it."""

    def pause(self) -> None:
        """Do nothing: `pipe` has pushed all of it."""

    def resume(self) -> None:
        """Do nothing: `pipe` has pushed all of it."""
