"""Be the answer to one exchange over a connection."""

from __future__ import annotations

from typing import Protocol

from propylon.loop.signal import Signal
from propylon.upstream.ports import Flow, Sink
from propylon.wire.message import Response

__all__ = ["Reply", "ReplySource"]


class ReplySource(Flow, Protocol):
    """The connection that a reply's body comes from."""

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`."""

    def abort(self) -> None:
        """Close."""


class Reply:
    """The answer to one exchange; lets go of the connection when the answer has ended."""

    __slots__ = ("_connection", "body", "head")

    def __init__(self, head: Response, body: bytes | None, connection: ReplySource | None) -> None:
        """Take the head and either the whole body or the connection it is still coming from."""
        self.head = head
        self.body = body
        self._connection = connection

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`."""
        if self._connection is None:
            msg = "this answer has no body to come"
            raise RuntimeError(msg)
        return self._connection.pipe(sink)

    def pause(self) -> None:
        """Stop reading from the upstream: the client is slow."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Go on reading."""
        if self._connection is not None:
            self._connection.resume()

    def abort(self) -> None:
        """Close the connection if the answer has not ended."""
        if self._connection is not None:
            self._connection.abort()

    def let_go(self) -> None:
        """Forget the connection: it belongs to somebody else from now on."""
        self._connection = None
