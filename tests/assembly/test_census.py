"""All workers are asked for their part of an answer; one that is silent is left out."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from propylon.assembly import census as module
from propylon.assembly.census import Census
from propylon.stores.siblings import MISSED


class Worker:
    """A worker among others that hear it in the next turn of the loop; also what it tells by."""

    def __init__(self, among: list["Worker"], name: str, parts: int = 1) -> None:
        self.among = among
        self.name = name
        self.is_silent = False
        self.callback: Callable[[Any], None] | None = None
        self.sizes: list[int] = []
        self.census = Census(self)
        self.census.offer("a", lambda: [{"of": name, "at": at} for at in range(parts)])
        self.census.join()
        among.append(self)

    @property
    def others(self) -> int:
        """How many there are."""
        return len(self.among) - 1

    def tell(self, topic: str, message: dict[str, Any], to: str | None = None) -> None:
        """Tell all others, or one."""
        self.sizes.append(len(message.get("parts", ())))
        for other in self.among:
            if other is not self and to in (None, other.name) and not other.is_silent:
                assert other.callback is not None
                asyncio.get_running_loop().call_soon(other.callback, message)

    def hear(self, topic: str, callback: Callable[[Any], None]) -> None:
        """Keep the callback."""
        self.callback = callback


def told(worker: Worker) -> list[tuple[str, int]]:
    """What a worker answers for all."""
    return [(part["of"], part["at"]) for part in asyncio.run(worker.census.gather("a"))]


def test_alone_it_answers_for_itself() -> None:
    """Without waiting for anybody."""
    assert told(Worker([], "0")) == [("0", 0)]


def test_it_answers_for_all() -> None:
    """Its own part first."""
    among: list[Worker] = []
    workers = [Worker(among, str(at), parts=at) for at in range(4)]
    found = told(workers[2])
    assert found[:2] == [("2", 0), ("2", 1)]
    assert sorted(found[2:]) == [("1", 0), ("3", 0), ("3", 1), ("3", 2)]


def test_many_parts_come_in_pieces() -> None:
    """A message has a largest size."""
    among: list[Worker] = []
    first, second = Worker(among, "0"), Worker(among, "1", parts=50)
    assert told(first) == [("0", 0), *(("1", at) for at in range(50))]
    assert second.sizes == [16, 16, 16, 2]


def test_a_silent_worker_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without it is better than none; one that comes late changes nothing."""
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    among: list[Worker] = []
    first, second, third = (Worker(among, name) for name in "012")
    second.is_silent = True
    assert sorted(told(first)) == [("0", 0), ("2", 0)]
    assert first.callback is not None
    first.callback({"op": "parts", "number": 1, "parts": [{"of": "1", "at": 0}], "last": True})
    first.callback(MISSED)
    second.is_silent = False
    assert len(told(third)) == 3


def test_what_a_worker_has_not_it_does_not_say() -> None:
    """One of an older table, say."""
    among: list[Worker] = []
    first, second = Worker(among, "0"), Worker(among, "1")
    first.census.offer("b", lambda: [{"x": 1}])
    assert asyncio.run(first.census.gather("b")) == [{"x": 1}]
    with pytest.raises(KeyError):
        asyncio.run(second.census.gather("b"))


def test_two_questions_at_once() -> None:
    """Each gets its own answer."""
    among: list[Worker] = []
    first = Worker(among, "0")
    Worker(among, "1")

    async def main() -> list[list[Any]]:
        return await asyncio.gather(*(first.census.gather("a") for _ in range(3)))

    assert [len(found) for found in asyncio.run(main())] == [2, 2, 2]
