"""One server as one worker sees it: whether it is used now, the connection to it, and the way back to it.

    away ──── connected, logged in, probed, debts carried over ───► in use
     ▲                                                                │
     └── silent for too long · connection lost · it cannot write ─────┘

Rules.

1. The first call that is not answered in time makes the node away, for all calls. What waits is decided elsewhere at once
   (`fall_back`), and so is what comes later: only one request in each absence waits for nothing.
2. The way back is found in the background, by one task that never ends. No request tries.
3. A node that is idle is asked each second, so that an absence is found before a request finds it.
4. Each change is one line of the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from propylon.loop.tasks import spawn_forever
from propylon.stores.redis.connection import Connection, ErrorReply, Lost, Reply, pack
from propylon.stores.redis.login import open_logged_in
from propylon.stores.redis.patience import Patience
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Address, Target
from propylon.stores.redis.topology import Finder

__all__ = ["Ask", "Call", "Node", "Redirect", "User"]

log = logging.getLogger(__name__)

# Seconds between two attempts to come back, and between two questions to an idle node. With the time that an attempt
# takes, the way back is found within two seconds. Half of it is by chance: a thousand gateways must not come at once.
_PAUSE = 0.5
_IDLE = 1.0
_PING = pack("PING")

Ask = Callable[[bytes], Awaitable[Reply]]
"""Call the node off the hot path. Raises Lost and ErrorReply."""


class Call(Protocol):
    """A packed command that waits for its answer."""

    data: bytes

    def answer(self, reply: Reply) -> None:
        """Take the answer; it is no error."""

    def fall_back(self) -> None:
        """Go on without an answer."""

    def refused(self, error: ErrorReply) -> bool:  # noqa: ARG002 — the port's contract
        """Take an error that says nothing about the node; False: then the node is away."""
        return False


class User(Protocol):
    """What calls the node, and has to do something before the node comes into use."""

    script: Script
    away: str
    """What a log says of an absence: how this gateway goes on."""
    back: str
    """What a log says of its end."""

    async def probe(self, node: Node, ask: Ask) -> None:
        """Call the node as a request would. Raises Lost and ErrorReply."""

    async def come_back(self, node: Node, ask: Ask) -> None:
        """Carry over what happened while the node was away. Raises Lost and ErrorReply."""


Redirect = Callable[[Call, ErrorReply], bool]
"""See to a call that was answered with an error of a Cluster; False: it is none."""


class _Question(Call):
    """A call whose answer a task awaits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(self, reply: Reply) -> None:
        if not self.answered.done():
            self.answered.set_result(reply)

    def fall_back(self) -> None:
        if not self.answered.done():
            self.answered.set_exception(Lost())


class Node:
    """One server. `available`: it is in use, and calls may be submitted."""

    def __init__(
        self,
        target: Target,
        finder: Finder,
        user: User,
        *,
        redirect: Redirect,
        loop: asyncio.AbstractEventLoop,
        chance: Callable[[], float],
    ) -> None:
        """Connect to nothing before `start`; `chance` returns a random number below 1."""
        self.available = False
        self.tried = asyncio.Event()  # to come into use, for the first time
        self.address: Address | None = None
        self._target = target
        self._finder = finder
        self._user = user
        self._redirect = redirect
        self._loop = loop
        self._chance = chance
        self._connection: Connection | None = None
        self._sent: dict[Call, float] = {}
        self._patience = Patience(target.timeout)
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._reason = ""
        self._away_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        """The time of the clock that goes on only while something waits."""
        return self._patience.now

    @property
    def waiting(self) -> int:
        """How many calls have no answer yet."""
        return len(self._sent)

    def start(self) -> None:
        """Find the way to the server in the background, now and after each absence."""
        self._task = spawn_forever(self._keep())

    def close(self) -> None:
        """Stop. What waits falls back."""
        if self._task is not None:
            self._task.cancel()
        self.available = False  # first: to stop is no absence, and nothing to be warned of
        self._trip("the gateway stops")
        self._finder.close()

    # The hot path

    def submit(self, *calls: Call, first: bytes = b"", since: float | None = None) -> None:
        """Send calls together, behind a command (`first`) that prepares them; the node must be in use.

        They wait since `since` (of `now`) already.
        """
        connection = self._connection
        if connection is None:
            for call in calls:
                call.fall_back()
            return
        answered: list[Callable[[Reply], None]] = [self._prepared] if first else []
        for call in calls:
            self._sent[call] = self._patience.now if since is None else since
            answered.append(self._answered_by(call))
        connection.send(first + b"".join([call.data for call in calls]), answered)
        if self._timer is None:
            self._patience.begin(self._loop.time())
            self._watch()

    def _answered_by(self, call: Call) -> Callable[[Reply], None]:
        def answered(reply: Reply) -> None:
            since = self._sent.pop(call, None)
            if since is None:
                return  # it has fallen back
            if isinstance(reply, ErrorReply):
                self._handle(call, reply, since)
            else:
                call.answer(reply)

        return answered

    def _handle(self, call: Call, error: ErrorReply, since: float) -> None:
        if error.code == "NOSCRIPT":  # it was restarted, or its scripts were flushed
            self.submit(call, first=self._user.script.load(), since=since)
        elif isinstance(call, _Question):
            if not call.answered.done():
                call.answered.set_exception(error)
        elif not (call.refused(error) or self._redirect(call, error)):
            self._trip(f"it answers with an error: {error.shown}")
            call.fall_back()

    def _prepared(self, reply: Reply) -> None:
        if isinstance(reply, ErrorReply):
            self._trip(f"it refuses the script: {reply.shown}")

    # Silence

    def _watch(self) -> None:
        self._timer = self._loop.call_later(self._patience.step, self.look)

    def look(self) -> None:
        """Look whether a call has waited for too long."""
        self._timer = None
        self._patience.look(self._loop.time())
        if not self._sent:
            return
        if self._patience.is_over(min(self._sent.values())):
            self._trip("it does not answer in time")
        else:
            self._watch()

    def _trip(self, reason: str) -> None:
        """Go on without the server."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        was_available, self.available = self.available, False
        self._reason = reason
        self._over.set()
        if was_available:
            self._say_away(reason)
        sent, self._sent = self._sent, {}
        connection.on_lost.clear()
        connection.abort(reason)
        for call in sent:
            call.fall_back()

    # The way back

    async def _keep(self) -> None:
        while True:
            try:
                await self._use()
            except (Lost, ErrorReply) as error:
                self._trip(str(error))
                self._say_away(error.shown if isinstance(error, ErrorReply) else str(error))
                self.tried.set()
                await asyncio.sleep(_PAUSE * (0.5 + self._chance() / 2))

    async def _use(self) -> None:
        """Come into use, and stay so until it is over. Raises Lost and ErrorReply if that cannot be."""
        target = self._target
        self.address = await self._finder.find()
        connection = await open_logged_in(self.address, target.login, target.tls, target.patience)
        self._over.clear()
        self._connection = connection
        connection.on_lost.append(self._trip)
        await self._user.probe(self, self._ask)
        await self._user.come_back(self, self._ask)
        if self._over.is_set():
            raise Lost(self._reason)
        self.available = True
        self._say_back()
        self.tried.set()
        while not self._over.is_set():
            await self._look_after()

    async def _ask(self, data: bytes) -> Reply:
        question = _Question(data)
        self.submit(question)
        try:
            return await question.answered
        except Lost:
            raise Lost(self._reason) from None

    async def _look_after(self) -> None:
        """Wait for the end, and meanwhile ask now and then whether it is still the right server, and alive."""
        try:
            async with asyncio.timeout(_IDLE):
                await self._over.wait()
        except TimeoutError:
            try:
                await self._ask(_PING)
                if await self._finder.find() != self.address:
                    self._trip("another server is the master now")
            except (Lost, ErrorReply) as error:
                # If it is the node that failed, it is away by now. Sentinels that fail tell nothing of it.
                log.debug("redis: %s", error)

    # What the log says

    @property
    def _name(self) -> str:
        return f"{self.address or self._target.addresses[0]}"

    def _say_away(self, reason: str) -> None:
        if self._away_since is None:
            self._away_since = self._loop.time()
            log.warning(
                "redis: %s is away: %s; %s",
                self._name,
                reason,
                self._user.away,
            )

    def _say_back(self) -> None:
        if self._away_since is None:
            log.info("redis: %s is in use", self._name)
        else:
            away = self._loop.time() - self._away_since
            self._away_since = None
            log.warning("redis: %s is back after %.1f s: %s", self._name, away, self._user.back)
