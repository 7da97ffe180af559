"""Represent the answer to one exchange over a connection; it outlives the exchange, the connection may serve the next."""

from __future__ import annotations

from typing import Protocol

from propylon.loop.signal import Signal
from propylon.upstream.ports import Flow, Sink
from propylon.wire.message import Response

__all__ = ["Reply", "ReplySource"]


class ReplySource(Flow, Protocol):
    """The connection that a reply's body comes from."""

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`."""

    def abort(self) -> None:
        """Close the connection, without waiting for the rest of the body."""


class Reply:
    """The answer to one exchange; the connection detaches it when the answer has ended."""

    # After that, `abort`, `pause` and `resume` do nothing. The client's edge may call them late,
    # when its own client leaves. They must not reach the connection, which may carry the exchange
    # of another client by then.

    __slots__ = ("_connection", "body", "head")

    def __init__(self, head: Response, body: bytes | None, connection: ReplySource | None) -> None:
        """Take the head, and either the whole body or the connection from which it is still to come."""
        self.head = head
        self.body = body
        self._connection = connection

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`. Raises RuntimeError if `body` holds all of it already."""
        # A bug of the caller. Returning a signal that is never set would hang the exchange instead.
        if self._connection is None:
            msg = "this answer has no body to come"
            raise RuntimeError(msg)
        return self._connection.pipe(sink)

    def pause(self) -> None:
        """Stop reading from the upstream, because the client is slow (back-pressure)."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read from the upstream again."""
        if self._connection is not None:
            self._connection.resume()

    def abort(self) -> None:
        """Close the connection if the answer has not ended."""
        if self._connection is not None:
            self._connection.abort()

    def detach(self) -> None:
        """Drop the connection, which carries another exchange, or none, from now on."""
        self._connection = None
