"""Workers that agree on what is out: each tells the others what it has found, and what it was told it does not tell on."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from propylon.assembly.outages import SharedOutages
from propylon.errors import NotFound
from propylon.services.balance import round_robin
from propylon.services.breaker import Breaker, Circuit, Outcome, State
from propylon.services.fleet import Ejection, Fleet
from propylon.services.service import Service
from propylon.stores.siblings import MISSED
from propylon.stores.sums import LocalSums
from propylon.telemetry.events import Events
from propylon.telemetry.metrics import Metrics
from tests.services.test_fleet import named

CIRCUIT = Circuit(failure_threshold=2, min_throughput=1, recovery_timeout=60.0)


@dataclass
class World:
    """Workers that hear each other at once, a clock that is moved by hand, and everything that was told."""

    now: float = 1000.0
    workers: list["Worker"] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)  # who, and what

    def worker(self) -> "Worker":
        """One more, which asks what it missed."""
        worker = Worker(self, str(len(self.workers)))
        self.workers.append(worker)
        worker.outages.join()
        return worker


class Worker:
    """A worker with one service of four instances; also what it tells by."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.heard: Any = None
        self.outages = SharedOutages(self, Events(Metrics(LocalSums())), self)
        clock = lambda: world.now  # noqa: E731
        self.service = Service(
            "orders",
            Fleet(
                [named(letter) for letter in "abcd"],
                "orders",
                ejection=Ejection(2, 30.0, 0.5),
                clock=clock,
                wall=clock,
                listener=self.outages.instance,
            ),
            round_robin(),
            breaker=Breaker(
                "orders", CIRCUIT, clock=clock, wall=clock, listener=self.outages.circuit
            ),
        )

    @property
    def services(self) -> tuple[Service, ...]:
        """All that it has."""
        return (self.service,)

    def tell(self, topic: str, message: dict[str, Any], to: str | None = None) -> None:
        """Tell all others, or one."""
        self.world.told.append((self.name, message["op"]))
        for other in self.world.workers:
            if other is not self and to in (None, other.name):
                other.heard(message)

    def hear(self, topic: str, callback: Any) -> None:
        """Keep the callback."""
        self.heard = callback

    def fail(self, times: int = 2) -> None:
        """Have so many requests fail."""
        breaker = self.breaker
        for _ in range(times):
            breaker.settle(breaker.admit(), Outcome.FAILURE)

    @property
    def breaker(self) -> Breaker:
        """That of its service."""
        assert self.service.breaker is not None
        return self.service.breaker

    def out(self) -> str:
        """The instances that are ejected."""
        return "".join(instance_id for instance_id, _ in self.service.fleet.ejections())


@pytest.fixture
def world() -> World:
    """Three workers."""
    made = World()
    for _ in range(3):
        made.worker()
    made.told.clear()
    return made


def states(world: World) -> set[State]:
    """Of all breakers."""
    return {worker.breaker.state for worker in world.workers}


def test_a_service_that_is_down_is_found_out_once(world: World) -> None:
    """By the worker whose requests fail; the others refuse at once, and none tells on what it was told."""
    world.workers[1].fail()
    assert states(world) == {State.OPEN}
    assert world.told == [("1", "open")]
    assert len({worker.breaker.snapshot().reason for worker in world.workers}) == 1
    world.now += 60
    assert states(world) == {State.HALF_OPEN}


def test_one_probe_closes_all(world: World) -> None:
    """What one has found out holds for all."""
    world.workers[0].fail()
    world.now += 60
    breaker = world.workers[2].breaker
    breaker.settle(breaker.admit(), Outcome.SUCCESS)
    assert states(world) == {State.CLOSED}
    assert world.told == [("0", "open"), ("2", "closed")]


def test_a_probe_that_fails_opens_all(world: World) -> None:
    """Also the worker that has a probe of its own on its way: its outcome counts no more."""
    world.workers[0].fail()
    world.now += 60
    first, second = world.workers[1].breaker, world.workers[2].breaker
    early, late = first.admit(), second.admit()
    first.settle(early, Outcome.FAILURE)
    assert states(world) == {State.OPEN}
    second.settle(late, Outcome.SUCCESS)
    assert states(world) == {State.OPEN}


def test_an_instance_is_ejected_everywhere(world: World) -> None:
    """Until the same moment."""
    fleet = world.workers[0].service.fleet
    for _ in range(2):
        fleet.failed(fleet.instances[1])
    assert [worker.out() for worker in world.workers] == ["b", "b", "b"]
    assert world.told == [("0", "ejected")]
    world.now += 30
    assert [worker.out() for worker in world.workers] == ["", "", ""]


def test_a_replacement_asks_what_is_out(world: World) -> None:
    """It must not find out for itself, with requests of clients."""
    world.workers[0].fail()
    fleet = world.workers[1].service.fleet
    for _ in range(2):
        fleet.failed(fleet.instances[2])
    world.now += 10
    new = world.worker()
    assert (new.breaker.state, new.out()) == (State.OPEN, "c")
    world.now += 50
    assert states(world) == {State.HALF_OPEN}


def test_a_worker_that_missed_something_asks(world: World) -> None:
    """It was stopped by a debugger, say."""
    deaf = world.workers.pop()
    world.workers[0].fail()
    world.workers.append(deaf)
    assert deaf.breaker.state is State.CLOSED
    deaf.heard(MISSED)
    assert deaf.breaker.state is State.OPEN


def test_news_of_what_is_not_here_are_passed_over(world: World) -> None:
    """A reload takes a moment longer in one worker than in another."""
    hear = world.workers[0].heard
    hear({"op": "open", "service": "gone", "at": world.now, "why": ""})
    hear({"op": "closed", "service": "gone"})
    hear({"op": "ejected", "service": "gone", "id": "a", "until": world.now + 9})
    hear({"op": "open", "service": "orders", "at": world.now - 60.0, "why": ""})
    assert states(world) == {State.CLOSED}


# What an operator says


def test_a_breaker_that_is_opened_by_hand_stays_open_everywhere() -> None:
    """Until it is closed by hand, also in a worker that comes later, and whatever the time."""
    world = World()
    first, second = world.worker(), world.worker()
    first.outages.force("orders", "ann opened it by hand")
    late = world.worker()
    world.now += 3600.0
    for worker in (first, second, late):
        snapshot = worker.service.breaker.snapshot() if worker.service.breaker else None
        assert snapshot is not None
        assert (snapshot.state, snapshot.held) == (State.OPEN, True)
        assert (snapshot.reason, snapshot.retry_after) == ("ann opened it by hand", None)
    second.outages.reset("orders")
    for worker in (first, second, late):
        assert worker.service.breaker is not None
        assert worker.service.breaker.state is State.CLOSED
        assert worker.service.breaker.trip is None


def test_a_probe_elsewhere_does_not_close_what_an_operator_opened() -> None:
    """The message of a probe that ended before the operator's may come after it."""
    world = World()
    worker = world.worker()
    worker.outages.force("orders", "ann")
    worker.heard({"op": "closed", "service": "orders"})
    worker.heard({"op": "open", "service": "orders", "at": world.now, "why": "5 of 5 failed"})
    assert worker.service.breaker is not None
    assert worker.service.breaker.trip == (1000.0, "ann", True)


def test_an_instance_is_drained_everywhere() -> None:
    """It is no candidate in any worker, a late one included, until it is restored; its fleet tells of it once."""
    world = World()
    first, second = world.worker(), world.worker()
    first.outages.drain("orders", "b", drained=True)
    first.outages.drain("orders", "b", drained=True)
    late = world.worker()
    for worker in (first, second, late):
        assert [one.id for one in worker.service.fleet.candidates()] == ["a", "c", "d"]
    for name in "acd":
        first.outages.drain("orders", name, drained=True)
    assert second.service.fleet.candidates() == ()
    for name in "abcd":
        late.outages.drain("orders", name, drained=False)
    assert all(len(worker.service.fleet.candidates()) == 4 for worker in world.workers)


@pytest.mark.parametrize("service", ["orders", "nothing"])
def test_what_is_not_there_cannot_be_drained_or_opened(service: str) -> None:
    """The operator is told so, and no worker hears of it."""
    world = World()
    worker = world.worker()
    world.worker()
    told = len(world.told)
    with pytest.raises(NotFound):
        worker.outages.drain(service, "z", drained=True)
    if service == "nothing":
        with pytest.raises(NotFound):
            worker.outages.force(service, "ann")
    assert len(world.told) == told
