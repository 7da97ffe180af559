"""The connections to one instance: reuse, limits, queue, and that none is ever lost."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from propylon.edge.turn import Turn
from propylon.errors import (
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    ServiceUnavailable,
    UpstreamError,
)
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.upstream.connection import Connection
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ports import Timeouts
from tests.support.examples import examples
from tests.upstream.peer import OK, Collected, Line, World, polite, run, until


async def on_request(line: Line) -> None:
    """Answer when the test says so: the line waits."""
    await line.head()


def test_a_connection_is_used_again() -> None:
    """Sequential requests need one connection."""

    async def main() -> None:
        async with World() as world:
            for _ in range(20):
                assert await world.ask() == (200, b"hello")
            assert (len(world.lines), world.state) == (1, (1, 1, 0))

    run(main())


def test_last_in_first_out() -> None:
    """The connection used last is taken first: the others can grow old."""

    async def main() -> None:
        async with World() as world:
            await asyncio.gather(*(world.ask() for _ in range(3)))
            assert world.state == (3, 3, 0)
            last = world.pool._idle[-1]
            uses = last.uses
            await world.ask()
            assert world.pool._idle[-1] is last
            assert last.uses == uses + 1

    run(main())


def test_limit_and_queue() -> None:
    """No more connections than the limit, as many waiting, the rest refused at once."""

    async def main() -> None:
        async with World(on_request, limit=2) as world:
            asking = [world.asking() for _ in range(4)]
            await until(lambda: len(world.lines) == 2)
            assert world.state == (2, 0, 2)
            with pytest.raises(ServiceUnavailable):
                await world.ask()
            for line in world.lines:
                line.send(OK)
            assert await asking[0] == await asking[1] == (200, b"hello")
            await until(lambda: world.state == (2, 0, 0))
            for line in world.lines:
                line.send(OK)
            assert await asking[2] == await asking[3] == (200, b"hello")
            assert world.state == (2, 2, 0)

    run(main())


def test_the_queue_has_its_order() -> None:
    """First come, first served."""

    async def main() -> None:
        async with World(polite, limit=1) as world:
            order: list[int] = []

            async def ask(number: int) -> None:
                await world.ask()
                order.append(number)

            first = asyncio.create_task(ask(0))
            await asyncio.sleep(0)
            second = asyncio.create_task(ask(1))
            await asyncio.gather(first, second)
            assert order == [0, 1]

    run(main())


def test_waiting_has_an_end() -> None:
    """A request that gets no connection within `connect` fails, and leaves the queue."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first = world.asking()
            await until(lambda: world.state == (1, 0, 0) and len(world.lines) == 1)
            with pytest.raises(ServiceUnavailable):
                await world.ask(timeouts=Timeouts(connect=0.05))
            assert world.state == (1, 0, 0)
            world.lines[0].send(OK)
            assert await first == (200, b"hello")

    run(main())


def test_a_place_is_given_up_with_its_task() -> None:
    """A cancelled task does not get a connection later."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first = world.asking()
            await until(lambda: len(world.lines) == 1)
            second = world.asking()
            await until(lambda: world.state == (1, 0, 1))
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert world.state == (1, 0, 0)
            world.lines[0].send(OK)
            await first
            assert world.state == (1, 1, 0)

    run(main())


def test_a_connection_that_dies_makes_room() -> None:
    """The request that waits gets a new connection."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first = world.asking()
            await until(lambda: len(world.lines) == 1)
            second = world.asking()
            await until(lambda: world.state == (1, 0, 1))
            world.lines[0].reset()
            with pytest.raises(UpstreamError):
                await first
            await until(lambda: len(world.lines) == 2)
            world.lines[1].send(OK)
            assert await second == (200, b"hello")

    run(main())


@pytest.mark.parametrize("ending", ["cancelled", "refused"])
def test_a_connection_that_never_came_about_makes_room(ending: str) -> None:
    """When opening a connection fails, the next request in the queue gets its turn to open one."""

    async def main() -> None:
        async with World(polite, limit=1) as world:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            original = world.pool._open
            calls = 0

            async def opens(timeout: float, header: bytes) -> Connection:
                nonlocal calls
                calls += 1
                if calls == 1:
                    await gate
                    raise ConnectFailed("refused")
                return await original(timeout, header)

            world.pool._open = opens  # type: ignore[method-assign]
            first = world.asking()
            await asyncio.sleep(0.01)
            second = world.asking()
            await until(lambda: world.state == (1, 0, 1))
            if ending == "cancelled":
                first.cancel()
            else:
                gate.set_result(None)
            done, _ = await asyncio.wait([first])
            assert done == {first}
            assert first.cancelled() or isinstance(first.exception(), ConnectFailed)
            assert await asyncio.wait_for(second, 20.0) == (200, b"hello")

    run(main())


class Exchange(Turn):
    """An exchange, as an edge steps it."""

    def ended(self) -> None:
        """Nothing comes after it."""

    def crashed(self) -> None:
        """Nothing comes after it."""


def test_a_turn_that_gives_up_leaves_no_connection_behind() -> None:
    """A connection that was being opened for it goes to another request, or is idle."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first = world.asking()
            await until(lambda: len(world.lines) == 1)
            turn = Exchange()

            async def exchange() -> None:
                try:
                    await world.ask()
                except ClientGone:
                    return

            turn.run(exchange())
            assert world.state == (1, 0, 1)
            world.lines[0].reset()
            with pytest.raises(UpstreamError):
                await first
            await until(lambda: not world.pool._queue)  # its place was taken: connecting
            turn.throw(ClientGone("gone"))
            assert turn.over
            await until(lambda: world.state in ((0, 0, 0), (1, 1, 0)))

    run(main())


def test_a_task_cancelled_as_it_is_served_leaves_no_connection_behind() -> None:
    """A connection that was handed to a cancelled request goes back to the pool."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first = world.asking()
            await until(lambda: len(world.lines) == 1)
            second = world.asking()
            await until(lambda: world.state == (1, 0, 1))
            connection = next(
                thing for thing in world.ticker._watched if isinstance(thing, Connection)
            )
            connection.data_received(OK)  # releases it: `second` wakes in the next turn of the loop
            assert world.state == (1, 0, 0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await first
            await until(lambda: world.state in ((0, 0, 0), (1, 1, 0)))

    run(main())


@pytest.mark.parametrize("turns", range(12))
def test_giving_up_while_connecting(turns: int) -> None:
    """At whatever moment: nothing stays open, nothing is counted twice."""

    async def main() -> None:
        async with World(on_request) as world:
            asking = world.asking()
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: world.state in ((0, 0, 0), (1, 1, 0)))
            watched = [one for one in world.ticker._watched if isinstance(one, Connection)]
            assert len(watched) == world.pool.open

    run(main())


def test_nobody_listens() -> None:
    """ConnectFailed: nothing was sent."""

    async def main() -> None:
        async with World() as world:
            world.listener.close()
            await world.listener.wait_closed()
            with pytest.raises(ConnectFailed):
                await world.ask("POST")
            assert world.state == (0, 0, 0)

    run(main())


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 70 + ".test", "a..test"])
def test_a_name_that_does_not_resolve(name: str) -> None:
    """ConnectFailed, too: 502 with the reason in the log."""

    async def main() -> None:
        async with World() as world:
            world.pool.address = Address(name, 80)
            with pytest.raises(ConnectFailed):
                await world.ask()
            assert world.state == (0, 0, 0)

    run(main())


@pytest.mark.parametrize("kind", ["connect", "total"])
def test_connecting_takes_too_long(kind: str) -> None:
    """504, within the shorter of both limits; nothing is left behind."""

    async def main() -> None:
        # A backlog that is full answers no more.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            filling = [socket.socket() for _ in range(3)]
            for one in filling:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            async with World() as world:
                world.pool.address = Address("127.0.0.1", listener.getsockname()[1])
                timeouts = Timeouts(connect=0.05 if kind == "connect" else 5.0)
                with pytest.raises(ConnectTimeout):
                    await world.ask(timeouts=timeouts, total=0.05 if kind == "total" else None)
                assert world.state == (0, 0, 0)
            for one in filling:
                one.close()

    run(main())


def test_an_upstream_that_accepts_and_closes() -> None:
    """Whenever the close is noticed, it is the upstream's failure and no bug of ours."""

    async def close(line: Line) -> None:
        line.reset()

    async def main() -> None:
        async with World(close) as world:
            for _ in range(100):
                with pytest.raises(UpstreamError):
                    await world.ask()
            assert world.state == (0, 0, 0)

    run(main())


def test_a_connection_that_dies_before_it_is_used() -> None:
    """Between being opened and being asked, a turn of the loop goes by."""

    async def main() -> None:
        async with World(polite) as world:
            original = world.pool._open

            async def opens(timeout: float, header: bytes) -> Connection:
                connection = await original(timeout, header)
                transport = connection._transport
                assert transport is not None
                transport.abort()
                connection.connection_lost(ConnectionResetError())
                return connection

            world.pool._open = opens  # type: ignore[method-assign]
            with pytest.raises(UpstreamError):
                await world.ask()
            assert world.pool.open == 0

    run(main())


def test_a_post_goes_over_a_fresh_connection_only() -> None:
    """One that was idle for a second may be closed by the time a byte arrives: not risked."""

    async def main() -> None:
        async with World() as world:
            await world.ask()
            assert await world.ask("POST") == (200, b"hello")
            assert len(world.lines) == 1
            world.pool._idle[0].idle_since -= 1.5
            await world.ask("POST")
            assert (len(world.lines), world.state) == (2, (2, 2, 0))
            for connection in world.pool._idle:
                connection.idle_since -= 1.5
            await world.ask("GET")
            assert len(world.lines) == 2

    run(main())


def test_a_post_at_the_limit_makes_room() -> None:
    """An idle connection that is too old for it gives way to a new one."""

    async def main() -> None:
        async with World(limit=1) as world:
            await world.ask()
            world.pool._idle[0].idle_since -= 1.5
            assert await world.ask("POST") == (200, b"hello")
            assert (len(world.lines), world.state) == (2, (1, 1, 0))

    run(main())


def test_an_idle_connection_grows_old() -> None:
    """After a minute it is closed."""

    async def main() -> None:
        async with World() as world:
            await world.ask()
            connection = world.pool._idle[0]
            assert 59 < connection.deadline - asyncio.get_running_loop().time() <= 60.1
            connection.deadline = 0.0
            await until(lambda: world.state == (0, 0, 0))
            await until(lambda: world.lines[0].ended)

    run(main())


def test_close() -> None:
    """What is idle is closed now, what is in use when it becomes idle."""

    async def main() -> None:
        async with World(on_request) as world:
            first, second = world.asking(), world.asking()
            await until(lambda: len(world.lines) == 2)
            world.lines[0].send(OK)
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            assert world.state == (2, 1, 0)
            world.pool.close()
            assert world.state == (1, 0, 0)
            world.lines[1].send(OK)
            await asyncio.gather(first, second)
            assert world.state == (0, 0, 0)

    run(main())


def test_closing_leaves_nobody_in_the_queue() -> None:
    """An instance is removed while requests to it are under way: they are finished, the queued too."""

    async def main() -> None:
        async with World(on_request, limit=1) as world:
            first, second = world.asking(), world.asking()
            await until(lambda: world.state == (1, 0, 1) and len(world.lines) == 1)
            world.pool.close()
            world.lines[0].reset()
            with pytest.raises(UpstreamError):
                await first
            await until(lambda: len(world.lines) == 2)
            world.lines[1].send(OK)
            assert await second == (200, b"hello")
            assert world.state == (0, 0, 0)

    run(main())


# Anything in any order


class FakeTransport:
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        self.closing = False

    def get_extra_info(self, name: str) -> None:
        """It has no socket."""

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def abort(self) -> None:
        """Close."""
        self.closing = True

    def write(self, data: bytes) -> None:
        """Drop it."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


class PoolMachine(RuleBasedStateMachine):
    """Exchanges come, end, fail and are given up in any order, over connections in memory."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.ticker = Ticker(self.loop, 1000.0)
        self.outbox = Outbox(self.loop)
        self.pool = Pool(
            Address("x", 1),
            limit=self.LIMIT,
            ticker=self.ticker,
            outbox=self.outbox,
            loop=self.loop,
        )
        self.world = World()
        self.tasks: list[asyncio.Task[object]] = []
        self.connections: list[Connection] = []
        self.opening: list[asyncio.Future[None]] = []
        self.pool._open = self.open  # type: ignore[method-assign]

    async def open(self, timeout: float, header: bytes) -> Connection:
        """Connect when the machine says so, and as uvloop does: made first, handed over later."""
        gate = self.loop.create_future()
        self.opening.append(gate)
        try:
            await gate
        finally:
            self.opening.remove(gate)
        connection = Connection(self.pool, self.ticker, self.outbox)
        connection.connection_made(FakeTransport())  # type: ignore[arg-type]
        self.connections.append(connection)
        return connection

    def settle(self) -> None:
        """Let the loop work until nothing is left to do."""
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def act(self, action: Callable[[], object]) -> None:
        """Do something within a turn of the loop, then let the loop work."""

        async def within() -> None:
            action()

        self.loop.run_until_complete(within())
        self.settle()

    async def ask(self, method: str) -> None:
        """One exchange."""
        await self.pool.send(self.world.out(method), Collected())

    @rule(method=st.sampled_from(["GET", "POST"]))
    def begin(self, method: str) -> None:
        """A new exchange."""
        self.tasks.append(self.loop.create_task(self.ask(method)))
        self.settle()

    @rule(index=st.integers(0, 5), fails=st.booleans())
    def connect(self, index: int, fails: bool) -> None:
        """An attempt to connect comes to its end."""
        if self.opening:
            gate = self.opening[index % len(self.opening)]
            if fails:
                gate.set_exception(ConnectFailed("refused"))
            else:
                gate.set_result(None)
            self.settle()

    @rule(index=st.integers(0, 5), raw=st.sampled_from([OK, OK + b"x", b"nonsense", b""]))
    def answer(self, index: int, raw: bytes) -> None:
        """An answer, a bad one, or the end of a connection."""
        live = [one for one in self.connections if one.usable]
        if live:
            connection = live[index % len(live)]
            if raw:
                self.act(lambda: connection.data_received(raw))
            else:
                self.act(lambda: connection.connection_lost(None))

    @rule(index=st.integers(0, 5))
    def give_up(self, index: int) -> None:
        """A client leaves."""
        waiting = [task for task in self.tasks if not task.done()]
        if waiting:
            self.act(waiting[index % len(waiting)].cancel)

    @rule(index=st.integers(0, 5))
    def answer_and_give_up(self, index: int) -> None:
        """Both in one turn of the loop."""
        live = [one for one in self.connections if one._answered is not None]
        waiting = [task for task in self.tasks if not task.done()]
        if live:
            connection = live[index % len(live)]

            def both() -> None:
                connection.data_received(OK)
                waiting[-1].cancel()

            self.act(both)

    @rule()
    def grow_old(self) -> None:
        """Idle connections are no longer fit for a POST."""
        for connection in self.pool._idle:
            connection.idle_since -= 2.0

    @invariant()
    def counted(self) -> None:
        """What is open is what is connecting, busy or idle; never more than the limit."""
        live = [one for one in self.connections if one._transport is not None]
        assert self.pool.open == len(live) + len(self.opening)
        assert 0 <= self.pool.open <= self.LIMIT

    @invariant()
    def in_one_hand(self) -> None:
        """Each connection is idle, once, or serves one exchange."""
        idle = self.pool._idle
        assert len(set(map(id, idle))) == len(idle)
        live = [one for one in self.connections if one._transport is not None]
        assert {id(one) for one in live if one._answered is None} == set(map(id, idle))

    @invariant()
    def no_request_is_forgotten(self) -> None:
        """A request waits in the queue only while all connections are in use."""
        queued = [waiter for waiter in self.pool._queue if not waiter.done]
        if queued:
            assert self.pool.open == self.LIMIT
            assert not self.pool._idle
        waiting = sum(not task.done() for task in self.tasks)
        serving = sum(one._answered is not None for one in self.connections)
        assert waiting <= serving + len(queued) + len(self.opening)

    def teardown(self) -> None:
        """End everything."""
        for task in self.tasks:
            self.act(task.cancel)
        for gate in list(self.opening):
            self.act(gate.cancel)
        self.settle()
        self.pool.close()
        for connection in self.connections:
            self.act(connection.abort)
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        handle, self.ticker._handle = self.ticker._handle, None
        if handle is not None:
            handle.cancel()
        self.loop.close()


TestAnythingInAnyOrder = PoolMachine.TestCase
TestAnythingInAnyOrder.settings = examples(60, stateful_step_count=25, report_multiple_bugs=False)
