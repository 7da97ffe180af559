"""What is deleted in one worker is deleted in the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from propylon.assembly import answers as module
from propylon.assembly.answers import SharedAnswers
from propylon.errors import ServiceUnavailable
from propylon.stores.siblings import MISSED
from tests.stores.test_answers import key, stored


class Side:
    """The siblings, as one worker sees them: what is told arrives at once."""

    def __init__(self, name: str, sides: dict[str, Side]) -> None:
        self.name = name
        self._sides = sides
        self.heard: Callable[[dict[str, Any]], None] | None = None
        sides[name] = self

    @property
    def others(self) -> int:
        """How many there are besides this one."""
        return len(self._sides) - 1

    def tell(self, topic: str, message: dict[str, Any], to: str | None = None) -> None:
        """Tell all others, or one, as the sockets carry it."""
        carried = orjson.loads(orjson.dumps(message))
        for name, side in self._sides.items():
            if name != self.name and to in (None, name) and side.heard is not None:
                side.heard(carried)

    def hear(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        """Hand over what arrives."""
        self.heard = callback


@pytest.fixture
def workers() -> list[SharedAnswers]:
    """Three workers, each with two answers."""
    sides: dict[str, Side] = {}
    made = []
    for name in "abc":
        one = SharedAnswers(1_000_000, Side(name, sides))
        one.put(key(1), stored(10, tags=("ä".encode("latin-1"),)), 0)
        one.put(key(2), stored(10, route="other"), 0)
        made.append(one)
    return made


def left(workers: list[SharedAnswers]) -> list[tuple[int, int]]:
    """How many answers there are under each key."""
    return [(len(one.get(key(1))), len(one.get(key(2)))) for one in workers]


@pytest.mark.parametrize("chosen", [{"path": "/1"}, {"tag": "ä"}, {"route": "r"}])
def test_a_purge_is_done_everywhere(workers: list[SharedAnswers], chosen: dict[str, str]) -> None:
    """When it returns, no worker has the answers any more, and each has the others."""
    asyncio.run(workers[1].purge_everywhere(**{"route": None, "path": None, "tag": None, **chosen}))
    assert left(workers) == [(0, 1)] * 3


def test_an_invalidation_is_told(workers: list[SharedAnswers]) -> None:
    """A POST that one worker has served lets go of what the others have stored."""
    workers[0].invalidate((b"a.test", b"/2", b""))
    assert left(workers) == [(1, 0)] * 3


def test_a_worker_that_does_not_say_so_fails_the_purge(
    workers: list[SharedAnswers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of 204 is a promise."""
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    side: Any = workers[2]._workers
    side.heard = None
    with pytest.raises(ServiceUnavailable):
        asyncio.run(workers[0].purge_everywhere(path="/1"))
    assert left(workers)[:2] == [(0, 1)] * 2


def test_who_has_missed_something_keeps_nothing(workers: list[SharedAnswers]) -> None:
    """Nobody knows what was to be deleted."""
    side: Any = workers[0]._workers
    side.heard(MISSED)
    assert left(workers) == [(0, 0), (1, 1), (1, 1)]
