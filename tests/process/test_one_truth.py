"""Whichever worker is asked answers for all: metrics, breakers."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.test_run import children, until
from tests.gateway.test_drain import only
from tests.process.test_workers import ADMIN, Start, start, starting_in
from tests.support.client import Ended, ask
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET
from tests.support.upstream import Arrived, Peer, Upstream

__all__ = ["start"]

COUNT = re.compile(r'propylon_requests_total\{[^}]*route="/up"[^}]*\} ([0-9.]+)')


# Each has a route of its name, and cases of its own: what one has done to it is no matter to the others.
SERVICES = ("up", "breaks", "fails")


def configuration(upstream: Upstream, folder: Path, **server: object) -> Config:
    """Services whose breakers open by two failures."""
    service = {
        "url": f"http://127.0.0.1:{upstream.port}",
        "circuit": {"failure_threshold": 2, "min_throughput": 2, "recovery_timeout": "60s"},
        "retry": {"attempts": 1},
    }
    few = {"path": "/few", "service": "up", "auth": "none", "rate_limit": {"rate": "5/h"}}
    return {
        "server": {"drain": "1s", **server},
        "auth": {
            "jwt": {"secret": SECRET},
            "tokens": {"database": f"sqlite:///{folder}/tokens.db"},
        },
        "services": dict.fromkeys(SERVICES, service),
        "routes": [few, *({"path": f"/{one}", "service": one, "auth": "none"} for one in SERVICES)],
    }


def counted(gateway: Gateway) -> float:
    """What the worker that is asked says of all."""
    answer = ask(gateway.port, target="/metrics")
    return sum(map(float, COUNT.findall(answer.body.decode())))


def each(gateway: Gateway, what: Callable[[], object]) -> list[object]:
    """What each worker answers."""
    workers = children(gateway.process.pid)
    found = []
    for pid in workers:
        with only(pid, workers):
            found.append(what())
    return found


def broken(peer: Peer, arrived: Arrived) -> None:
    """An upstream that fails."""
    peer.read_body(arrived)
    peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")


@dataclass
class Several:
    """A gateway with several workers, of its own or of uvicorn's, and what its services are."""

    gateway: Gateway
    upstream: Upstream
    own: bool


@pytest.fixture(scope="module", params=["propylon run", "uvicorn"])
def several(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Several]:
    """One of each for all cases that end no worker: uvicorn's are new interpreters, and take two seconds."""
    folder, own = tmp_path_factory.mktemp("several"), request.param == "propylon run"
    with Upstream() as upstream, starting_in(folder) as start:
        if own:
            gateway = start(configuration(upstream, folder, workers=3))
        else:
            shared = {"state_dir": str(folder / "shared")}
            gateway = start(configuration(upstream, folder, **shared), workers=2)
        yield Several(gateway, upstream, own)


def test_metrics_are_those_of_all_workers(several: Several) -> None:
    """Whoever counted them."""
    gateway = several.gateway
    for _ in range(40):
        assert ask(gateway.port, target="/up").status == 200
    if several.own:
        assert each(gateway, lambda: counted(gateway)) == [40.0] * 3
    else:
        assert {counted(gateway) for _ in range(8)} == {40.0}


def test_limits_are_those_of_all_workers(several: Several) -> None:
    """`/rate-limits` says what all workers decided: together, exactly what the limit allows."""
    gateway = several.gateway
    statuses = [ask(gateway.port, target="/few").status for _ in range(12)]
    assert (statuses.count(200), statuses.count(429)) == (5, 7)

    def decided() -> tuple[int, int]:
        answer = ask(gateway.port, target="/api/v1/rate-limits", headers=ADMIN)
        limit = answer.json()["route:/few/default"]
        return limit["allowed"], limit["refused"]

    assert {decided() for _ in range(12)} == {(5, 7)}


def test_metrics_do_not_fall_when_a_worker_is_killed(start: Start, tmp_path: Path) -> None:
    """By SIGKILL, under load: what it had counted stays, and its replacement goes on."""
    with Upstream() as upstream:
        gateway = start(configuration(upstream, tmp_path, workers=3))
        good, stop = [0], threading.Event()

        def load() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, Ended):  # its worker was killed
                    good[0] += ask(gateway.port, target="/up").status == 200

        thread = threading.Thread(target=load)
        thread.start()
        seen = [0.0]
        try:
            for _ in range(4):
                workers = children(gateway.process.pid)
                os.kill(workers[0], signal.SIGKILL)
                assert until(
                    lambda was=workers: sorted(children(gateway.process.pid)) != sorted(was)
                )
                assert until(lambda: len(children(gateway.process.pid)) == 3)
                for _ in range(5):
                    with contextlib.suppress(OSError, Ended):
                        seen.append(counted(gateway))
        finally:
            stop.set()
            thread.join()
        seen.append(counted(gateway))
    assert seen == sorted(seen)
    # An exchange counts when it has ended, and its answer may have been read a moment before.
    assert seen[-1] >= good[0] - 4


def test_a_breaker_opens_in_all_workers(several: Several) -> None:
    """Two failures in one of them are enough: no client of another one finds it out again."""
    gateway = several.gateway
    several.upstream.on("/breaks", broken)
    # Of so many requests two meet the same worker.
    statuses = [ask(gateway.port, target="/breaks").status for _ in range(40)]
    at = statuses.index(503)
    assert set(statuses[:at]) == {500}
    assert at <= 4
    assert set(statuses[at:]) == {503}

    def state() -> tuple[str, str]:
        answer = ask(gateway.port, target="/api/v1/circuits", headers=ADMIN)
        found = answer.json()["breaks"]
        return found["state"], found["reason"]

    # Here a stopped worker is left out of the answer, and the others know all the same.
    told = each(gateway, state) if several.own else [state() for _ in range(8)]
    assert {one for one, _ in told} == {"OPEN"}
    assert len({why for _, why in told}) == 1


def test_failures_of_all_workers_add_up(several: Several) -> None:
    """One failure in some of them opens no breaker, and whichever is asked tells of all."""
    gateway = several.gateway
    several.upstream.on("/fails", broken)
    assert ask(gateway.port, target="/fails").status == 500

    def failures() -> tuple[int, int]:
        circuit = ask(gateway.port, target="/api/v1/circuits", headers=ADMIN).json()["fails"]
        services = ask(gateway.port, target="/api/v1/services", headers=ADMIN).json()["services"]
        [instances] = [one["instances"] for one in services if one["name"] == "fails"]
        [instance] = instances
        return circuit["failures"], instance["failures"]

    assert {failures() for _ in range(12)} == {(1, 1)}
