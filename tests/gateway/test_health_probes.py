"""Probes, ejection and /health of a real gateway, before real instances."""

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway, free_port
from tests.support.upstream import Arrived, Peer, Script, Upstream
from tests.support.waiting import wait

# What is looked at does not depend on how requests come in: one edge shows it.
EDGE = "fast"
INTERVAL = 0.1
EJECTED_FOR = 1.0
# On a busy machine nobody who is well may look ill; only where somebody hangs, it has to show soon.
HEALTH = {"path": "/up", "interval": INTERVAL, "timeout": 20}
HASTY = {**HEALTH, "timeout": 0.3}
ILL = answers.plain("503 Service Unavailable")
BROKEN = answers.plain("500 Broken")


def url(up: Upstream) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{up.port}"


class Instances:
    """The upstreams behind every service."""

    def __init__(self) -> None:
        self.one, self.two = Upstream(), Upstream()  # of "pair", probed
        self.alone = Upstream()  # probed
        self.slow = Upstream()  # probed, and given up soon
        self.unsaid = Upstream()  # not probed
        self.left, self.right = Upstream(), Upstream()  # of "shaky", which ejects
        self.narrow = Upstream()  # one connection, and probed

    @property
    def all(self) -> list[Upstream]:
        """Every one of them."""
        return list(vars(self).values())

    def services(self) -> dict[str, Any]:
        """What the configuration says of them."""
        once = {"attempts": 1}
        quiet = {"failure_threshold": 1000, "min_throughput": 1000}
        return {
            "pair": {"instances": [url(self.one), url(self.two)], "health": HEALTH},
            "alone": {"url": url(self.alone), "health": HEALTH},
            "slow": {"url": url(self.slow), "health": HASTY},
            "unsaid": {"url": url(self.unsaid)},
            "shaky": {
                "instances": [url(self.left), url(self.right)],
                "ejection": {"failures": 2, "time": EJECTED_FOR, "max": "50%"},
                "retry": once,
                "circuit": quiet,
            },
            "narrow": {"url": url(self.narrow), "max_connections": 1, "health": HEALTH},
        }


def configuration(services: dict[str, Any]) -> dict[str, Any]:
    """A route to each service."""
    routes = [{"path": f"/{name}", "service": name, "strip_prefix": True} for name in services]
    return {"services": services, "routes": routes, "defaults": {"auth": "none"}}


@pytest.fixture(scope="module")
def instances() -> Iterator[Instances]:
    """All of them."""
    found = Instances()
    yield found
    for up in found.all:
        up.close()


@pytest.fixture(scope="module")
def looked_after(
    instances: Instances, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before them; it ends cleanly, with probes under way."""
    folder = tmp_path_factory.mktemp("looked_after")
    running = Gateway(EDGE, configuration(instances.services()), folder)
    running.wait_ready()
    yield running
    ends_cleanly(running)


@pytest.fixture
def well(instances: Instances, looked_after: Gateway) -> Iterator[Instances]:
    """Every instance well again, and known to be."""
    for up in instances.all:
        up.reset()
    probed = (instances.one, instances.two, instances.alone, instances.slow, instances.narrow)
    wait(lambda: all(condition(looked_after, up) == "healthy" for up in probed))
    while "ejected" in (condition(looked_after, up) for up in (instances.left, instances.right)):
        ask_service(looked_after, "shaky")  # whoever asks finds that the time is over
        time.sleep(0.02)
    for up in instances.all:
        up.reset()
    yield instances
    assert [up.faults for up in instances.all] == [[]] * len(instances.all)


class Troubled:
    """A gateway whose services are all in some trouble, and the upstreams behind them."""

    def __init__(self, folder: Path) -> None:
        self.fine, self.broken, self.silent = Upstream(), Upstream(), Upstream()
        self.mortal, self.late = Upstream(), Upstream()
        self.broken.on("/health", BROKEN)
        self.broken.on("/mine", BROKEN)
        self.silent.on("/health", answers.hang)
        self.late.on("/up", answers.hang)
        services = {
            "fine": {"url": url(self.fine)},
            "broken": {"url": url(self.broken)},
            **{f"hanging{number}": {"url": url(self.silent)} for number in range(3)},
            "closed": {"url": f"http://127.0.0.1:{free_port()}"},
            "both": {
                "instances": [url(self.broken), url(self.fine)],
                "ejection": {"failures": 1, "time": "60s"},
                "retry": {"attempts": 1},
            },
            "empty": {},
            "mortal": {"url": url(self.mortal), "health": HEALTH},
            "late": {
                "url": url(self.late),
                "health": {"path": "/up", "interval": "60s", "timeout": "60s"},
            },
        }
        self.gateway = Gateway(EDGE, configuration(services), folder)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """The gateway; it ends cleanly, with hanging probes under way."""
    found = Troubled(tmp_path_factory.mktemp("troubled"))
    found.gateway.wait_ready()
    yield found
    ends_cleanly(found.gateway)
    for up in (found.fine, found.broken, found.silent, found.late, found.mortal):
        up.close()


def ends_cleanly(gateway: Gateway) -> None:
    """Stop it, and see that it has nothing to complain of."""
    assert gateway.stop() == 0, gateway.said()
    for trouble in ("Traceback", "never retrieved", "was destroyed", "never awaited"):
        assert trouble not in gateway.said()


def health(gateway: Gateway) -> dict[str, Any]:
    """What /health says."""
    answer = ask(gateway.port, target="/health")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def statuses(gateway: Gateway) -> dict[str, str]:
    """The status of each service."""
    return {name: one["status"] for name, one in health(gateway)["services"].items()}


def asked(up: Upstream, path: bytes = b"/mine") -> list[Arrived]:
    """What arrived there, probes left out."""
    return [arrived for arrived in list(up.requests) if arrived.target == path]


def probes(up: Upstream, path: bytes = b"/up") -> list[Arrived]:
    """The probes that arrived there."""
    return asked(up, path)


def ask_service(gateway: Gateway, name: str, method: str = "GET") -> Answer:
    """Ask a service through the gateway."""
    return ask(gateway.port, method, f"/{name}/mine")


def news(gateway: Gateway, up: Upstream) -> list[str]:
    """What the log says of an instance: what became of it, and why."""
    start = f"instance 127.0.0.1:{up.port} of "
    said = [str(line.get("event")) for line in gateway.lines()]
    return [line.partition(" -> ")[2] for line in said if line.startswith(start)]


def condition(gateway: Gateway, up: Upstream) -> str:
    """What became of an instance last."""
    return next((line.split(" (")[0] for line in reversed(news(gateway, up))), "")


# Probes govern who is asked


def test_requests_are_shared_between_the_well(looked_after: Gateway, well: Instances) -> None:
    """Ten requests to two instances are five each; one falls ill, and all go to the other."""
    for _ in range(10):
        assert ask_service(looked_after, "pair").status == 200
    assert (len(asked(well.one)), len(asked(well.two))) == (5, 5)
    well.one.on("/up", ILL)
    wait(lambda: condition(looked_after, well.one) == "unhealthy")
    for _ in range(10):
        assert ask_service(looked_after, "pair").status == 200
    assert (len(asked(well.one)), len(asked(well.two))) == (5, 15)
    wait(lambda: statuses(looked_after)["pair"] == "degraded")
    well.one.on("/up", answers.plain())
    wait(lambda: condition(looked_after, well.one) == "healthy")
    for _ in range(10):
        assert ask_service(looked_after, "pair").status == 200
    assert (len(asked(well.one)), len(asked(well.two))) == (10, 20)


@pytest.mark.parametrize(
    ("name", "script", "verdict"),
    [
        ("alone", ILL, "unhealthy (status 503)"),
        ("alone", answers.plain("302 Found", ["Location: /elsewhere"]), "unhealthy (status 302)"),
        ("alone", lambda peer, arrived: peer.close(), "failed (The upstream closed the connection"),
        # Who gives up first, the exchange or the probe, is not said.
        ("slow", answers.hang, "failed ("),
        ("slow", answers.endless(b"a", b"HTTP/1.1 200 OK\r\nX-Slow: ", pause=0.02), "failed ("),
    ],
    ids=["503", "302", "closes", "hangs", "drips"],
)
def test_nobody_well(
    looked_after: Gateway, well: Instances, name: str, script: Script, verdict: str
) -> None:
    """The only instance falls ill: 503 at once, with since when; the log says why; it recovers."""
    up: Upstream = getattr(well, name)
    up.on("/up", script)
    wait(lambda: ask_service(looked_after, name).status == 503)
    before = len(asked(up))
    answer = ask_service(looked_after, name)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    details = answer.json()["error"]["details"]
    assert details["service"] == name
    assert datetime.now(UTC) - datetime.fromisoformat(details["last_check"]) < timedelta(minutes=1)
    assert len(asked(up)) == before
    wait(lambda: condition(looked_after, up) == verdict.partition(" (")[0])
    assert news(looked_after, up)[-1].startswith(verdict)
    up.on("/up", answers.plain("204 No Content"))
    wait(lambda: ask_service(looked_after, name).status == 200)


def test_before_the_first_verdict(troubled: Troubled) -> None:
    """As long as no probe has ended, an instance is tried; nobody who asks waits for that end."""
    wait(lambda: probes(troubled.late))
    assert ask_service(troubled.gateway, "late").status == 200
    assert statuses(troubled.gateway)["late"] == "unhealthy"
    assert ask_service(troubled.gateway, "late").status == 200


def test_an_instance_that_is_gone(troubled: Troubled) -> None:
    """Nobody listens any more: failed, and nobody is sent there."""
    wait(lambda: condition(troubled.gateway, troubled.mortal) == "healthy")
    troubled.mortal.close()
    wait(lambda: condition(troubled.gateway, troubled.mortal) == "failed")
    answer = ask_service(troubled.gateway, "mortal")
    assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"


def test_what_a_probe_looks_like(looked_after: Gateway, well: Instances) -> None:
    """A plain GET, marked as ours, on a connection of its own; of nobody's identity."""
    wait(lambda: probes(well.alone))
    probe = probes(well.alone)[-1]
    assert (probe.method, probe.get("host")) == ("GET", f"127.0.0.1:{well.alone.port}")
    assert (probe.get("user-agent"), probe.get("connection")) == ("propylon-health", "close")
    assert probe.names == {"host", "user-agent", "connection"}
    assert ask_service(looked_after, "alone").status == 200
    assert asked(well.alone)[0].connection not in {one.connection for one in probes(well.alone)}


def test_probes_come_at_intervals(looked_after: Gateway, well: Instances) -> None:
    """One after the other, never a flood; whoever asks /health adds none."""
    began = time.monotonic()
    wait(lambda: len(probes(well.alone)) >= 7)
    for _ in range(20):
        health(looked_after)
    lasted = time.monotonic() - began
    assert len(probes(well.alone)) <= lasted / (0.9 * INTERVAL) + 2
    starts = [one.started for one in probes(well.alone)]
    # The first may arrive late on a busy machine, and then the next follow sooner.
    assert starts[-1] - starts[0] > 0.3 * INTERVAL * (len(starts) - 1)


def test_an_instance_in_full_use_is_not_ill(looked_after: Gateway, well: Instances) -> None:
    """Probes wait for no connection that requests hold."""
    well.narrow.on("/mine", answers.hang)
    with RawClient(looked_after.port) as client:
        client.send(request(target="/narrow/mine"))
        wait(lambda: asked(well.narrow))
        before, said = len(probes(well.narrow)), news(looked_after, well.narrow)
        wait(lambda: len(probes(well.narrow)) > before + 6)
        assert news(looked_after, well.narrow) == said


# Where nothing was said


def test_unsaid_nobody_is_probed_until_somebody_asks(
    looked_after: Gateway, well: Instances
) -> None:
    """Then once a second, however many ask; and any answer below 500 is well."""
    assert probes(well.unsaid, b"/health") == []
    well.unsaid.on("/health", answers.plain("404 Not Found"))
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: statuses(looked_after)["unsaid"], range(8)))
    assert found == ["healthy"] * 8
    assert len(probes(well.unsaid, b"/health")) <= 1 + int(time.monotonic() - began)
    wait(lambda: statuses(looked_after)["unsaid"] == "healthy" and probes(well.unsaid, b"/health"))


def test_unsaid_routing_does_not_care(looked_after: Gateway, well: Instances) -> None:
    """An ill instance is shown, and asked all the same."""
    well.unsaid.on("/health", ILL)
    wait(lambda: statuses(looked_after)["unsaid"] == "unhealthy")
    assert ask_service(looked_after, "unsaid").status == 200


# Ejection


def broken_until(repaired: threading.Event) -> Script:
    """A script that fails until the event is set."""

    def script(peer: Peer, arrived: Arrived) -> None:
        (answers.plain() if repaired.is_set() else BROKEN)(peer, arrived)

    return script


def test_an_instance_that_fails_is_left_out_for_a_while(
    looked_after: Gateway, well: Instances
) -> None:
    """After two failures in a row nobody gets its errors any more; it comes back by itself."""
    repaired = threading.Event()
    well.left.on("/mine", broken_until(repaired))
    began = time.monotonic()
    found = [ask_service(looked_after, "shaky").status for _ in range(12)]
    if time.monotonic() - began < EJECTED_FOR:  # else the machine was too busy to tell
        assert found.count(500) == 2
        assert len(asked(well.left)) == 2
        assert found[-8:] == [200] * 8
    repaired.set()
    wait(lambda: ask_service(looked_after, "shaky").status == 200 and len(asked(well.left)) > 2)
    wait(lambda: condition(looked_after, well.left) != "ejected")
    assert news(looked_after, well.left)[-2] == "ejected (2 failures in a row)"
    assert news(looked_after, well.left)[-1].endswith(" (its time is over)")


def test_never_all_of_them(looked_after: Gateway, well: Instances) -> None:
    """When both fail, one stays: its errors are passed on, and are the breaker's business."""
    for up in (well.left, well.right):
        up.on("/mine", BROKEN)
    began = time.monotonic()
    found = [ask_service(looked_after, "shaky").status for _ in range(12)]
    assert found == [500] * 12
    assert len(asked(well.left)) + len(asked(well.right)) == 12
    if time.monotonic() - began < EJECTED_FOR:  # else the machine was too busy to tell
        assert 2 in (len(asked(well.left)), len(asked(well.right)))


def test_a_reload_forgets_no_ejection(troubled: Troubled) -> None:
    """What is known of an instance outlives a new configuration of its service."""
    gateway, bad = troubled.gateway, troubled.broken
    wait(lambda: ask_service(gateway, "both").status == 500)
    before = len(asked(bad))
    written = yaml.safe_load(gateway.file.read_text())
    written["services"]["both"]["instances"][1] = {"url": url(troubled.fine), "weight": 2}
    gateway.file.write_text(yaml.safe_dump(written))
    gateway.process.send_signal(signal.SIGHUP)
    wait(lambda: re.search(r"reload: [0-9]+ services", gateway.said()))
    assert [ask_service(gateway, "both").status for _ in range(9)] == [200] * 9
    assert len(asked(bad)) == before


# /health itself


def test_each_service_has_its_own_status(troubled: Troubled) -> None:
    """Well, broken, hanging and gone, each as it is; the hanging ones are waited for together."""
    expected = {
        "fine": "healthy",
        "broken": "unhealthy",
        "hanging0": "unhealthy",
        "hanging1": "unhealthy",
        "hanging2": "unhealthy",
        "closed": "unhealthy",
        "both": "degraded",
        "empty": "unknown",
    }
    found: dict[str, Any] = {}

    def as_expected() -> bool:  # on a busy machine one that is well may answer too late
        found.update(health(troubled.gateway))
        return {name: found["services"][name]["status"] for name in expected} == expected

    wait(as_expected)
    assert found["status"] == "degraded"
    assert "127.0.0.1" not in json.dumps(found)
    # Together: each had begun before any was given up.
    waiting = probes(troubled.silent, b"/health")[-3:]
    assert len(waiting) == 3
    wait(lambda: all(one.cancelled for one in waiting))
    assert max(one.started for one in waiting) < min(one.cancelled for one in waiting)
