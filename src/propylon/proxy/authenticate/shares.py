"""Share out the questions to the issuer among clients, so that none of them can use up all.

An opaque token costs a question, also one that a client made up. Hundreds of clients with made-up tokens would keep every
connection to the issuer busy, and honest clients would wait until their deadline.

Rules.

1. A client has at most half of the slots, and so many questions waiting. One question more is refused at once.
2. Clients take turns: the next question is that of the client whose turn it is, not the oldest one.
3. A client whose token was refused lately is a suspect. All suspects together have half of the slots, and they wait behind
   the others.
4. A token that was active at its last answer is asked about first, whatever the client: a user behind the same address
   as an attacker keeps its session.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import RateLimited, ServiceUnavailable
from propylon.names.addresses import subnet

__all__ = ["SLOTS", "Shares", "Turn"]

SLOTS = 64  # questions under way at a time, and connections to the issuer
_WAITING = 128  # questions of one client that wait, at most
_ALL_WAITING = 2048  # questions that wait, at most: each holds a request in memory
# Seconds that a question waits for its turn at most: as long as the answer itself may take.
_PATIENCE = 5.0
# Seconds for which a client is a suspect. A user whose token has just expired is one, too, and notices nothing: suspects
# have half of the slots.
_SUSPECT_FOR = 10.0
_MAX_SUSPECTS = 10_000
_RETRY_AFTER = 1


class Turn:
    """A question that waits for a slot (`queued`), or has one when `granted` is done."""

    __slots__ = ("_shares", "client", "granted", "proven", "queued", "suspect")

    def __init__(self, shares: Shares, client: str, *, proven: bool, suspect: bool) -> None:
        """Be a question of this client. Needs a running loop."""
        self._shares = shares
        self.client = client
        self.proven = proven
        self.suspect = suspect
        self.queued = False
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def leave(self) -> None:
        """Give the slot back."""
        self._shares.release(self)


@dataclass(slots=True)
class _Queue:
    """Questions that wait, by client; the client at the front is the next."""

    clients: OrderedDict[str, deque[Turn]]

    def put(self, turn: Turn) -> None:
        self.clients.setdefault(turn.client, deque()).append(turn)

    def next(self, fits: Callable[[str], bool]) -> Turn | None:
        """Take the next question of the first client that may have one more; the client goes to the end."""
        for client in self.clients:
            if fits(client):
                return self._take(client)
        return None

    def _take(self, client: str) -> Turn:
        waiting = self.clients[client]
        turn = waiting.popleft()
        self.clients.move_to_end(client)
        if not waiting:
            del self.clients[client]
        return turn

    def remove(self, turn: Turn) -> None:
        waiting = self.clients.get(turn.client)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self.clients[turn.client]


class Shares:
    """The slots for questions, and who waits for one."""

    def __init__(
        self,
        slots: int = SLOTS,
        *,
        waiting: int = _WAITING,
        patience: float = _PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Have `slots` questions under way at a time; `clock` is monotonic."""
        self._free = slots
        self._free_for_suspects = self._per_client = max(1, slots // 2)
        self._waiting = waiting
        self._patience = patience
        self._clock = clock
        self._under_way: dict[str, int] = {}
        self._waits: dict[str, int] = {}
        self._all_waiting = 0
        # In the order in which they are served: proven tokens, clients without a blemish, suspects.
        self._queues = [_Queue(OrderedDict()) for _ in range(3)]
        self._suspects: OrderedDict[str, float] = OrderedDict()  # until when

    async def enter(self, client: str, *, proven: bool) -> Turn:
        """Wait for a slot. The caller gives it back with `leave`.

        `client` is an address; `proven`: the token was active at its last answer. Raises RateLimited for a client
        that has its share waiting already, and ServiceUnavailable if no slot came in time.
        """
        client = subnet(client)
        if self._waits.get(client, 0) >= self._waiting and not proven:
            raise _too_many()
        if self._all_waiting >= _ALL_WAITING:
            raise _busy()
        turn = Turn(self, client, proven=proven, suspect=not proven and self._is_suspect(client))
        # Also a question that can start at once goes through its queue: slots are given in one place.
        self._enqueue(turn)
        self._grant()
        if not turn.granted.done():
            await self._wait(turn)
        return turn

    def note_refused(self, client: str) -> None:
        """Take note that a token of this client was refused."""
        client = subnet(client)
        self._suspects[client] = self._clock() + _SUSPECT_FOR
        self._suspects.move_to_end(client)
        if len(self._suspects) > _MAX_SUSPECTS:
            self._suspects.popitem(last=False)

    def release(self, turn: Turn) -> None:
        """Take a slot back, and give it to the next question."""
        self._free += 1
        self._free_for_suspects += turn.suspect
        _decrement(self._under_way, turn.client)
        self._grant()

    async def _wait(self, turn: Turn) -> None:
        entered = False
        try:
            async with asyncio.timeout(self._patience):
                await turn.granted
                entered = True
        except TimeoutError:
            raise _busy() from None
        finally:
            if not entered:
                self._give_up(turn)

    def _give_up(self, turn: Turn) -> None:
        if turn.queued:
            self._queues[_rank(turn)].remove(turn)
            self._dequeued(turn)
        elif not turn.granted.cancelled():
            self.release(
                turn
            )  # the slot came in the very moment of the timeout: it goes on to the next

    def _is_suspect(self, client: str) -> bool:
        until = self._suspects.get(client)
        if until is None:
            return False
        if self._clock() >= until:
            del self._suspects[client]
            return False
        return True

    def _enqueue(self, turn: Turn) -> None:
        turn.queued = True
        self._queues[_rank(turn)].put(turn)
        self._all_waiting += 1
        self._waits[turn.client] = self._waits.get(turn.client, 0) + 1

    def _dequeued(self, turn: Turn) -> None:
        turn.queued = False
        self._all_waiting -= 1
        _decrement(self._waits, turn.client)

    def _grant(self) -> None:
        while self._free > 0:
            turn = self._next()
            if turn is None:
                return
            self._dequeued(turn)
            if turn.granted.done():
                continue  # its request was cancelled, and has not noticed yet
            self._free -= 1
            self._free_for_suspects -= turn.suspect
            self._under_way[turn.client] = self._under_way.get(turn.client, 0) + 1
            turn.granted.set_result(None)

    def _next(self) -> Turn | None:
        proven, honest, suspects = self._queues
        turn = proven.next(lambda _: True) or honest.next(self._has_room)
        if turn is None and self._free_for_suspects > 0:
            turn = suspects.next(self._has_room)
        return turn

    def _has_room(self, client: str) -> bool:
        return self._under_way.get(client, 0) < self._per_client


def _decrement(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _rank(turn: Turn) -> int:
    if turn.proven:
        return 0
    return 2 if turn.suspect else 1


def _busy() -> ServiceUnavailable:
    msg = "Tokens cannot be verified now"
    return ServiceUnavailable(msg, reason="introspection: no turn came in time, too many questions")


def _too_many() -> RateLimited:
    return RateLimited(
        "Too many unknown tokens at once",
        details={"retry_after": _RETRY_AFTER},
        headers=((b"Retry-After", b"%d" % _RETRY_AFTER),),
    )
