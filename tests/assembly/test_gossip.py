"""What registers with one worker, in all of them: messages that cross, come late, twice, or to a newcomer."""

import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest

from propylon.assembly import gossip as module
from propylon.assembly.gossip import SharedRegistry
from propylon.errors import InvalidRequest, NotFound
from propylon.stores.siblings import MISSED
from tests.proxy.doubles import instance
from tests.services.registrar import ALLOW, Names, World, said

Message = dict[str, Any]
ONE, TWO = "10.0.0.1", "10.0.0.2"
ID_ONE, ID_TWO = "10.0.0.1:80", "10.0.0.2:80"


class Post:
    """The ways from each worker to each other: what is told waits there until it is delivered."""

    def __init__(self, workers: int) -> None:
        self.ways: dict[tuple[int, int], deque[bytes]] = {
            way: deque() for way in itertools.permutations(range(workers), 2)
        }

    def tell(self, place: int, message: Message, to: int | None) -> None:
        """Put a message on its ways, as the sockets carry it."""
        for (source, target), waiting in self.ways.items():
            if source == place and to in (None, target):
                waiting.append(orjson.dumps(message))


class Side:
    """The siblings, as one worker sees them."""

    def __init__(self, post: Post, place: int) -> None:
        self.name = str(place)
        self._post = post

    def tell(self, topic: str, message: Message, to: str | None = None) -> None:
        """Tell all others, or one."""
        assert topic == "registry"
        self._post.tell(int(self.name), message, None if to is None else int(to))

    def hear(self, topic: str, callback: Callable[[Message], None]) -> None:
        """What is delivered is handed over by the test."""
        assert topic == "registry"


class Worker(World):
    """A registry that shares what it is told."""

    def __init__(self, moment: Callable[[], float], side: Side, ttl: float | None = None) -> None:
        super().__init__(ttl=ttl)
        registry = SharedRegistry(
            self.admission(*ALLOW),
            clock=lambda: self.now,
            connect=self.connect,
            create=self.service,
            on_change=lambda services: None,
        )
        registry.apply([self.service("orders")], self.admission(*ALLOW), ttl)
        registry.moment = moment
        registry.facts = side
        self.registry = self.shared = registry

    def hear(self, message: Message) -> None:
        """Do what another worker was told."""
        self.shared.hear(message)

    def leave(self, instance_id: str) -> None:
        """Deregister."""
        self.shared.deregister("orders", instance_id)


class Gateway:
    """Some workers, and a clock for all of them."""

    def __init__(self, workers: int = 2, ttl: float | None = None) -> None:
        self.ttl = ttl
        self.moments = 1000.0
        self.post = Post(workers)
        self.workers = [self.begin(place) for place in range(workers)]

    def moment(self) -> float:
        """The time of the machine: never the same twice."""
        self.moments += 1.0
        return self.moments

    def begin(self, place: int) -> Worker:
        """A worker that knows nothing."""
        return Worker(self.moment, Side(self.post, place), self.ttl)

    def restart(self, place: int) -> None:
        """A worker dies; the one in its place reads on, and asks."""
        self.workers[place] = self.begin(place)
        self.workers[place].shared.join(self.workers[place].shared.facts)

    def deliver(self, source: int, target: int) -> None:
        """Hand over the next message on a way, if there is one."""
        waiting = self.post.ways[source, target]
        if waiting:
            self.workers[target].hear(orjson.loads(waiting.popleft()))

    def settle(self) -> None:
        """Hand over everything, and what is answered."""
        while any(self.post.ways.values()):
            for way in self.post.ways:
                self.deliver(*way)

    def pass_time(self, seconds: float) -> None:
        """Let some pass, and let go of whoever sent no heartbeat."""
        for worker in self.workers:
            worker.now += seconds
            worker.shared.sweep()

    @property
    def ids(self) -> list[list[str]]:
        """Who is there, for each worker."""
        return [sorted(worker.ids()) for worker in self.workers]


def coming(at: float, host: str = ONE, lease: float | None = None, **rest: Any) -> Message:
    """What another worker tells of one that has registered."""
    told = asdict(said(host=host, **rest))
    return {"op": "register", "said": told, "addresses": [host], "at": at, "lease": lease}


def going(at: float, instance_id: str = ID_ONE) -> Message:
    """What another worker tells of one that has gone."""
    return {"op": "deregister", "service": "orders", "instance_id": instance_id, "at": at}


def test_what_one_is_told_the_others_learn() -> None:
    """Who comes, as it said itself, who goes; whoever told is not told."""
    gateway = Gateway(3)
    everything: dict[str, Any] = {
        "check_endpoint": "/ready?a=b",
        "check_interval": 7,
        "metadata": {"zone": "ä", "weights": [1, 2.5, None, {"a": True}]},
    }
    gateway.workers[0].register(host=ONE, **everything)
    assert gateway.ids == [[ID_ONE], [], []]
    gateway.settle()
    assert gateway.ids == [[ID_ONE]] * 3
    for worker in gateway.workers:
        assert worker.registry.registrations() == (said(host=ONE, **everything),)
        assert worker.probed == [ID_ONE]
        assert len(worker.pools) == 2
    gateway.workers[2].leave(ID_ONE)
    assert gateway.ids == [[ID_ONE], [ID_ONE], []]
    gateway.settle()
    assert gateway.ids == [[]] * 3
    assert [worker.probed for worker in gateway.workers] == [[]] * 3


def test_what_one_changes_all_change() -> None:
    """Checks and labels; an older registration that comes late does not bring them back."""
    gateway = Gateway(3)
    gateway.workers[0].register(host=ONE)
    late = gateway.post.ways[0, 2].copy()
    gateway.settle()
    changed = {"check_endpoint": "/live", "check_interval": 7.0, "metadata": {"zone": "b"}}
    gateway.workers[1].shared.update("orders", ID_ONE, **changed)
    gateway.settle()
    gateway.workers[2].hear(orjson.loads(late[0]))
    for worker in gateway.workers:
        assert worker.registry.registrations() == (said(host=ONE, **changed),)
        assert len(worker.pools) == 2


@pytest.mark.parametrize("times", [2, 5])
def test_the_same_message_again(times: int) -> None:
    """It changes nothing: no connection is opened anew, and no lease is renewed by it."""
    gateway = Gateway(ttl=10.0)
    worker = gateway.workers[0]
    for _ in range(times):
        worker.hear(coming(5.0))
        worker.now += 2
    assert (worker.ids(), len(worker.pools)) == ([ID_ONE], 2)
    assert worker.registry.lease("orders", ID_ONE) == 10.0 - 2 * times
    for _ in range(times):
        worker.hear(going(6.0))
    assert (worker.ids(), [pool.closed for pool in worker.pools]) == ([], [1, 1])


LIVES = {
    "it came": ([coming(1.0)], [ID_ONE]),
    "it came and went": ([coming(1.0), going(2.0)], []),
    "it came back": ([coming(1.0), going(2.0), coming(3.0)], [ID_ONE]),
    "and went again": ([coming(1.0), going(2.0), coming(3.0), going(4.0)], []),
    "it came twice": ([coming(1.0), coming(2.0, check_interval=7), going(3.0)], []),
}
ORDERS = [
    pytest.param([messages[place] for place in order], there, id=f"{name}, {order}")
    for name, (messages, there) in LIVES.items()
    for order in itertools.permutations(range(len(messages)))
    # Each may be told by another worker; but deregistrations reach everybody in their order.
    if len(order) < 4 or order.index(1) < order.index(3)
]


@pytest.mark.parametrize(("messages", "there"), ORDERS)
def test_in_whichever_order(messages: list[Message], there: list[str]) -> None:
    """What was told last is so, be it heard first."""
    worker = Gateway().workers[0]
    for message in messages:
        worker.hear(message)
    assert worker.ids() == there
    for message in messages:
        worker.hear(message)
    assert worker.ids() == there


def test_what_is_told_here_is_newer_than_what_was_told_there_before() -> None:
    """A message that was on its way undoes nothing, and what comes after it does."""
    gateway = Gateway()
    here, there = gateway.workers
    there.register(host=ONE)  # told, and not heard here so far
    with pytest.raises(NotFound):
        here.leave(ID_ONE)
    gateway.settle()
    assert gateway.ids == [[], []]
    here.register(host=ONE)
    there.register(host=ONE)
    here.leave(ID_ONE)
    here.register(host=ONE)
    gateway.settle()
    assert gateway.ids == [[ID_ONE], [ID_ONE]]


def test_one_is_no_other() -> None:
    """Neither another instance nor another service of the same instance is meant."""
    worker = Gateway().workers[0]
    worker.hear(going(9.0))
    worker.hear(coming(1.0, TWO))
    worker.hear(coming(1.0, ONE, port=81))
    worker.hear(coming(1.0, service="bills"))
    assert sorted(worker.ids()) == ["10.0.0.1:81", ID_TWO]
    assert worker.ids("bills") == [ID_ONE]


# Leases


def test_heartbeats_renew_everywhere() -> None:
    """Whichever worker gets them; without them it leaves everywhere, each for itself."""
    gateway = Gateway(3, ttl=10.0)
    gateway.workers[0].register(host=ONE)
    gateway.settle()
    for number in range(6):
        gateway.pass_time(9.0)
        gateway.workers[number % 3].registry.heartbeat("orders", ID_ONE)
        gateway.settle()
        leases = [worker.registry.lease("orders", ID_ONE) for worker in gateway.workers]
        assert leases == [10.0] * 3
    gateway.pass_time(10.0)
    gateway.settle()
    assert gateway.ids == [[]] * 3


def test_whoever_fell_silent_may_come_back() -> None:
    """That it left by itself is no deregistration."""
    gateway = Gateway(ttl=10.0)
    for _ in range(3):
        gateway.workers[1].register(host=ONE)
        gateway.settle()
        assert gateway.ids == [[ID_ONE]] * 2
        gateway.pass_time(10.0)
        assert gateway.ids == [[]] * 2


def test_a_heartbeat_brings_back_what_a_worker_has_lost() -> None:
    """It went there by itself (that worker was stopped, say), and is alive."""
    gateway = Gateway(3, ttl=10.0)
    gateway.workers[0].register(host=ONE)
    gateway.settle()
    gateway.workers[2].now += 10.0
    gateway.workers[2].shared.sweep()
    assert gateway.ids == [[ID_ONE], [ID_ONE], []]
    gateway.workers[1].registry.heartbeat("orders", ID_ONE)
    gateway.settle()
    assert gateway.ids == [[ID_ONE]] * 3


def test_old_news_shorten_no_lease() -> None:
    """Whoever introduces an instance may have heard of it longer ago."""
    gateway = Gateway(ttl=10.0)
    worker = gateway.workers[0]
    worker.hear(coming(1.0, lease=10.0))
    worker.hear(coming(1.0, lease=2.0))
    assert worker.registry.lease("orders", ID_ONE) == 10.0


def test_a_departure_of_somebody_who_is_not_here(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing comes of it; the next message is heard."""
    worker = Gateway().workers[0]
    with caplog.at_level(logging.INFO):
        worker.hear(going(1.0))
        worker.hear({**going(1.0), "service": "nobody"})
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    worker.hear(coming(2.0))
    assert worker.ids() == [ID_ONE]


# Newcomers


def test_a_worker_that_joins_late() -> None:
    """It asks, and learns of everybody; what it is told it tells nobody else."""
    gateway = Gateway(3)
    gateway.workers[0].register(host=ONE)
    gateway.workers[1].register(host=TWO, metadata={"a": 1})
    gateway.settle()
    gateway.restart(2)
    assert gateway.ids[2] == []
    gateway.deliver(2, 0)
    gateway.deliver(2, 1)
    assert not gateway.post.ways[0, 1]
    assert not gateway.post.ways[1, 0]
    gateway.settle()
    assert gateway.ids == [[ID_ONE, ID_TWO]] * 3
    assert len(gateway.workers[2].pools) == 4  # though both of the others introduced them
    assert [len(worker.pools) for worker in gateway.workers[:2]] == [4, 4]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_newcomer_is_not_told_of_the_dead(order: tuple[int, ...]) -> None:
    """Who left while it began is not brought back by a worker that has not heard of that yet."""
    gateway = Gateway(3)
    gateway.workers[0].register(host=ONE)
    gateway.settle()
    gateway.restart(2)
    gateway.workers[0].leave(ID_ONE)
    ways = [[(2, 1), (1, 2)], [(2, 0), (0, 2), (0, 2)], [(0, 1), (0, 2)]]
    for step in order:
        for way in ways[step]:
            gateway.deliver(*way)
    gateway.settle()
    assert gateway.ids == [[]] * 3


def test_a_newcomer_learns_who_has_left() -> None:
    """What was on its way to it before it began does not bring them back."""
    gateway = Gateway(3)
    gateway.workers[0].register(host=ONE)  # on its way to worker 2
    gateway.deliver(0, 1)
    gateway.workers[1].leave(ID_ONE)
    gateway.deliver(1, 2)  # its predecessor has heard it
    gateway.restart(2)
    gateway.deliver(2, 1)
    gateway.deliver(1, 2)
    gateway.deliver(0, 2)
    assert gateway.ids[2] == []
    gateway.settle()
    assert gateway.ids == [[]] * 3


def test_a_newcomer_prolongs_nothing() -> None:
    """It waits as long for the next heartbeat as the others do, however late it was told."""
    gateway = Gateway(ttl=10.0)
    gateway.workers[0].register(host=ONE)
    gateway.settle()
    gateway.workers[0].now += 7.0
    gateway.restart(1)
    gateway.settle()
    assert gateway.workers[1].registry.lease("orders", ID_ONE) == 3.0
    gateway.workers[1].registry.heartbeat("orders", ID_ONE)
    gateway.settle()
    leases = [worker.registry.lease("orders", ID_ONE) for worker in gateway.workers]
    assert leases == [10.0, 10.0]


def test_a_worker_that_did_not_listen() -> None:
    """What it was told is lost: it asks, and learns who has come and who has left."""
    gateway = Gateway()
    here, there = gateway.workers
    here.register(host=ONE)
    gateway.settle()
    kept = there.find("orders").instances
    here.register(host=TWO)
    here.register(host="10.0.0.3")
    here.leave(ID_TWO)
    gateway.post.ways[0, 1].clear()
    there.hear(dict(MISSED))
    gateway.settle()
    assert gateway.ids == [["10.0.0.1:80", "10.0.0.3:80"]] * 2
    assert there.find("orders").instances[: len(kept)] == kept
    assert len(there.pools) == 4
    here.leave(ID_ONE)
    gateway.post.ways[0, 1].clear()
    there.hear(dict(MISSED))
    gateway.settle()
    assert gateway.ids == [["10.0.0.3:80"]] * 2


def test_alone() -> None:
    """A worker without others tells nobody."""
    gateway = Gateway(1)
    gateway.workers[0].register(host=ONE)
    gateway.restart(0)
    assert gateway.ids == [[]]


# Rules and bounds


def test_rules_hold_here_too(caplog: pytest.LogCaptureFixture) -> None:
    """What these rules do not let in stays out, whoever says that it was let in."""
    worker = Gateway().workers[0]
    with caplog.at_level(logging.INFO):
        for host in ("192.0.2.1", "169.254.169.254", "2852039166", "nowhere.internal"):
            worker.hear(coming(1.0, host))
    assert (worker.ids(), worker.pools) == ([], [])
    assert len(caplog.records) == 4
    worker.hear({**coming(1.0), "addresses": []})
    assert worker.ids() == []


def test_nothing_is_looked_up_again() -> None:
    """The worker that was asked did: a name server that is slow here must not hold up the rest."""
    gateway = Gateway()
    worker = gateway.workers[0]
    worker.names = Names()
    worker.shared.apply(worker.shared.services(), worker.admission(*ALLOW), None)
    worker.hear({**coming(1.0, "one.internal"), "addresses": ["10.0.0.9"]})
    assert worker.ids() == ["one.internal:80"]


def test_an_instance_of_the_configuration_stays() -> None:
    """No worker takes it away, nor is it registered by what another one says."""
    worker = Gateway().workers[0]
    fixed = worker.service("fixed", instance(None, ONE))
    worker.shared.apply([fixed], worker.admission(*ALLOW), None)
    worker.hear(coming(1.0, service="fixed"))
    worker.hear({**going(2.0), "service": "fixed"})
    assert worker.ids("fixed") == [ID_ONE]
    assert worker.shared.registrations() == ()
    with pytest.raises(InvalidRequest):
        worker.shared.deregister("fixed", ID_ONE)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that left the latest are remembered; of those that are no more, nothing."""
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    gateway = Gateway(ttl=10.0)
    here, there = gateway.workers
    for number in range(1, 31):
        here.register(host=f"10.0.0.{number}")
        here.leave(f"10.0.0.{number}:80")
    gateway.settle()
    for worker in gateway.workers:
        assert [key[1] for key in worker.shared._went] == [
            f"10.0.0.{number}:80" for number in range(21, 31)
        ]
    for number in range(1, 31):
        here.register(host=f"10.0.0.{number}")
    gateway.settle()
    gateway.pass_time(10.0)
    assert [(worker.ids(), worker.shared._came) for worker in (here, there)] == [([], {})] * 2
