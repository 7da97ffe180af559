"""Whichever worker is asked answers for all: metrics, breakers."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_run import children, until
from tests.gateway.test_drain import only
from tests.process.test_workers import ADMIN, Start, start
from tests.support.client import Ended, ask
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET
from tests.support.upstream import Arrived, Peer, Upstream

__all__ = ["start"]

COUNT = re.compile(r'propylon_requests_total\{[^}]*route="/up"[^}]*\} ([0-9.]+)')


def configuration(upstream: Upstream, folder: Path, **server: object) -> Config:
    """A service whose breaker opens by two failures."""
    circuit = {"failure_threshold": 2, "min_throughput": 2, "recovery_timeout": "60s"}
    return {
        "server": {"drain": "1s", **server},
        "auth": {
            "jwt": {"secret": SECRET},
            "tokens": {"database": f"sqlite:///{folder}/tokens.db"},
        },
        "services": {
            "up": {
                "url": f"http://127.0.0.1:{upstream.port}",
                "circuit": circuit,
                "retry": {"attempts": 1},
            }
        },
        "routes": [
            {"path": "/up", "service": "up", "auth": "none"},
            {"path": "/few", "service": "up", "auth": "none", "rate_limit": {"rate": "5/h"}},
        ],
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


KINDS = pytest.mark.parametrize("workers", [0, 2], ids=["propylon run", "uvicorn"])


def started(start: Start, upstream: Upstream, folder: Path, workers: int) -> Gateway:
    """A gateway with several workers, of its own or of uvicorn's."""
    if workers:
        config = configuration(upstream, folder, state_dir=str(folder / "shared"))
        return start(config, workers=workers)
    return start(configuration(upstream, folder, workers=3))


@KINDS
def test_metrics_are_those_of_all_workers(start: Start, tmp_path: Path, workers: int) -> None:
    """Whoever counted them."""
    with Upstream() as upstream:
        gateway = started(start, upstream, tmp_path, workers)
        for _ in range(40):
            assert ask(gateway.port, target="/up").status == 200
        if workers:
            assert {counted(gateway) for _ in range(8)} == {40.0}
        else:
            assert each(gateway, lambda: counted(gateway)) == [40.0] * 3


@KINDS
def test_limits_are_those_of_all_workers(start: Start, tmp_path: Path, workers: int) -> None:
    """`/rate-limits` says what all workers decided: together, exactly what the limit allows."""
    with Upstream() as upstream:
        gateway = started(start, upstream, tmp_path, workers)
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
        gateway = started(start, upstream, tmp_path, 0)
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


@KINDS
def test_a_breaker_opens_in_all_workers(start: Start, tmp_path: Path, workers: int) -> None:
    """Two failures in one of them are enough: no client of another one finds it out again."""
    with Upstream() as upstream:
        gateway = started(start, upstream, tmp_path, workers)
        upstream.on("/up", broken)
        # Of so many requests two meet the same worker.
        statuses = [ask(gateway.port, target="/up").status for _ in range(40)]
        at = statuses.index(503)
        assert set(statuses[:at]) == {500}
        assert at <= 4
        assert set(statuses[at:]) == {503}

        def state() -> tuple[str, str]:
            answer = ask(gateway.port, target="/api/v1/circuits", headers=ADMIN)
            found = answer.json()["up"]
            return found["state"], found["reason"]

        # Here a stopped worker is left out of the answer, and the others know all the same.
        told = each(gateway, state) if not workers else [state() for _ in range(8)]
        assert {one for one, _ in told} == {"OPEN"}
        assert len({why for _, why in told}) == 1


@KINDS
def test_failures_of_all_workers_add_up(start: Start, tmp_path: Path, workers: int) -> None:
    """One failure in some of them opens no breaker, and whichever is asked tells of all."""
    with Upstream() as upstream:
        gateway = started(start, upstream, tmp_path, workers)
        upstream.on("/up/broken", broken)
        statuses = [ask(gateway.port, target="/up/broken").status for _ in range(1)]
        assert statuses == [500]

        def failures() -> tuple[int, int]:
            circuit = ask(gateway.port, target="/api/v1/circuits", headers=ADMIN).json()["up"]
            services = ask(gateway.port, target="/api/v1/services", headers=ADMIN).json()
            [instance] = services["services"][0]["instances"]
            return circuit["failures"], instance["failures"]

        assert {failures() for _ in range(12)} == {(1, 1)}
