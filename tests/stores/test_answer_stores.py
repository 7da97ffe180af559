"""What every store of answers does, and what those do that workers and machines share."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.cache.behind import UNKNOWN, Held
from propylon.proxy.cache.deletion import Deletion
from propylon.proxy.cache.filling import Budget
from propylon.proxy.cache.judgement import Judgement
from propylon.proxy.cache.key import Key, target_of
from propylon.proxy.cache.stored import Stored
from propylon.stores.answers.leases import Leases
from propylon.stores.answers.record import Codec, Garbled, chunks_of
from propylon.stores.answers.shelves import Shelves, Tier
from propylon.stores.redis.answers import RedisShelves
from propylon.wire.message import Response
from tests.stores.answer_stores import (
    KINDS,
    ROUTE,
    InMemory,
    Shared,
    Worker,
    in_use,
    machine,
    redis,
)
from tests.stores.redis.scripted import until
from tests.support.redis import RedisServer, running

_fresh = count()


def key(path: bytes = b"", query: bytes = b"") -> Key:
    """A key that no other case has."""
    return (b"place", b"http", b"a.test", path or b"/%d" % next(_fresh), query, b"")


def stored(
    body: bytes = b"body",
    *,
    vary: bytes = b"",
    tags: bytes = b"",
    pieces: int = 0,
    status: int = 200,
    judged: Judgement | None = None,
) -> Stored:
    """An answer; with `pieces` its body is in so many."""
    block = b'\r\nETag: "e"\r\nX-Twice: 1\r\nX-Twice: 2' + (tags and b"\r\nCache-Tag: " + tags)
    head = Response(status, b" 200 Fine", block, len(body), keep_alive=True)
    known = judged or Judgement(lifetime=60.0, age=3.0, etag=b'"e"', tags=tuple(tags.split()))
    made = Stored(head, known, ((b"accept", vary),) if vary else (), 0.0, route="r")
    cut = -(-len(body) // pieces) if pieces else 0
    whole = tuple(body[at : at + cut] for at in range(0, len(body), cut)) if cut else body
    made.complete(whole, len(body))
    return made


def body_of(one: Stored) -> bytes:
    """The whole body."""
    return one.body if isinstance(one.body, bytes) else b"".join(one.body)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of all workers."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis."""
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def opened(
    runner: asyncio.Runner, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Worker, Worker]]]:
    """Two workers at each store; the memory has only one."""
    with ExitStack() as stack:
        memory = InMemory()
        file = stack.enter_context(machine(tmp_path_factory.mktemp("answers") / "file"))
        first, second = stack.enter_context(redis(runner, server, count=2))
        yield {
            "memory": (memory, memory),
            "machine": (Shared(runner, file), Shared(runner, file)),
            "redis": (Shared(runner, first), Shared(runner, second)),
        }


@pytest.fixture(params=KINDS)
def workers(
    request: pytest.FixtureRequest, opened: dict[str, tuple[Worker, Worker]]
) -> tuple[Worker, Worker]:
    """Two workers at the store in turn."""
    return opened[request.param]


SIZES = (0, 1, 16 * 1024, 16 * 1024 + 1, 64 * 1024, 300_000, 2_000_000)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_kept_is_found_whole(workers: tuple[Worker, Worker], size: int) -> None:
    """Head and body, of any size, in one piece and in many; by another worker, too."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    for pieces in (0, 7):
        at, put = key(), stored(body, pieces=pieces)
        workers[0].keep(at, put, workers[0].since(at))
        [found] = workers[1].get(at)
        assert body_of(found) == body
        assert (found.status, found.reason, found.block) == (put.status, put.reason, put.block)
        assert found.left(0.0) == pytest.approx(put.left(0.0), abs=5)
        assert (found.judged.etag, found.route, found.vary) == (b'"e"', "r", ())


def test_what_is_not_there_is_not_found(workers: tuple[Worker, Worker]) -> None:
    """No answer, and none of another key."""
    at = key()
    workers[0].keep(at, stored(), workers[0].since(at))
    assert workers[1].get(key()) == []
    assert workers[1].get((*at[:5], b"somebody else")) == []


def test_variants_are_apart_and_not_endless(workers: tuple[Worker, Worker]) -> None:
    """One for each value of what Vary names, the newest of each, and 16 at most."""
    at = key()
    for value in (b"a", b"b", b"a"):
        workers[0].keep(at, stored(value + b"%d" % next(_fresh), vary=value), workers[0].since(at))
    found = workers[1].get(at)
    assert sorted(one.vary for one in found) == [((b"accept", b"a"),), ((b"accept", b"b"),)]
    for number in range(40):
        workers[0].keep(at, stored(vary=b"%d" % number), workers[0].since(at))
    assert 1 <= len(workers[1].get(at)) <= 16


def test_a_dropped_answer_is_gone(workers: tuple[Worker, Worker]) -> None:
    """And the others of its key are not."""
    at, gone = key(), stored(vary=b"a")
    workers[0].keep(at, gone, workers[0].since(at))
    workers[0].keep(at, stored(vary=b"b"), workers[0].since(at))
    workers[0].drop(at, gone)
    assert [one.vary for one in workers[1].get(at)] == [((b"accept", b"b"),)]


def deletions(at: Key) -> dict[str, Deletion]:
    """Each way to let go of an answer under a key, with the tag `one`."""
    return {
        "route": Deletion.chosen(route="r"),
        "path": Deletion.chosen(path=at[3]),
        "spelled otherwise": Deletion.chosen(path=b"/%%%x" % at[3][1] + at[3][2:]),
        "tag": Deletion.chosen(tag=b"one"),
        "all three": Deletion.chosen(route="r", path=at[3], tag=b"one"),
        "route and path": Deletion.chosen(route="r", path=at[3]),
        "path and tag": Deletion.chosen(path=at[3], tag=b"one"),
        "route and tag": Deletion.chosen(route="r", tag=b"one"),
        "target": Deletion.of_target(target_of(at)),
        "everything": Deletion(),
    }


def others(at: Key) -> list[Deletion]:
    """Deletions that are not about it: one of what is said does not fit."""
    return [
        Deletion.chosen(route="other"),
        Deletion.chosen(route="other", path=at[3]),
        Deletion.chosen(path=at[3] + b"/other", tag=b"one"),
        Deletion.chosen(route="r", path=at[3], tag=b"other"),
        Deletion.of_target((at[2], at[3], b"?other")),
        Deletion.of_target((b"b.test", at[3], at[4])),
    ]


@pytest.mark.parametrize("how", deletions(key(b"/1")))
def test_deletions(workers: tuple[Worker, Worker], how: str) -> None:
    """What fits all that is said is gone; what was asked for before is not stored after; the next one is."""
    at = key(b"/%d" % next(_fresh), b"?q")
    workers[0].keep(at, stored(tags=b"one two"), workers[0].since(at))
    for other in others(at):
        workers[1].delete(other)
    assert len(workers[0].get(at)) == 1
    before = workers[0].since(at)
    workers[1].delete(deletions(at)[how])
    assert workers[0].get(at) == []
    workers[0].keep(at, stored(tags=b"one"), before)
    assert workers[1].get(at) == []
    workers[0].keep(at, stored(tags=b"one"), workers[0].since(at))
    assert len(workers[1].get(at)) == 1


# What others write


CODEC = Codec(b"", lambda: 100.0, lambda: 1000.0)
SIGNED = Codec(b"a secret of the gateways", lambda: 100.0, lambda: 1000.0)
NAME = CODEC.name(key(b"/1"))


def record(codec: Codec = CODEC, name: bytes = NAME, **options: object) -> bytes:
    """A record of an answer."""
    return codec.written(name, stored(**options), 7, b"", 0)  # type: ignore[arg-type]


@given(st.integers(0, 400), st.binary(max_size=4))
def test_a_record_that_was_changed_is_refused(at: int, by: bytes) -> None:
    """Any bytes of it, also its end."""
    good = record()
    changed = good[:at] + by + good[at + len(by) :] if by else good[:at]
    if changed == good:
        CODEC.read(NAME, changed)
    else:
        with pytest.raises(Garbled):
            CODEC.read(NAME, changed)


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    """Whatever it begins with."""
    for begin in (b"", record()[:4], record()[:20]):
        with pytest.raises(Garbled):
            CODEC.read(NAME, begin + data)


def test_a_record_of_another_key_or_without_the_secret_is_refused() -> None:
    """Who may write into Redis can copy records, and make some; not with a secret."""
    other = CODEC.name(key(b"/2"))
    with pytest.raises(Garbled):
        CODEC.read(other, record())
    name = SIGNED.name(key(b"/1"))
    assert name != NAME
    SIGNED.read(name, record(SIGNED, name))
    for forged in (record(name=name), record(Codec(b"another", lambda: 0.0, lambda: 0.0), name)):
        with pytest.raises(Garbled):
            SIGNED.read(name, forged)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("block", b"\r\nSet-Cookie: a=b"),
        ("block", b"\r\nA: b\r\n\r\nHTTP/1.1 200 OK"),
        ("block", b"\r\nTransfer-Encoding: chunked"),
        ("block", b"\r\n A: b"),
        ("block", b"\nA: b"),
        ("reason", b" 200 OK\r\nSet-Cookie: a=b"),
        ("reason", b" 500 Oops"),
        ("status", 99),
        ("status", 101),
        ("vary", ((b"accept:", b"a"),)),
        ("vary", ((b"accept", b"a\r\nb"),)),
        ("judged", Judgement(lifetime=float("inf"))),
        ("judged", Judgement(lifetime=-1.0)),
        ("judged", Judgement(lifetime=1e12)),
    ],
)
def test_a_well_formed_lie_is_refused(what: str, value: object) -> None:
    """What is signed is read all the same as an upstream's answer is: strictly."""
    lie = stored()
    setattr(lie, what, value)
    with pytest.raises(Garbled):
        CODEC.read(NAME, CODEC.written(NAME, lie, 7, b"", 0))


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_a_body_is_cut_into_pieces(pieces: list[bytes], size: int) -> None:
    """All as long as they may be, but the last one."""
    chunks = chunks_of(pieces, size)
    assert b"".join(chunks) == b"".join(pieces)
    assert all(len(one) == size for one in chunks[:-1])
    assert all(0 < len(one) <= size for one in chunks)


@pytest.mark.parametrize(
    "write",
    [
        lambda name, old: ("HSET", name, "x", b"garbage"),
        lambda name, old: ("HSET", name, "x", record(name=NAME)),
        lambda name, old: ("SET", name, old),
        lambda name, old: ("LPUSH", name, old),
    ],
)
def test_what_others_write_into_redis_is_no_answer(
    opened: dict[str, tuple[Worker, Worker]], server: RedisServer, write: object
) -> None:
    """Garbage, a record of another key, another type of value: a miss, and the store goes on."""
    worker, at = opened["redis"][0], key()
    assert isinstance(worker, Shared)
    assert isinstance(worker.shelves, RedisShelves)
    name = worker.shelves._name(worker.codec.name(at))
    server.ask(*write(name, b"old"))  # type: ignore[operator]
    assert worker.tier is not None
    assert worker._runner.run(worker.tier.look(at, ROUTE)).answers == ()
    worker.keep(at, stored(), worker.since(key()))
    assert len(worker.get(at)) == 1


@pytest.mark.parametrize("number", [b"-5", b"9223372036854775808", b"9" * 5000, b"x"])
def test_a_number_that_is_not_ours_is_an_absence(
    opened: dict[str, tuple[Worker, Worker]], server: RedisServer, number: bytes
) -> None:
    """An answer is not kept, and whoever waits for that is told: nothing fails, and no lease stays."""
    worker, at = opened["redis"][0], key()
    assert isinstance(worker, Shared)
    assert isinstance(worker.shelves, RedisShelves)
    last = worker.shelves._common + b"last"
    before = server.ask("GET", last)
    server.ask("SET", last, number)
    try:
        assert worker.since(at) == UNKNOWN
        worker.keep(at, stored(), worker.since(at))
    finally:
        server.ask("DEL", last)
        if isinstance(before, bytes):
            server.ask("SET", last, before)
    assert worker.get(at) == []


def test_a_body_of_another_length_is_not_used() -> None:
    """Without a secret anyone can write a record; its length is the client's Content-Length."""
    body = (b"a" * 10, b"b" * 10)

    class Pieces(Shelves):
        async def body(self, ident: bytes, pieces: int) -> tuple[bytes, ...]:
            return body

    def load(length: int) -> object:
        held = Held(stored(), length, CODEC.digest(body), b"ident", len(body))
        return asyncio.run(Tier(Pieces(), CODEC, Budget(1000)).load(held))  # type: ignore[abstract]

    assert load(20) == b"".join(body)
    assert load(5) is None


def test_a_body_that_was_changed_is_not_used(
    opened: dict[str, tuple[Worker, Worker]], server: RedisServer
) -> None:
    """A piece of it is missing, or another one."""
    worker, at = opened["redis"][0], key()
    for change in (("SET", b"x" * 65536, "KEEPTTL"), ("DEL",)):
        before = set(server.stored())
        worker.keep(at, stored(b"y" * 200_000), worker.since(at))
        assert len(worker.get(at)) == 1
        [piece] = [one for one in server.stored() if one.endswith(b":1") and one not in before]
        server.ask(change[0], piece, *change[1:])
        assert worker.get(at) == []


def test_nothing_of_a_request_is_to_be_read_in_redis(
    opened: dict[str, tuple[Worker, Worker]], server: RedisServer
) -> None:
    """No path, no query, no header that Vary names, in any key; and nothing stays for ever."""
    worker = opened["redis"][0]
    at = key(b"/visible/path", b"?token=visible")
    worker.keep(at, stored(b"z" * 100_000, vary=b"visible", tags=b"visible"), worker.since(at))
    worker.delete(Deletion.of_target(target_of(at)))
    worker.delete(Deletion.chosen(path=at[3], tag=b"visible"))
    names = server.stored()
    assert not any(b"visible" in name for name in names)
    lasting = [name for name in names if server.ask("TTL", name) == -1]
    assert lasting == [b"propylon:{cache}:last"]
    lines = server.ask("ZRANGE", b"propylon:{cache}:log", 0, -1)
    assert isinstance(lines, list)
    assert not any(b"visible" in line for line in lines)


# Redis away


def test_redis_away_is_a_miss(runner: asyncio.Runner) -> None:
    """Killed or hanging: nothing is found, kept or waited for; deletions are made up for when it is back."""
    heard: list[Deletion] = []
    with running() as server, redis(runner, server, heard.append, timeout=0.05) as (shelves,):
        worker, at = Shared(runner, shelves), key()
        runner.run(until(lambda: in_use(shelves)))
        for away, back in ((server.stop_reading, server.go_on), (server.kill, server.start)):
            away()
            assert runner.run(worker.tier.look(at, ROUTE)).answers == ()
            runner.run(until(lambda: not any(one.available for one in shelves.nodes.all())))
            assert worker.since(at) == -1
            worker.keep(at, stored(), -1)
            assert runner.run(_deleted(worker, Deletion.chosen(path=at[3]))) is False
            back()
            runner.run(until(lambda: in_use(shelves)))
            assert worker.since(at) > 0
            assert worker.get(at) == []
            worker.keep(at, stored(), worker.since(at))
            assert len(worker.get(at)) == 1


async def _deleted(worker: Shared, deletion: Deletion) -> bool:
    return await worker.tier.delete(deletion)


def test_more_deletions_than_can_be_remembered_delete_everything(runner: asyncio.Runner) -> None:
    """While Redis was away."""
    with running() as server, redis(runner, server) as (shelves,):
        runner.run(until(lambda: in_use(shelves)))
        for number in range(1100):
            shelves._owe(b"%d" % number, Deletion.chosen(path=b"/%d" % number))
        assert len(shelves._owed) <= 200
        server.kill()
        runner.run(until(lambda: not any(one.available for one in shelves.nodes.all())))
        server.start()
        runner.run(until(lambda: in_use(shelves)))
        assert not shelves._owed
        assert server.ask("GET", shelves._mark(Deletion().mark)) is not None


# Bounds, and the death of a worker


def test_the_file_is_bounded_and_a_scan_empties_nothing(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    """What is asked for often stays while ten times as much comes once."""
    asked: Counter[Key] = Counter()
    with machine(tmp_path / "file", 2_000_000, lambda at: asked[at]) as shelves:
        worker = Shared(runner, shelves)
        known = [key() for _ in range(5)]
        for at in known:
            asked[at] = 5
            worker.keep(at, stored(b"x" * 1000), worker.since(at))
        for number in range(600):
            at = key()
            worker.keep(at, stored(b"y" * (100_000 if number % 10 == 0 else 1000)), 0)
            assert shelves.size <= 2_000_000
        assert all(worker.get(at) for at in known)
        at = key()
        worker.keep(at, stored(b"z" * 3_000_000), 0)
        assert worker.get(at) == []


def write_for_ever(path: Path) -> None:
    """Keep long answers until somebody kills this process."""
    with asyncio.Runner() as runner, machine(path, 8_000_000) as shelves:
        worker = Shared(runner, shelves)
        for number in count():
            worker.keep(key(b"/killed/%d" % (number % 7)), stored(b"k" * 1_500_000), 0)


def test_a_worker_that_is_killed_while_it_writes(runner: asyncio.Runner, tmp_path: Path) -> None:
    """Nobody finds half an answer, the file goes on, and what it had written leaves in turn."""
    path = tmp_path / "file"
    context = multiprocessing.get_context("fork")
    with machine(path, 8_000_000):
        pass
    for number in range(3):
        child = context.Process(target=write_for_ever, args=(path,))
        child.start()
        with machine(path, 8_000_000) as shelves:
            worker = Shared(runner, shelves)
            runner.run(until(lambda shelves=shelves: shelves.size > 4_000_000))  # type: ignore[misc]
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            for at in range(7):
                for found in worker.get(key(b"/killed/%d" % at)):
                    assert body_of(found) == b"k" * 1_500_000
            for _ in range(20):
                at = key()
                worker.keep(at, stored(b"n" * 1_000_000), worker.since(at))
                assert len(worker.get(at)) == 1, number
            assert shelves.size <= 8_000_000


def test_leases(tmp_path: Path) -> None:
    """One worker has it, until it gives it back or dies; a lone key is known to all, for a while."""
    now = [100.0]
    first, second = (Leases(tmp_path / "leases", lambda: now[0]) for _ in range(2))
    taken = first.take(b"n" * 16)
    assert taken is not None
    assert second.take(b"n" * 16) is None
    other = second.take(b"m" * 16)
    assert other is not None
    taken.release()
    taken.release()
    again = second.take(b"n" * 16)
    assert again is not None
    assert first.take(b"n" * 16) is None
    second.close()
    assert first.take(b"n" * 16) is not None
    assert not first.lone(b"n" * 16)
    first.note_lone(b"n" * 16)
    assert first.lone(b"n" * 16)
    now[0] += 11
    assert not first.lone(b"n" * 16)
    first.close()
    assert first.take(b"n" * 16) is None
