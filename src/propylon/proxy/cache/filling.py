"""Store an answer's body while it streams to clients: to the one that asked first, and to those that wait for the same.

    upstream ──► Filling ──► pieces ──► Reader ──► client
                                   └──► Reader ──► another client

Rules.

1. The upstream's answer belongs to the filling, not to the client that asked first: that one may leave, and the others
   still get the whole answer. When the last one leaves, the upstream is cancelled.
2. While the answer is being kept, a slow client does not slow the upstream: memory is bounded by the largest object that
   may be stored, and by what all fillings may hold together. An answer that outgrows either is kept no longer: from then on
   the slowest reader sets the pace, as in a relay without a cache.
3. A body that breaks off is not stored, and its readers learn of it: a broken answer must not look whole.
"""

from __future__ import annotations

from collections.abc import Callable

from propylon.errors import GatewayError
from propylon.loop.signal import Signal
from propylon.upstream.ports import Answer, Sink
from propylon.wire.message import Response

__all__ = ["JOINED", "Budget", "Filling", "Reader", "Replay"]

_LAG = 64 * 1024  # bytes: as everywhere in the gateway
JOINED = 256 * 1024  # a body up to this is kept in one piece


class Budget:
    """What all bodies of a worker that are under way may take together, in bytes.

    Those that arrive, until the last of their clients has read them; and the stored ones that clients are reading, because a
    slow client keeps a body in memory that the store has let go of.
    """

    __slots__ = ("_read", "held", "most")

    def __init__(self, most: int) -> None:
        """Hold nothing yet."""
        self.most = most
        self.held = 0
        # Of the bodies that are being read: how many clients read them. Clients of one body share its bytes.
        self._read: dict[int, tuple[int, int]] = {}

    def has_room(self, pieces: tuple[bytes, ...]) -> bool:
        """Tell whether one more client may read a stored body."""
        return id(pieces) in self._read or self.held + sum(map(len, pieces)) <= self.most

    def begin(self, pieces: tuple[bytes, ...]) -> None:
        """Count a body that a client begins to read."""
        readers, size = self._read.get(id(pieces), (0, 0))
        if not readers:
            size = sum(map(len, pieces))
            self.held += size
        self._read[id(pieces)] = readers + 1, size

    def end(self, pieces: tuple[bytes, ...]) -> None:
        """Count a client less."""
        readers, size = self._read.pop(id(pieces))
        if readers > 1:
            self._read[id(pieces)] = readers - 1, size
        else:
            self.held -= size


class Filling:
    """The body of one answer as it arrives: the `Sink` of the upstream's answer."""

    def __init__(
        self,
        answer: Answer,
        most: int,
        budget: Budget,
        done: Callable[[bytes | tuple[bytes, ...] | None, int], None],
    ) -> None:
        """Keep at most so many bytes; `done` gets the whole body and its length, or None when it cannot be kept."""
        self._answer = answer
        self._most = most
        self._budget = budget
        self._done: Callable[[bytes | tuple[bytes, ...] | None, int], None] | None = done
        self._pieces: list[bytes] = []
        self._dropped = 0  # pieces that every reader has passed
        self._held = 0
        self._size = 0
        self._paused = False
        self._readers: list[Reader] = []
        self._held_open = False
        self.ended = False
        self._trailers = b""
        self.error: BaseException | None = None
        self.was_kept = False

    @property
    def length(self) -> int:
        """Bytes that the upstream announced; negative: it did not."""
        return self._answer.head.length

    @property
    def kept(self) -> bool:
        """Whether all of it is still held."""
        return self._done is not None

    @property
    def joinable(self) -> bool:
        """Whether another reader can begin at the first byte."""
        return not self.ended and not self._dropped

    @property
    def whole(self) -> bool:
        """Whether all of it has come, and was kept."""
        return self.ended and self.was_kept

    def hold(self) -> None:
        """Go on without readers until `release`: some are on their way."""
        self._held_open = True

    def release(self) -> None:
        """Go on only while there is a reader."""
        self._held_open = False
        if not self._readers and not self.ended:
            self._cancel()

    def start(self) -> None:
        """Let the body come."""
        ended = self._answer.pipe(self)
        if ended.done:
            self._upstream_ended(ended)
        else:
            ended.attach(self._upstream_ended)

    def reader(self, head: Response) -> Reader:
        """Return an answer with this body and its own head, from the first byte on."""
        reader = Reader(self, head)
        self._readers.append(reader)
        return reader

    # Sink

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if not data:
            return
        self._size += len(data)
        self._held += len(data)
        self._budget.held += len(data)
        self._pieces.append(data)
        if self._size > self._most or self._budget.held > self._budget.most:
            self._give_up()
            if (
                not self._readers and not self._held_open
            ):  # nobody wants it but the store, which cannot have it
                self._cancel()
                return
        for reader in tuple(self._readers):
            reader.push()
        self.trim()

    def finish(self, trailers: bytes = b"") -> None:
        """Take the end: what was kept is whole now."""
        self.ended = True
        self._trailers = trailers
        done, self._done = self._done, None
        if done is not None:
            self.was_kept = True
            pieces = self._pieces
            body = b"".join(pieces) if self._size <= JOINED else tuple(pieces)
            done(body, self._size)
        self._end()

    def interim(self, head: Response) -> None:
        """Drop it: the final head has come."""

    def _upstream_ended(self, signal: Signal[None]) -> None:
        try:
            signal.result()
        except GatewayError as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with an error: nothing is stored, and all readers get it."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._give_up()
            self._end()

    def _end(self) -> None:
        for reader in tuple(self._readers):
            reader.push()
        self._release()

    def _release(self) -> None:
        """Give back what the body takes of the budget, once nobody reads it any more."""
        if self.ended and not self._readers:
            self._budget.held -= self._held
            self._held = 0

    def _give_up(self) -> None:
        """Keep the answer no longer."""
        done, self._done = self._done, None
        if done is not None:
            done(None, self._size)

    # Readers

    def piece(self, at: int) -> bytes | None:
        """Return a piece by its number; None: it has not come yet."""
        at -= self._dropped
        return self._pieces[at] if at < len(self._pieces) else None

    @property
    def trailers(self) -> bytes:
        """The trailers behind the body."""
        return self._trailers

    def trim(self) -> None:
        """Drop what every reader has passed, if nothing is kept; pause the upstream while the slowest one lags."""
        if self.kept or self.ended:
            return
        passed = min((reader.at for reader in self._readers), default=self._dropped)
        gone = passed - self._dropped
        if gone > 0:
            freed = sum(map(len, self._pieces[:gone]))
            del self._pieces[:gone]
            self._dropped = passed
            self._held -= freed
            self._budget.held -= freed
        lags = self._held > _LAG
        if lags != self._paused:
            self._paused = lags
            (self._answer.pause if lags else self._answer.resume)()

    def leave(self, reader: Reader) -> None:
        """Let a reader go; without any, the answer is cancelled."""
        if reader in self._readers:
            self._readers.remove(reader)
        if self.ended:
            self._release()
        elif self._readers:
            self.trim()
        elif not self._held_open:
            self._cancel()

    def _cancel(self) -> None:
        self.ended = True
        self._give_up()
        self._end()
        self._answer.abort()


class Reader:
    """An answer whose body is still arriving, for one client."""

    __slots__ = ("_filling", "_paused", "_signal", "_sink", "at", "body", "head")

    def __init__(self, filling: Filling, head: Response) -> None:
        """Begin at the first byte."""
        self.head = head
        self.body: bytes | None = None
        self.at = 0
        self._filling = filling
        self._sink: Sink | None = None
        self._paused = False
        self._signal: Signal[None] = Signal()

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push what has come, and then what comes; see `Answer.pipe`."""
        self._sink = sink
        self.push()
        self._filling.trim()
        return self._signal

    def push(self) -> None:
        """Push what can be pushed now."""
        filling = self._filling
        while self._sink is not None and not self._paused:
            piece = filling.piece(self.at)
            if piece is None:
                break
            self.at += 1
            self._sink.write(piece)
        if self._sink is None or self._paused or not filling.ended:
            return
        if filling.piece(self.at) is not None:
            return  # the sink paused in `write`
        sink, self._sink = self._sink, None
        filling.leave(self)
        if filling.error is not None:
            self._signal.fail(filling.error)
        else:
            sink.finish(filling.trailers)
            self._signal.set(None)

    def pause(self) -> None:
        """Stop pushing."""
        self._paused = True

    def resume(self) -> None:
        """Push again."""
        self._paused = False
        self.push()
        self._filling.trim()

    def abort(self) -> None:
        """Leave."""
        self._sink = None
        self._filling.leave(self)


class Replay:
    """A stored answer that is too long for one write: its pieces are pushed as fast as the client reads."""

    __slots__ = ("_at", "_budget", "_paused", "_pieces", "_signal", "_sink", "body", "head")

    def __init__(self, head: Response, pieces: tuple[bytes, ...], budget: Budget) -> None:
        """Begin at the first piece; the body counts in `budget` while it is read."""
        self.head = head
        self.body: bytes | None = None
        self._pieces = pieces
        self._budget = budget
        self._at = 0
        self._paused = False
        self._sink: Sink | None = None
        self._signal: Signal[None] = Signal()

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the pieces; see `Answer.pipe`."""
        self._sink = sink
        self._budget.begin(self._pieces)
        self._push()
        return self._signal

    def _push(self) -> None:
        while self._sink is not None and not self._paused and self._at < len(self._pieces):
            self._at += 1
            self._sink.write(self._pieces[self._at - 1])
        if self._sink is not None and not self._paused:
            sink = self._sink
            self._end()
            sink.finish()
            self._signal.set(None)

    def _end(self) -> None:
        if self._sink is not None:
            self._sink = None
            self._budget.end(self._pieces)

    def pause(self) -> None:
        """Stop pushing."""
        self._paused = True

    def resume(self) -> None:
        """Push again."""
        self._paused = False
        self._push()

    def abort(self) -> None:
        """Stop."""
        self._end()
