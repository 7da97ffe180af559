"""What one stage does with requests, one after the other and at the same time, without sockets."""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import count
from typing import Any

import pytest

from propylon.errors import ConnectFailed
from propylon.loop.signal import Signal
from propylon.proxy.cache.filling import Budget, Filling
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.proxy.route import PrivacyPreference
from propylon.upstream.ports import Answer, Sink
from propylon.wire.message import Request, Response
from tests.proxy.cache.world import Plain, World, answer, head
from tests.proxy.doubles import request

FRESH = "Cache-Control: max-age=60"


class Counting:
    """An upstream whose answers have numbers."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self.number = count(1)

    def __call__(self, exchange: Exchange, request: Request) -> Answer:
        """Answer with the next number."""
        return answer(b"%d" % next(self.number), *self.lines)


def test_age_and_freshness() -> None:
    """An answer is used for its lifetime, says how old it is, and is asked for again after it."""
    world = World(Counting(FRESH, "Age: 10"))
    world.ask()
    world.timers.turn(49.0)
    got, said = world.ask()
    assert (got.body, said) == (b"1", "hit; ttl=1")
    assert b"\r\nAge: 59" in got.head.block
    world.timers.turn(1.0)
    got, said = world.ask()
    assert (got.body, said) == (b"2", "fwd=stale; stored")


@pytest.mark.parametrize(
    ("line", "later", "body"),
    [
        (b"Cache-Control: max-age=5", 6, b"2"),
        (b"Cache-Control: max-age=5", 4, b"1"),
        (b"Cache-Control: min-fresh=30", 40, b"2"),
        (b"Cache-Control: min-fresh=30", 20, b"1"),
        (b"Cache-Control: max-stale=30", 80, b"1"),
        (b"Cache-Control: max-stale=30", 100, b"2"),
        (b"Cache-Control: max-stale", 9999, b"1"),
        (b"Cache-Control: max-stale=x", 80, b"2"),
        (b"Cache-Control: no-cache", 1, b"2"),
        (b"Cache-Control: foo, Max-Age=0", 1, b"2"),
        (b"Pragma: no-cache", 1, b"2"),
        (b"Pragma: no-cache\r\nCache-Control: foo", 1, b"1"),
    ],
)
def test_what_a_request_asks(line: bytes, later: float, body: bytes) -> None:
    """RFC 9111, 5.2.1."""
    world = World(Counting(FRESH))
    world.ask()
    world.timers.turn(later)
    assert world.ask(line)[0].body == body


def test_a_304_updates_what_is_stored() -> None:
    """Fields of the 304 replace the stored ones, but those that describe the body (RFC 9111, 3.2)."""

    def upstream(exchange: Exchange, request: Request) -> Answer:
        if b"If-None-Match" in request.block:
            lines = (FRESH, 'ETag: "b"', "A: 2", "Content-Encoding: gzip", "Content-Type: b/b")
            return answer(b"", *lines, status="304 Not Modified")
        lines = ("Cache-Control: max-age=1", 'ETag: "a"', "A: 1", "B: 1", "Content-Type: a/a")
        return answer(b"body", *lines)

    world = World(upstream)
    world.ask()
    world.timers.turn(5.0)
    got, said = world.ask()
    block = got.head.block
    assert (got.body, said) == (b"body", "fwd=stale; fwd-status=304; stored")
    for line in (b"A: 2", b"B: 1", b'ETag: "a"', b"Content-Type: b/b", b"Content-Length: 4"):
        assert block.count(b"\r\n" + line) == 1
    assert b"gzip" not in block
    assert world.ask()[1].startswith("hit")


def test_a_cookie_of_a_304_is_for_its_client() -> None:
    """It reaches the one who asked, and nobody after."""

    def upstream(exchange: Exchange, request: Request) -> Answer:
        if b"If-None-Match" in request.block:
            return answer(b"", FRESH, "Set-Cookie: mine", status="304 Not Modified")
        return answer(b"body", "Cache-Control: max-age=1", 'ETag: "a"')

    world = World(upstream)
    world.ask()
    world.timers.turn(5.0)
    for _ in range(2):
        got, _ = world.ask()
        assert got.head.block.count(b"Set-Cookie: mine") == 1
        assert got.head.sets_cookies
    assert len(world.asked) == 3


def test_a_failure_is_told_to_the_breaker_though_the_client_sees_none() -> None:
    """Stale-if-error hides it from the client only."""
    calls = count()

    def upstream(exchange: Exchange, request: Request) -> Answer:
        if next(calls):
            raise ConnectFailed("no")
        return answer(b"old", "Cache-Control: max-age=1, stale-if-error=100")

    world = World(upstream)
    world.ask()
    world.timers.turn(5.0)
    got, said = world.ask()
    assert (got.body, said) == (b"old", "hit; ttl=-4; detail=stale-if-error")
    assert len(world.settled) == 1
    world.timers.turn(100.0)
    with pytest.raises(ConnectFailed):
        world.ask()


def test_stale_while_revalidate_asks_once() -> None:
    """All that come meanwhile get the old answer; one request goes out."""
    world = World(Counting("Cache-Control: max-age=1, stale-while-revalidate=50"), idle=True)
    world.ask()
    world.timers.turn(5.0)
    assert [world.ask()[0].body for _ in range(3)] == [b"1"] * 3
    assert len(world.refreshed) == 1


def test_a_purge_is_not_undone_by_what_was_on_its_way() -> None:
    """An answer that was asked for before its path was purged is not stored after it."""
    world: World

    def upstream(exchange: Exchange, request: Request) -> Answer:
        world.store.purge(path=b"/a")
        return answer(b"old", FRESH)

    world = World(upstream)
    world.ask()
    assert len(world.store) == 0


def test_claims_of_policies_are_in_the_key() -> None:
    """What the gateway vouches for reaches the upstream, so it divides the answers."""
    world = World(Counting(FRESH))
    bodies = []
    for tenant in ("a", "b", "a"):
        asked = request()
        asked.set_header("X-Tenant", tenant)
        bodies.append(run_to_end(world.stage(world.exchange(), asked, plain())).body)
    assert bodies == [b"1", b"2", b"1"]


def test_a_vary_on_the_caller_counts_where_the_caller_is_left_out() -> None:
    """With `by: everyone`, an answer that names X-User-Id is for that user."""
    ann = Principal("ann", block=b"\r\nX-User-Id: ann")
    bob = Principal("bob", block=b"\r\nX-User-Id: bob")
    world = World(Counting(FRESH, "Vary: X-User-Id"), by="everyone")
    bodies = [world.ask(principal=who)[0].body for who in (ann, bob, ann)]
    assert bodies == [b"1", b"2", b"1"]


def test_strict_privacy_keeps_nothing() -> None:
    """What was answered to such a client is not stored, and a stored answer is not looked for."""
    world = World(Counting(FRESH))
    for number in (b"1", b"2"):
        exchange = world.exchange()
        exchange.privacy = PrivacyPreference("strict", b"")
        assert run_to_end(world.stage(exchange, request(), plain())).body == number
    assert len(world.store) == 0


# At the same time


def run_to_end(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Step a coroutine that has all it waits for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Answer = stop.value
        return result
    raise AssertionError("it waits")


def plain() -> Any:
    """As much of a route as is looked at."""
    return Plain()


class Slow:
    """An upstream that answers when a case says so."""

    def __init__(self) -> None:
        self.waiting: list[Signal[Answer]] = []

    async def __call__(self, exchange: Exchange, request: Request, route: object) -> Answer:
        """Answer when the case does."""
        signal: Signal[Answer] = Signal()
        self.waiting.append(signal)
        return await signal


class Asked:
    """A request that is under way, as an edge would step it."""

    def __init__(self, world: World, *lines: bytes) -> None:
        self.exchange = world.exchange()
        self.got: Answer | None = None
        self._coroutine = world.stage(self.exchange, request(b"/a", *lines), plain())
        self._step()

    def _step(self) -> None:
        try:
            awaited: Any = self._coroutine.send(None)
        except StopIteration as stop:
            self.got = stop.value
        else:
            awaited.attach(lambda _: self._step())


def slow_world(**rules: Any) -> tuple[World, Slow]:
    """A world whose upstream takes its time."""
    slow = Slow()
    world = World(Counting(), **rules)
    object.__setattr__(world.stage.fetch, "forward", slow)
    return world, slow


def test_thousands_that_want_the_same_are_one_request() -> None:
    """Ten thousand at once, one to the upstream."""
    world, slow = slow_world()
    asked = [Asked(world) for _ in range(10_000)]
    assert len(slow.waiting) == 1
    slow.waiting[0].set(answer(b"one", FRESH))
    world.timers.turn()
    assert {one.got.body for one in asked if one.got is not None} == {b"one"}
    assert all(one.got is not None for one in asked)
    assert len(slow.waiting) == 1


def test_who_waits_asks_itself_if_the_answer_is_not_for_others() -> None:
    """And the next ones do not wait in vain for a while."""
    world, slow = slow_world()
    asked = [Asked(world) for _ in range(5)]
    slow.waiting[0].set(answer(b"mine", FRESH, "Set-Cookie: a=b"))
    world.timers.turn()
    assert len(slow.waiting) == 5
    later = Asked(world)
    assert len(slow.waiting) == 6
    assert later.got is None
    assert asked[0].got is not None


def test_who_differs_in_what_varies_waits_for_its_own() -> None:
    """Two languages, two requests, however many want them."""
    world, slow = slow_world()
    asked = [Asked(world, b"Accept-Language: " + (b"de", b"fr")[at % 2]) for at in range(20)]
    slow.waiting[0].set(answer(b"de", FRESH, "Vary: Accept-Language"))
    world.timers.turn()
    assert len(slow.waiting) == 2
    slow.waiting[1].set(answer(b"fr", FRESH, "Vary: Accept-Language"))
    world.timers.turn()
    assert [one.got.body for one in asked if one.got] == [b"de", b"fr"] * 10


def test_the_wait_is_bounded() -> None:
    """After `wait` each asks for itself."""
    world, slow = slow_world(wait=3.0)
    for _ in range(4):
        Asked(world)
    world.timers.turn(3.0)
    assert len(slow.waiting) == 4


# Bodies


class Source:
    """An answer whose body a case pushes."""

    def __init__(self, length: int = -2) -> None:
        self.head: Response = head(FRESH, "Transfer-Encoding: chunked")
        self.head.length = length
        self.body: bytes | None = None
        self.sink: Sink | None = None
        self.ended: Signal[None] = Signal()
        self.said: list[str] = []

    def pipe(self, sink: Sink) -> Signal[None]:
        """Keep the sink."""
        self.sink = sink
        return self.ended

    def pause(self) -> None:
        """Note it."""
        self.said.append("pause")

    def resume(self) -> None:
        """Note it."""
        self.said.append("resume")

    def abort(self) -> None:
        """Note it."""
        self.said.append("abort")


class Drain:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.finished = False

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.data += data

    def finish(self, trailers: bytes = b"") -> None:
        """Take the end."""
        self.finished = True

    def interim(self, head: Response) -> None:
        """Nothing."""


def filled(most: int, budget: int = 10**9) -> tuple[Source, Filling, list[Any]]:
    """A filling, and what it has said at its end."""
    source, done = Source(), list[Any]()
    filling = Filling(source, most, Budget(budget), lambda body, size: done.append((body, size)))
    filling.start()
    return source, filling, done


def test_a_slow_reader_does_not_slow_what_is_kept() -> None:
    """And gets all of it when it reads again."""
    source, filling, done = filled(500_000)
    reader, client = filling.reader(source.head), Drain()
    signal = reader.pipe(client)
    reader.pause()
    for _ in range(4):
        filling.write(b"x" * 100_000)
    filling.finish()
    assert (source.said, client.data, done[0][1]) == ([], b"", 400_000)
    reader.resume()
    assert (len(client.data), client.finished, signal.done) == (400_000, True, True)


def test_beyond_what_is_kept_the_slowest_reader_sets_the_pace() -> None:
    """What it has passed is dropped, and the upstream pauses while it lags."""
    source, filling, done = filled(150_000)
    reader, client = filling.reader(source.head), Drain()
    reader.pipe(client)
    reader.pause()
    filling.write(b"x" * 100_000)
    filling.write(b"y" * 100_000)
    assert (done, source.said) == ([(None, 200_000)], ["pause"])
    assert not filling.joinable or filling.piece(0) is not None
    reader.resume()
    assert (source.said, len(client.data)) == (["pause", "resume"], 200_000)
    assert not filling.joinable


def test_the_last_reader_that_leaves_cancels() -> None:
    """Nobody wants the rest."""
    source, filling, done = filled(150_000)
    first, second = filling.reader(source.head), filling.reader(source.head)
    first.pipe(Drain())
    first.abort()
    assert source.said == []
    second.abort()
    assert (source.said, done) == (["abort"], [(None, 0)])


def test_what_breaks_off_breaks_off_for_all() -> None:
    """After what has come, each reader gets the error, and nothing is stored."""
    source, filling, done = filled(150_000)
    clients = [Drain(), Drain()]
    signals = [filling.reader(source.head).pipe(client) for client in clients]
    filling.write(b"half")
    source.ended.fail(ConnectFailed("cut"))
    assert [client.data for client in clients] == [b"half"] * 2
    assert not any(client.finished for client in clients)
    assert (done, filling.whole) == ([(None, 4)], False)
    for signal in signals:
        with pytest.raises(ConnectFailed):
            signal.result()


def test_all_that_is_under_way_has_a_bound() -> None:
    """A body that would need more than there is for all of them is kept no longer."""
    source, filling, done = filled(10**6, budget=100_000)
    filling.reader(source.head).pipe(Drain())
    filling.write(b"x" * 100_001)
    assert done == [(None, 100_001)]


@pytest.mark.parametrize("leaves", [False, True])
def test_what_slow_clients_have_not_read_counts_on(leaves: bool) -> None:
    """The body is whole, and yet in memory for them: else many who ask for much and read nothing have no bound."""
    budget = Budget(150_000)
    filling = Filling(Source(), 10**6, budget, lambda body, size: None)
    filling.start()
    reader = filling.reader(head(FRESH))
    reader.pipe(Drain())
    reader.pause()
    filling.write(b"x" * 100_000)
    filling.finish()
    assert budget.held == 100_000
    if leaves:
        reader.abort()
    else:
        reader.resume()
    assert budget.held == 0
