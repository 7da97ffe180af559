"""Where idempotency keys are kept: one set of cases for the memory, the file of a machine and Redis."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from propylon.proxy.idempotency.ledger import Ledger, LedgerAway
from propylon.stores.idempotency.machine import MachineLedger
from propylon.stores.idempotency.memory import MemoryLedger
from propylon.stores.redis.idempotency import RedisLedger
from tests.stores.redis.scripted import until
from tests.stores.redis.stores import at
from tests.support.redis import RedisServer, running

_fresh = count()
CAPACITY = 100_000
LOCAL = ("memory", "machine")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of all."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis."""
    with running() as made:
        yield made


def remote(
    runner: asyncio.Runner, server: RedisServer, stack: ExitStack, **options: Any
) -> RedisLedger:
    """The keys in Redis."""

    async def opened() -> RedisLedger:
        loop = asyncio.get_running_loop()
        made = RedisLedger(at(server, **options), loop=loop, chance=lambda: 0.5)
        made.start()
        await until(lambda: all(node.available for node in made.nodes.all()))
        return made

    async def closed() -> None:
        await asyncio.sleep(0.01)

    ledger = runner.run(opened())
    stack.callback(lambda: runner.run(closed()))
    stack.callback(ledger.close)
    return ledger


def local(kind: str, path: Path, stack: ExitStack, clock: Callable[[], float]) -> Ledger:
    """The keys on this machine."""
    if kind == "memory":
        return MemoryLedger(CAPACITY, clock)
    made = MachineLedger.at(path, CAPACITY, clock)
    stack.callback(made.leave)
    return made


@pytest.fixture(scope="module")
def ledgers(
    runner: asyncio.Runner, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Ledger]]:
    """All of them."""
    path = tmp_path_factory.mktemp("ledger") / "file"
    with ExitStack() as stack:
        made = {kind: local(kind, path, stack, time.monotonic) for kind in LOCAL}
        yield {**made, "redis": remote(runner, server, stack)}


@pytest.fixture(params=[*LOCAL, "redis"])
def ledger(request: pytest.FixtureRequest, ledgers: dict[str, Ledger]) -> Ledger:
    """The one in turn."""
    return ledgers[request.param]


@pytest.fixture
def name() -> bytes:
    """A name that no other case has."""
    return b"name-%d" % next(_fresh)


Do = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def do(runner: asyncio.Runner) -> Do:
    """Run something to its end."""

    async def run(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    return lambda awaitable: runner.run(run(awaitable))


def test_one_claims_a_name(ledger: Ledger, name: bytes, do: Do) -> None:
    """Whoever comes later finds the claim, and then what has become of it."""
    assert do(ledger.claim(name, b"Rone", 60)) is None
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Rone"
    do(ledger.settle(name, b"Rtwo", b"Dwrong", 60))
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Rone"
    do(ledger.settle(name, b"Rone", b"Danswer" * 1000, 60))
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Danswer" * 1000
    do(ledger.settle(name, b"Rone", b"Dother", 60))
    do(ledger.release(name, b"Rone"))
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Danswer" * 1000


def test_a_released_name_is_free(ledger: Ledger, name: bytes, do: Do) -> None:
    """For whoever claims it next; and not by somebody else's release."""
    do(ledger.claim(name, b"Rone", 60))
    do(ledger.release(name, b"Rtwo"))
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Rone"
    do(ledger.release(name, b"Rone"))
    assert do(ledger.claim(name, b"Rtwo", 60)) is None


def test_a_claim_that_is_over_can_still_be_settled(ledger: Ledger, name: bytes, do: Do) -> None:
    """The answer is kept if nobody has claimed the name meanwhile."""
    do(ledger.settle(name, b"Rone", b"Dlate", 60))
    assert do(ledger.claim(name, b"Rtwo", 60)) == b"Dlate"


def test_of_many_at_once_one_claims(ledger: Ledger, name: bytes, do: Do) -> None:
    """However they are mixed."""

    async def all_claim() -> list[bytes | None]:
        return [*await asyncio.gather(*(ledger.claim(name, b"R%d" % at, 60) for at in range(50)))]

    assert do(all_claim()).count(None) == 1


def test_a_time_is_kept_in_redis(
    ledgers: dict[str, Ledger], server: RedisServer, name: bytes, do: Do
) -> None:
    """No key stays for ever."""
    do(ledgers["redis"].claim(name, b"R", 60))
    names = [one for one in server.stored() if b":idempotency:" in one]
    assert names
    assert all(isinstance(left := server.ask("PTTL", one), int) and left <= 60_000 for one in names)


@pytest.mark.parametrize("kind", LOCAL)
def test_what_is_over_leaves_and_no_other(kind: str, tmp_path: Path, do: Do) -> None:
    """Without room nothing is claimed; what is kept stays until its time is over, and then there is room again."""
    now = [100.0]
    with ExitStack() as stack:
        ledger = local(kind, tmp_path / "file", stack, lambda: now[0])
        for number in range(40):
            do(ledger.claim(b"%d" % number, b"R" * 2000, 50 + number))
            if number % 7 == 6:
                do(ledger.release(b"%d" % number, b"R" * 2000))
        with pytest.raises(LedgerAway):
            for number in range(1000):
                do(ledger.claim(b"more-%d" % number, b"R" * 2000, 500))
        assert do(ledger.claim(b"0", b"x", 60)) == b"R" * 2000
        now[0] += 51
        assert do(ledger.claim(b"0", b"x", 600)) is None
        assert do(ledger.claim(b"5", b"x", 60)) == b"R" * 2000
        now[0] += 10_000
        for number in range(200):
            assert do(ledger.claim(b"later-%d" % number, b"R", 60)) is None


@pytest.mark.parametrize("kind", LOCAL)
def test_long_answers_of_many_claims_have_a_bound(kind: str, tmp_path: Path, do: Do) -> None:
    """Where there is no room for an answer, it is kept that the request was processed."""
    names, print_ = [b"%d" % number for number in range(50)], b"f" * 32
    with ExitStack() as stack:
        ledger = local(kind, tmp_path / "file", stack, lambda: 100.0)
        for one in names:
            assert do(ledger.claim(one, b"R" * 17, 60)) is None
        for one in names:
            do(ledger.settle(one, b"R" * 17, b"D" + print_ + b"x" * 30_000, 60))
        held = [do(ledger.claim(one, b"R", 60)) for one in names]
    assert sum(len(one) for one in held) <= CAPACITY
    assert {one[:33] for one in held} == {b"D" + print_, b"N" + print_}


def test_released_claims_leave_nothing_in_memory(do: Do) -> None:
    """However many clients claim keys and leave before their time."""
    ledger = MemoryLedger(CAPACITY, lambda: 100.0)

    async def claim_and_release() -> None:
        for number in range(10_000):
            await ledger.claim(b"%d" % number, b"R", 60)
            await ledger.release(b"%d" % number, b"R")

    tracemalloc.start()
    try:
        do(claim_and_release())
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 500_000
    assert ledger.size == 0


def test_redis_away(runner: asyncio.Runner, do: Do) -> None:
    """Killed or hanging, a claim says so; what is settled or released then fails silently."""
    with running() as server, ExitStack() as stack:
        ledger = remote(runner, server, stack, timeout=0.05)
        for away, back in ((server.stop_reading, server.go_on), (server.kill, server.start)):
            away()
            with pytest.raises(LedgerAway):
                do(ledger.claim(b"n", b"R", 60))
            do(until(lambda: not any(node.available for node in ledger.nodes.all())))
            do(ledger.settle(b"n", b"R", b"D", 60))
            do(ledger.release(b"n", b"R"))
            back()
            do(until(lambda: all(node.available for node in ledger.nodes.all())))
            do(ledger.release(b"n", b"R"))
            assert do(ledger.claim(b"n", b"R", 60)) is None
            do(ledger.release(b"n", b"R"))


def test_a_value_of_another_type_is_no_claim(
    ledgers: dict[str, Ledger], server: RedisServer, name: bytes, do: Do
) -> None:
    """What another program has put there."""
    do(ledgers["redis"].claim(name, b"R", 60))
    for key in server.stored():
        server.ask("DEL", key)
        server.ask("LPUSH", key, "x")
    with pytest.raises(LedgerAway):
        do(ledgers["redis"].claim(name, b"R", 60))
