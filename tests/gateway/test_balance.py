"""Who is asked: shares of real instances, what becomes of the load of one that fails, and second choices."""

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Config, Gateway
from tests.support.topology import Silence
from tests.support.upstream import Arrived, Peer, Script, Upstream

PATH = b"/x"
OUT = 0.2  # seconds that an instance is left out, the first time
ILL = answers.plain("503 Service Unavailable", body=b"ill")
BROKEN = answers.plain("500 Broken")


def lost(peer: Peer, arrived: Arrived) -> None:
    """Read the request and hang up."""
    peer.read_body(arrived)
    peer.close()


class Behind:
    """Three instances, one that is killed, and addresses where nobody is reached."""

    def __init__(self) -> None:
        self.three = (Upstream(), Upstream(), Upstream())
        self.mortal = Upstream()
        self.silence = Silence()
        self._refusing = socket.socket()  # bound, so that nobody else comes to listen there
        self._refusing.bind(("127.0.0.1", 0))
        self.refusal: int = self._refusing.getsockname()[1]

    def revive(self) -> None:
        """Start the one that is killed anew, where it was."""
        self.mortal.close()
        self.mortal = Upstream(port=self.mortal.port)

    def close(self) -> None:
        """Give all addresses back."""
        for each in (*self.three, self.mortal, self.silence, self._refusing):
            each.close()

    def services(self) -> dict[str, dict[str, Any]]:
        """Each for one case: turns and failures are remembered."""
        ports = [up.port for up in self.three]
        heavy, heavier = weighted(ports, 3), weighted(ports, 4)
        return {
            "turns": {"at": ports},
            "crowd": {"at": ports},
            "heavy": {"instances": heavy},
            "heavy-random": {"instances": heavier, "balance": "random"},
            "random": {"at": ports, "balance": "random"},
            "random-busy": {"at": ports[:2], "balance": "random"},
            "least-busy": {"at": ports[:2], "balance": "least_connections"},
            "mortal": {"at": [*ports[:2], self.mortal.port], "ejection": ejection(1, 0.1)},
            "others": {"at": ports[:2]},
            "hosts": {"at": ports[:2]},
            "refused": {"at": [self.refusal, ports[0]]},
            "refused-large": {"at": [self.refusal, ports[0]]},
            "silent": {"at": [self.silence.port, ports[0]], "timeouts": {"connect": 0.3}},
            "spared": {"at": ports[:2], "ejection": ejection(3, 60)},
            "again": {"at": ports[:2], "ejection": ejection(1, OUT), "retry": {"attempts": 1}},
            "most": {"at": ports, "ejection": ejection(1, 60)},
            "alone": {"at": ports[:1], "ejection": ejection(1, 60), "retry": {"attempts": 1}},
            "stale": {
                "at": ports[:2],
                "ejection": ejection(1, 60),
                "retry": {"attempts": 1},
                "circuit": {"failure_threshold": 1, "min_throughput": 1},
            },
            "stale-post": {"at": ports[:2]},
        }


def url(port: int) -> str:
    """Where an instance listens."""
    return f"http://127.0.0.1:{port}"


def weighted(ports: list[int], weight: int) -> list[dict[str, Any]]:
    """Two instances, the first of which is to get so much more."""
    return [{"url": url(ports[0]), "weight": weight}, {"url": url(ports[1])}]


def ejection(failures: int, out: float) -> dict[str, Any]:
    """Leave out half of them at the most."""
    return {"failures": failures, "time": out, "max": "50%"}


def configuration(behind: Behind) -> Config:
    """A route to each service; each has connections of its own."""
    services: dict[str, Any] = {}
    routes: list[dict[str, Any]] = []
    for number, (name, said) in enumerate(behind.services().items()):
        at = [url(port) for port in said.pop("at", ())]
        services[name] = {
            "max_connections": 1000 + number,
            "ejection": {"max": "0%"},
            "instances": at,
            **said,
            "retry": {"backoff": "10ms", "budget": "100%", **said.get("retry", {})},
        }
        broken = "circuit" in said
        routes.append(
            {"path": f"/{name}", "service": name, "strip_prefix": True, "circuit": broken}
        )
    return {"services": services, "routes": routes, "defaults": {"auth": "none"}}


@pytest.fixture(scope="module")
def running() -> Iterator[Behind]:
    """What stands behind both edges."""
    found = Behind()
    yield found
    found.close()


@pytest.fixture(scope="module")
def balancing(
    edge: str, running: Behind, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before them; it ends cleanly."""
    running.revive()
    gateway = Gateway(edge, configuration(running), tmp_path_factory.mktemp("balancing"))
    gateway.wait_ready()
    yield gateway
    status = gateway.stop()
    # uvicorn ends by the signal that stopped it: excused as "exit-status".
    assert status in ((0,) if edge == "fast" else (0, -15)), gateway.said()
    for trouble in ("Traceback", "never retrieved", "was destroyed", "never awaited"):
        assert trouble not in gateway.said()


@pytest.fixture
def behind(running: Behind) -> Iterator[Behind]:
    """The instances with empty records; whatever they got must have been beyond doubt."""
    every = (*running.three, running.mortal)
    for up in every:
        up.reset()
    yield running
    assert [up.faults for up in every] == [[]] * len(every)


def arrived_at(up: Upstream) -> list[Arrived]:
    """What arrived there, leaving aside what is only held."""
    return [arrived for arrived in list(up.requests) if arrived.target == PATH]


def counts(*ups: Upstream) -> list[int]:
    """How much arrived at each."""
    return [len(arrived_at(up)) for up in ups]


def on_each(behind: Behind, script: Script) -> None:
    """Have every instance do that."""
    for up in behind.three:
        up.on(PATH.decode(), script)


def ask_service(gateway: Gateway, name: str, method: str = "GET", body: bytes = b"") -> Answer:
    """Ask a service through the gateway."""
    return ask(gateway.port, method, f"/{name}/x", body=body)


def ask_often(gateway: Gateway, name: str, times: int) -> list[int]:
    """Ask it so many times, one after the other; return the statuses."""
    return [ask_service(gateway, name).status for _ in range(times)]


def wait(true: Callable[[], object], within: float = 5.0) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


# Shares


def test_turns_are_even(balancing: Gateway, behind: Behind) -> None:
    """Round robin: any three requests in a row go to three instances."""
    for turn in range(1, 5):
        assert ask_often(balancing, "turns", 3) == [200] * 3
        assert counts(*behind.three) == [turn] * 3


def test_turns_are_even_in_a_crowd(balancing: Gateway, behind: Behind) -> None:
    """Clients that come at the same time make no difference."""
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: ask_service(balancing, "crowd").status, range(60)))
    assert found == [200] * 60
    assert counts(*behind.three) == [20, 20, 20]


def test_weights_shift_the_turns(balancing: Gateway, behind: Behind) -> None:
    """3 to 1: six of eight, and never more than three in a row."""
    heavy, light, _ = behind.three
    for turn in range(1, 5):
        assert ask_often(balancing, "heavy", 4) == [200] * 4
        assert counts(heavy, light) == [3 * turn, turn]


def test_random_asks_everybody(balancing: Gateway, behind: Behind) -> None:
    """Nobody is left out in the long run."""
    assert ask_often(balancing, "random", 60) == [200] * 60
    assert sum(counts(*behind.three)) == 60
    assert min(counts(*behind.three)) > 0  # that one is never drawn: one in ten thousand millions


def test_weights_shift_chance(balancing: Gateway, behind: Behind) -> None:
    """4 to 1: the heavy one gets more, the light one some."""
    heavy, light, _ = behind.three
    assert ask_often(balancing, "heavy-random", 150) == [200] * 150
    # 120 are expected; 90 or fewer come once in fifty million times.
    assert counts(heavy)[0] > 90
    assert counts(light)[0] > 0


@pytest.mark.parametrize("name", ["least-busy", "random-busy"])
def test_the_busy_one_is_avoided(balancing: Gateway, behind: Behind, name: str) -> None:
    """While one of two has something in hand, the other gets all; then both are asked again."""
    one, two, _ = behind.three
    for up in (one, two):
        up.on("/held", answers.hang)
    with RawClient(balancing.port) as client:
        client.send(request(target=f"/{name}/held"))
        wait(lambda: one.requests or two.requests)
        busy, idle = (one, two) if one.requests else (two, one)
        assert ask_often(balancing, name, 8) == [200] * 8
        assert counts(busy, idle) == [0, 8]
        client.reset()
    wait(lambda: busy.requests[0].cancelled)
    wait(lambda: ask_service(balancing, name).status == 200 and counts(busy) != [0])


# Second choices


def test_another_instance_first(balancing: Gateway, behind: Behind) -> None:
    """Nobody is asked a second time while there is somebody who was not asked."""
    one, two, _ = behind.three
    one.on(PATH.decode(), ILL)
    assert ask_often(balancing, "others", 6) == [200] * 6
    assert counts(one, two) == [3, 6]
    on_each(behind, ILL)
    one.requests.clear()
    two.requests.clear()
    assert ask_often(balancing, "others", 1) == [503]
    assert sorted(counts(one, two)) == [1, 2]


def test_only_the_host_differs_from_instance_to_instance(
    balancing: Gateway, behind: Behind
) -> None:
    """A second attempt elsewhere has that instance's Host, and else it is the same, id and all."""
    on_each(behind, ILL)
    answer = ask_service(balancing, "hosts")
    heads = set()
    for up in behind.three[:2]:
        for arrived in arrived_at(up):
            host = f"127.0.0.1:{up.port}".encode()
            assert arrived.all("host") == [host]
            assert arrived.get("x-request-id") == answer.get("x-request-id")
            heads.add(arrived.head.replace(host, b"-"))
    assert min(counts(*behind.three[:2])) > 0
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("name", "size"), [("refused", 5), ("refused-large", 300_000), ("silent", 5)]
)
def test_a_post_that_never_left(balancing: Gateway, behind: Behind, name: str, size: int) -> None:
    """Without a connection it goes to the other instance, whole, and arrives there once."""
    body = b"order" * (size // 5)
    found = [ask_service(balancing, name, "POST", body) for _ in range(2)]
    assert [answer.status for answer in found] == [200, 200]
    # In turn: one of them began where nobody is reached.
    assert sorted(balancing.record(answer)["attempts"] for answer in found) == [1, 2]
    instance = f"127.0.0.1:{behind.three[0].port}"
    assert {balancing.record(answer)["instance"] for answer in found} == {instance}
    digest = hashlib.sha256(body).digest()
    assert [one.hash.digest() for one in arrived_at(behind.three[0])] == [digest] * 2


# Kept-alive connections that the upstream has closed


def test_a_stale_connection_is_no_failure(balancing: Gateway, behind: Behind) -> None:
    """A GET finds it closed: it is sent again though there is one attempt, and nobody is blamed."""
    assert ask_often(balancing, "stale", 2) == [200, 200]  # so that there are connections to both
    on_each(behind, answers.in_turn(lost, answers.plain()))
    answer = ask_service(balancing, "stale")
    assert answer.status == 200
    record = balancing.record(answer)
    assert (record["flags"], record["error"]) == (["stale_connection"], None)
    on_each(behind, answers.plain())
    one, two = counts(*behind.three[:2])
    # Neither the breaker nor ejection, which would act at the first failure, has heard of it.
    assert ask_often(balancing, "stale", 4) == [200] * 4
    assert counts(*behind.three[:2]) == [one + 2, two + 2]


def test_a_post_on_a_stale_connection_is_sent_once(balancing: Gateway, behind: Behind) -> None:
    """Nobody knows whether it was acted upon: 502, and neither instance sees it again."""
    assert ask_often(balancing, "stale-post", 2) == [200, 200]
    on_each(behind, lost)
    answer = ask_service(balancing, "stale-post", "POST", b"order")
    assert (answer.status, answer.json()["error"]["code"]) == (502, "UPSTREAM_ERROR")
    assert [one.method for up in behind.three for one in arrived_at(up)].count("POST") == 1


# Instances that fail


def test_the_load_of_one_that_is_killed_goes_to_the_others(
    balancing: Gateway, behind: Behind
) -> None:
    """It dies under load: no client gets an error, and the others have its share until it is back."""
    one, two, _ = behind.three
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask_service, balancing, "mortal") for _ in range(120)]
        wait(lambda: len(arrived_at(behind.mortal)) > 4)
        behind.mortal.close()
        assert {task.result().status for task in asked} == {200}
    for up in (one, two):
        up.requests.clear()
    assert ask_often(balancing, "mortal", 12) == [200] * 12
    assert sum(counts(one, two)) == 12
    assert min(counts(one, two)) >= 4
    behind.revive()
    wait(lambda: ask_service(balancing, "mortal").status == 200 and arrived_at(behind.mortal))


def test_one_that_fails_is_spared(balancing: Gateway, behind: Behind) -> None:
    """After `failures` in a row nobody asks it, and until then its failures are not the clients'."""
    one, two, _ = behind.three
    one.on(PATH.decode(), lost)
    assert ask_often(balancing, "spared", 12) == [200] * 12
    assert counts(one, two) == [3, 12]


def test_one_that_fails_again_is_left_out_for_longer(balancing: Gateway, behind: Behind) -> None:
    """The second time twice as long; and it comes back by itself each time."""
    behind.three[0].on(PATH.decode(), BROKEN)

    def returns() -> list[datetime]:
        ask_service(balancing, "again")  # whoever asks finds that the time is over
        return when(balancing, "again", "its time is over")

    wait(lambda: len(returns()) == 2)
    out, back = when(balancing, "again", "-> ejected"), when(balancing, "again", "is over")
    first, second = (later - gone for gone, later in zip(out, back, strict=False))
    assert first.total_seconds() >= 0.9 * OUT
    assert second.total_seconds() >= 0.9 * 2 * OUT


def when(gateway: Gateway, service: str, said: str) -> list[datetime]:
    """When the log said that of an instance of the service."""
    lines = [line for line in gateway.lines("instance") if said in str(line.get("event"))]
    ours = [line for line in lines if f'of "{service}"' in line["event"]]
    return [datetime.fromisoformat(line["time"]) for line in ours]


def test_no_more_than_half_are_left_out(balancing: Gateway, behind: Behind) -> None:
    """Of three, one: the second that fails is asked on, and its clients are sent to the third."""
    one, two, three = behind.three
    for up in (one, two):
        up.on(PATH.decode(), lost)
    assert ask_often(balancing, "most", 12) == [200] * 12
    assert counts(three) == [12]
    assert min(counts(one, two)) == 1
    assert max(counts(one, two)) > 3


def test_the_only_instance_is_never_left_out(balancing: Gateway, behind: Behind) -> None:
    """One alone is the breaker's business."""
    on_each(behind, BROKEN)
    assert ask_often(balancing, "alone", 6) == [500] * 6
    assert counts(behind.three[0]) == [6]
    assert balancing.record(ask_service(balancing, "alone"))["status"] == 500
    assert when(balancing, "alone", "-> ejected") == []
