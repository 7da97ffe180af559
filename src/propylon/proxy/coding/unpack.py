"""Unpack a request's body while it comes, between the client and whoever takes the plain body.

    client ──► body (as sent) ──► Unpacker ──► body (plain) ──► upstream
           ◄── pause ────────────────┘    ◄── pause ──┘

Rules.

1. Nothing is unpacked before the plain body is asked for, and no faster than it is taken.
2. A unit of work takes or makes a few KiB, whatever the ratio. After some of them the event loop has a turn.
3. Every byte that any of the codings makes counts: a bomb may be wrapped in a coding that makes nothing of it.
4. The body has to end where its codings end. A cut body must not look whole (RFC 9110, 8.4).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from propylon.errors import GatewayError, InvalidRequest, PayloadTooLarge
from propylon.proxy.coding.decoders import CorruptBody, Decoder
from propylon.proxy.coding.fields import without_digests
from propylon.proxy.exchange import IncomingBody

__all__ = ["Bounds", "PlainBody", "Unpacker"]

_LAG = 64 * 1024  # bytes: as everywhere in the gateway
_TAKEN, _MADE = 16 * 1024, 32 * 1024  # bytes of a unit
_UNITS = 4  # in one turn of the loop: half a millisecond
# Bytes. A ratio says nothing of a short body: fifty bytes of JSON may be a kilobyte of the same field.
_RATED = 64 * 1024


class PlainBody(IncomingBody, Protocol):
    """The plain body: it is fed like one that comes from a client."""

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises PayloadTooLarge."""

    def end(self, trailers: bytes = b"") -> None:
        """Take the end."""


class Bounds:
    """How much a body may become: so many bytes, and so many times what came."""

    __slots__ = ("_made", "_most", "_ratio", "came")

    def __init__(self, most: int, ratio: int) -> None:
        """Begin with nothing."""
        self._most = most
        self._ratio = ratio
        self._made = 0
        self.came = 0

    def made(self, size: int) -> None:
        """Count what a coding has made. Raises PayloadTooLarge."""
        self._made += size
        if self._made > self._most:
            msg = f"The body may have {self._most} bytes at the most when it is unpacked"
            raise PayloadTooLarge(msg)
        if self._made > _RATED and self._made > self._ratio * self.came:
            msg = f"The body may become {self._ratio} times as long at the most when it is unpacked"
            raise PayloadTooLarge(msg)


class Unpacker:
    """The sink of the body that comes, and the flow that the plain one comes from."""

    def __init__(
        self,
        body: IncomingBody,
        layers: Sequence[Decoder],
        bounds: Bounds,
        fail: Callable[[GatewayError], None],
    ) -> None:
        """Unpack `body` by `layers`, the outermost coding first. `fail` ends the exchange with an error."""
        self._body = body
        self._layers = layers
        self._bounds = bounds
        self._fail = fail
        self._plain: PlainBody
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        # What a layer has made and the next one has not taken: one place for each layer but the first.
        self._between = [b""] * (len(layers) + 1)
        self._begun = False
        self._open = False  # the plain body is taken
        self._throttles = False
        self._stepping = False
        self._ended = False
        self._done = False
        self._trailers = b""

    def into(self, plain: PlainBody) -> None:
        """Name the plain body."""
        self._plain = plain

    # As the flow of the plain body

    def resume(self) -> None:
        """Unpack: somebody takes it."""
        self._open = True
        if not self._begun:
            self._begun = True
            self._body.pipe(self)
        elif not self._done:
            self._step_soon()

    def pause(self) -> None:
        """Stop: nobody takes more."""
        self._open = False
        self._throttle()

    # As the sink of the body that comes

    def body_data(self, data: bytes) -> None:
        """Take the next piece."""
        if self._done:
            return
        self._bounds.came += len(data)
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _LAG:
            self._throttle()
        self._step_soon()

    def body_end(self, trailers: bytes = b"") -> None:
        """Take the end."""
        self._ended = True
        self._trailers = without_digests(trailers)
        if not self._done:
            self._step_soon()

    def _throttle(self) -> None:
        if not self._throttles and not self._ended:
            self._throttles = True
            self._body.pause()

    # Units of work

    def _step_soon(self) -> None:
        if not self._stepping:
            self._stepping = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._stepping = False
        try:
            self._work()
        except CorruptBody as error:
            msg = "The body is not what Content-Encoding says"
            self._stop(InvalidRequest(msg, reason=str(error)))
        except GatewayError as error:
            self._stop(error)

    def _work(self) -> None:
        """Do some units, and have the rest done in the next turn. Raises CorruptBody, GatewayError."""
        for _ in range(_UNITS):
            if not self._open or self._done:
                return
            if not self._unit():
                self._rest()
                return
        self._step_soon()

    def _unit(self) -> bool:
        """Let one layer take or make a piece, the innermost that can; tell whether there was anything to do."""
        for at in reversed(range(len(self._layers))):
            data = self._between[at][:_TAKEN]
            if data or self._layers[at].pending:
                self._between[at] = self._between[at][_TAKEN:]
                self._read(at, data)
                return True
        if not self._pieces:
            return False
        self._read(0, self._taken())
        return True

    def _read(self, at: int, data: bytes) -> None:
        out = self._layers[at].read(data, _MADE)
        if not out:
            return
        self._bounds.made(len(out))
        if at + 1 == len(self._layers):
            self._plain.feed(out)
        else:
            self._between[at + 1] += out

    def _taken(self) -> bytes:
        """Take a little off the pieces."""
        piece = self._pieces.popleft()
        if len(piece) > _TAKEN:
            self._pieces.appendleft(piece[_TAKEN:])
            piece = piece[:_TAKEN]
        self._waiting -= len(piece)
        return piece

    def _rest(self) -> None:
        """Do what is to be done when all that has come is unpacked. Raises InvalidRequest."""
        if not self._ended:
            if self._throttles:
                self._throttles = False
                self._body.resume()
            return
        self._done = True
        # Nothing at all is an empty body, whatever it is called.
        if self._bounds.came and not all(layer.whole for layer in self._layers):
            msg = "The body ends before its Content-Encoding does"
            raise InvalidRequest(msg)
        self._plain.end(self._trailers)

    def _stop(self, error: GatewayError) -> None:
        self._done = True
        self._pieces.clear()
        self._waiting = 0
        self._body.unpipe()
        self._fail(error)
