"""The answers in memory: bounded by bytes, and what is asked for often stays."""

import pytest

from propylon.proxy.cache.judgement import Judgement
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.stored import Stored
from propylon.stores.answers.memory import MemoryAnswers, Sketch
from propylon.wire.message import Response


def key(number: int, path: bytes = b"") -> Key:
    """A key of its own."""
    return (b"place", b"http", b"a.test", path or b"/%d" % number, b"", b"")


def stored(
    size: int, *, vary: bytes = b"", tags: tuple[bytes, ...] = (), route: str = "r"
) -> Stored:
    """An answer of about that many bytes."""
    head = Response(200, b" 200 OK", b"", size, keep_alive=True)
    made = Stored(
        head, Judgement(lifetime=60.0, tags=tags), ((b"a", vary),) if vary else (), 0.0, route=route
    )
    made.complete(b"x" * size, size)
    return made


def put(answers: MemoryAnswers, number: int, size: int = 1000) -> None:
    """Keep one."""
    answers.put(key(number), stored(size), answers.generation(key(number)))


def test_it_is_bounded_by_bytes() -> None:
    """However many answers come, and of whatever size."""
    answers = MemoryAnswers(100_000)
    for number in range(500):
        put(answers, number, 100 + number * 7)
        assert answers.size <= 100_000
    kept = [(n, one.size) for n in range(500) for one in answers.get(key(n))]
    assert answers.size == sum(size + sum(map(len, key(n))) for n, size in kept)


@pytest.mark.parametrize("large", ["query", "vary", "tags"])
def test_what_clients_and_services_choose_counts(large: str) -> None:
    """Long queries, long values of headers that Vary names, and many tags, each with the shortest of answers."""
    answers = MemoryAnswers(1_000_000)
    for number in range(200):
        long = b"%d" % number + b"x" * 20_000
        at = (*key(number)[:4], long if large == "query" else b"", b"")
        tags = tuple(b"%d-%d" % (number, tag) for tag in range(40)) if large == "tags" else ()
        one = stored(1, vary=long if large == "vary" else b"", tags=tags)
        answers.put(at, one, answers.generation(at))
    assert 0 < len(answers) < 50
    assert answers.size <= 1_000_000


def test_a_scan_empties_nothing() -> None:
    """What was asked for often is still there after ten times as much was asked for once."""
    answers = MemoryAnswers(100_000)
    for number in range(30):
        put(answers, number)
    for _ in range(5):
        for number in range(30):
            answers.get(key(number))
    for number in range(1000, 1500):
        answers.get(key(number))
        put(answers, number)
    assert all(answers.get(key(number)) for number in range(30))


def test_what_becomes_popular_comes_in() -> None:
    """Yesterday's favourites give way."""
    answers = MemoryAnswers(50_000)
    for number in range(100):
        answers.get(key(number))
        put(answers, number)
    for _ in range(10):
        answers.get(key(7777))
    put(answers, 7777)
    for number in range(200, 210):
        put(answers, number)
    assert answers.get(key(7777))


def test_what_is_larger_than_all_is_not_kept() -> None:
    """And does not push out the others."""
    answers = MemoryAnswers(50_000)
    put(answers, 1)
    put(answers, 2, 60_000)
    assert answers.get(key(1))
    assert not answers.get(key(2))


def test_variants_of_a_key_are_bounded() -> None:
    """The newest ones stay; one that the same requests would get is replaced."""
    answers = MemoryAnswers(1_000_000)
    for number in range(40):
        answers.put(key(1), stored(10, vary=b"%d" % number), 0)
    answers.put(key(1), stored(10, vary=b"39"), 0)
    kept = [one.vary[0][1] for one in answers.get(key(1))]
    assert kept == [b"%d" % number for number in range(39, 23, -1)]


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ({"path": b"/a"}, [2, 3]),
        ({"path": b"/%61"}, [2, 3]),
        ({"tag": b"red"}, [1, 3]),
        ({"route": "other"}, [1, 2]),
        ({"route": "r", "tag": b"red"}, [1, 3]),
        ({"route": "other", "tag": b"red"}, [1, 2, 3]),
    ],
)
def test_purge(chosen: dict[str, bytes | str], left: list[int]) -> None:
    """All that is said has to fit; a path in each of its spellings."""
    answers = MemoryAnswers(1_000_000)
    answers.put(key(1, b"/a"), stored(10), 0)
    answers.put(key(2), stored(10, tags=(b"red",)), 0)
    answers.put(key(3), stored(10, route="other"), 0)
    answers.purge(**chosen)  # type: ignore[arg-type]
    found = [n for n, path in ((1, b"/a"), (2, b""), (3, b"")) if answers.get(key(n, path))]
    assert found == left


def test_what_was_asked_for_before_a_deletion_is_not_stored_after_it() -> None:
    """By path for one, by anything else for all; a thousand deletions later, too."""
    answers = MemoryAnswers(1_000_000)
    before = {n: answers.generation(key(n)) for n in (1, 2)}
    answers.invalidate((b"a.test", b"/1", b""))
    answers.put(key(1), stored(10), before[1])
    answers.put(key(2), stored(10), before[2])
    assert (answers.get(key(1)), len(answers.get(key(2)))) == ((), 1)
    for number in range(2000):
        answers.invalidate((b"a.test", b"/many/%d" % number, b""))
    answers.put(key(1), stored(10), before[1])
    assert answers.get(key(1)) == ()


def test_indices_hold_nothing_that_is_gone() -> None:
    """Whatever is put, replaced, dropped and purged."""
    answers = MemoryAnswers(30_000)
    for number in range(200):
        answers.put(key(number % 50), stored(500 + number, tags=(b"%d" % number,)), 0)
    answers.resize(1_000)
    answers.clear()
    assert (answers.size, len(answers)) == (0, 0)
    assert (answers._by_path, answers._by_tag, answers._by_route) == ({}, {}, {})


def test_the_sketch_forgets() -> None:
    """Counts are halved after a while, so that what was popular once does not stay for ever."""
    sketch = Sketch()
    for _ in range(20):
        sketch.add("old")
    assert sketch.count("old") == 15
    for number in range(700_000):
        sketch.add(number)
    assert sketch.count("old") < 15
