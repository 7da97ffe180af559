"""Compile `responses: {sample: …}`: a route some of whose answers are held against its service's document.

Rules.

1. The answer is never held up. Its bytes go to the client as they come, and the ones that are wanted are kept beside.
2. Only a whole JSON body of up to 64 KiB is kept. Of any other answer only the status and the type are looked at.
3. What is wrong is told to operators. Nothing happens to the answer, which the client has by then.
4. With a cache, what clients get is looked at, stored answers included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from propylon.loop.signal import Signal
from propylon.proxy.check.answer import Received
from propylon.proxy.check.operation import LARGEST_BODY
from propylon.proxy.exchange import Exchange
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.route import Forwards, Route
from propylon.upstream.ports import Answer, Sink
from propylon.wire.headers import values
from propylon.wire.message import Request, Response

__all__ = ["Sample", "SampleAnswers", "Samples"]

_SWITCHING_PROTOCOLS = 101
_NOT_MODIFIED = 304  # its head is that of an answer which the client has
_PARTIAL = 206  # a part of JSON is no JSON


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer to be looked at, and the request that it answers."""

    route: str
    service: str
    rewrite: Rewrite | None
    method: str
    path: bytes
    answer: Received


class Samples(Protocol):
    """Takes samples, and looks at them when there is time."""

    def take(self, sample: Sample) -> None:
        """Take one; it may be dropped if there are many."""


@dataclass(frozen=True, slots=True)
class SampleAnswers:
    """The forward stage of such a route: do what `then` does, and take some of the answers."""

    then: Forwards
    share: float
    samples: Samples
    chance: Callable[[], float] = field(compare=False)

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Return the answer. Raises what `then` raises."""
        answer: Answer = await self.then(exchange, request, route)
        if self.chance() >= self.share:
            return answer
        head = answer.head
        if head.status in (_SWITCHING_PROTOCOLS, _NOT_MODIFIED):
            return answer
        kind, coding = _one(head, b"content-type"), _one(head, b"content-encoding").lower()

        def take(body: bytes | None) -> None:
            received = Received(head.status, kind, coding, body)
            sample = Sample(
                route.name, route.service.name, route.rewrite, request.method, path, received
            )
            self.samples.take(sample)

        path = request.path
        if answer.body is not None:
            whole = head.status != _PARTIAL and len(answer.body) <= LARGEST_BODY
            take(answer.body if whole else None)
        elif head.status == _PARTIAL or head.length > LARGEST_BODY or "json" not in kind.lower():
            take(None)
        else:
            return _Copied(answer, take)
        return answer


def _one(head: Response, name: bytes) -> str:
    """Return a header; of one that is sent twice all lines, which no document has."""
    return ", ".join(value.decode("latin-1") for value in values(head.block, name))


class _Copied:
    """An answer whose body is also kept, up to a bound; `take` gets it at its end, and nothing of one that breaks off."""

    __slots__ = ("_answer", "_pieces", "_sink", "_size", "_take", "body", "head")

    def __init__(self, answer: Answer, take: Callable[[bytes | None], None]) -> None:
        self.head = answer.head
        self.body: bytes | None = None
        self._answer = answer
        self._take = take
        self._sink: Sink
        self._pieces: list[bytes] = []
        self._size = 0

    # As an answer

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`."""
        self._sink = sink
        return self._answer.pipe(self)

    def pause(self) -> None:
        """Stop the upstream, because the client is slow."""
        self._answer.pause()

    def resume(self) -> None:
        """Go on."""
        self._answer.resume()

    def abort(self) -> None:
        """Cancel the answer."""
        self._answer.abort()

    # As the sink of the upstream's

    def interim(self, head: Response) -> None:
        """Pass a 1xx answer on."""
        self._sink.interim(head)

    def write(self, data: bytes) -> None:
        """Pass a piece on, and keep it."""
        self._sink.write(data)
        self._size += len(data)
        if self._size <= LARGEST_BODY:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def finish(self, trailers: bytes = b"") -> None:
        """Pass the end on, and give away what was kept."""
        self._sink.finish(trailers)
        self._take(b"".join(self._pieces) if self._size <= LARGEST_BODY else None)
        self._pieces.clear()
