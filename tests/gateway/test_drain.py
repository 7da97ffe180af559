"""Ends in two steps, and workers: each of them is told, drained and replaced, and none takes others along."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_run import children, is_alive, until
from tests.support.beside import side_by_side
from tests.support.client import Ended, RawClient, ask, request
from tests.support.gateway import Config, Gateway
from tests.support.upstream import Arrived, Peer, Upstream
from tests.support.waiting import wait

STOPPING = "stopping: unready from now on"


@contextlib.contextmanager
def started(
    config: Config, folder: Path, *, app: str = "", patience: str = ""
) -> Iterator[Gateway]:
    """A gateway that answers; `patience` changes the constants of its supervisor."""
    first = f"import propylon.process.supervisor as s; {patience}" if patience else ""
    gateway = Gateway("fast", config, folder, app=app, first=first)
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        for pid in gateway.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        gateway.kill()


class Slow(Upstream):
    """An upstream that finishes nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__(fallback=self.answer)
        self.go = threading.Event()

    def answer(self, peer: Peer, arrived: Arrived) -> None:
        """Answer at once, or begin, or wait before that, as the path has it."""
        peer.read_body(arrived)
        if arrived.target == b"/up/stream":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nbegun, ")
            self._wait(peer)
            peer.send(b"and end")
            return
        if arrived.target == b"/up/late":
            self._wait(peer)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def under_way(self) -> int:
        """How many requests wait for the word."""
        return sum(one.target in {b"/up/stream", b"/up/late"} for one in self.requests)

    def _wait(self, peer: Peer) -> None:
        while not self.go.is_set():
            peer.pause(0.01)


Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a gateway that ends with the case; what may be said of it is what `started` takes."""
    with contextlib.ExitStack() as stack:
        yield lambda config, **more: stack.enter_context(started(config, tmp_path, **more))


@pytest.fixture
def slow() -> Iterator[Slow]:
    """The upstream of a case."""
    with Slow() as upstream:
        yield upstream
        assert upstream.faults == []


def configuration(slow: Slow, **server: Any) -> Config:
    """A gateway in front of it."""
    return {
        "server": {"drain": "60s", **server},
        "services": {"up": {"url": f"http://127.0.0.1:{slow.port}"}},
        "defaults": {"auth": "none"},
        "routes": [{"path": "/up", "service": "up"}],
    }


def workers(gateway: Gateway) -> list[int]:
    """The processes that serve."""
    return children(gateway.process.pid)


@contextlib.contextmanager
def only(pid: int, of: list[int]) -> Iterator[None]:
    """Have new connections accepted by one worker: the others stand still."""
    others = [one for one in of if one != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        # The signal is not there at once: until then it could accept the connection that it does not answer.
        wait(lambda: all(_stands_still(other) for other in others))
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def is_refused(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        RawClient(port).sock.close()
    except ConnectionRefusedError:
        return True
    return False


# Two steps


DELAY = 5  # seconds in which everything that is asked of an unready gateway has been asked


@pytest.fixture(scope="module", autouse=True)
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """It waits for its delay, mostly: it begins with the first case, and the last one looks at it."""
    scenario = partial(take_two_steps, tmp_path_factory.mktemp("two"))
    with side_by_side({"two": scenario}) as running:
        yield running["two"]


def take_two_steps(folder: Path) -> None:
    """Stop a gateway with two workers while each of them has something in flight."""
    with Slow() as slow, contextlib.ExitStack() as stack:
        config = configuration(slow, workers=2, drain_delay=DELAY)
        gateway = stack.enter_context(started(config, folder))
        pids = workers(gateway)

        def connect(target: str) -> RawClient:
            client = stack.enter_context(RawClient(gateway.port, timeout=30))
            return client.send(request(target=target))

        kept: list[dict[str, RawClient]] = []
        for pid in pids:
            with only(pid, pids):
                kept.append({to: connect("/up") for to in ("/readyz", "/health", "/livez", "/up")})
                assert [one.read().status for one in kept[-1].values()] == [200] * 4
                late, stream = connect("/up/late"), connect("/up/stream")
                assert until(lambda: slow.under_way() == 2 * len(kept))
            kept[-1] |= {"late": late, "stream": stream}
        gateway.process.terminate()
        assert until(lambda: gateway.said().count(STOPPING) == 2)
        check_unready_and_serving(gateway, kept)
        # Then it listens no more, and what is in flight goes on.
        assert until(lambda: is_refused(gateway.port), 30)
        assert gateway.process.poll() is None
        slow.go.set()
        for one in kept:
            answer = one["late"].read()
            assert (answer.status, answer.body, answer.complete) == (200, b"ok", True)
            assert answer.get("connection") == "close"
            assert one["stream"].read().body == b"begun, and end"
            assert one["late"].is_closed()
            assert one["stream"].is_closed()
        assert gateway.process.wait(20) == 0, gateway.said()
        assert [pid for pid in pids if is_alive(pid)] == []
        assert slow.faults == []


def check_unready_and_serving(gateway: Gateway, kept: list[dict[str, RawClient]]) -> None:
    """Assert it of old connections and new ones, each for the last time; a reload changes nothing of it."""
    for one in kept:
        found = {to: one[to].send(request(target=to)).read() for to in list(one)[:4]}
        statuses = {to: answer.status for to, answer in found.items()}
        assert statuses == {"/readyz": 503, "/health": 503, "/livez": 200, "/up": 200}
        assert found["/readyz"].json()["status"] == "draining"
        assert found["/health"].json()["status"] == "unhealthy"
        assert {answer.get("connection") for answer in found.values()} == {"close"}
        assert all(one[to].is_closed() for to in found)
    gateway.process.send_signal(signal.SIGHUP)
    assert until(lambda: gateway.said().count("reload: 1 service, 1 route") == 2)
    for target, status in (("/up", 200), ("/readyz", 503)):
        answer = ask(gateway.port, target=target)
        assert (answer.status, answer.get("connection")) == (status, "close")


@pytest.mark.parametrize(("number", "count"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_the_second_signal_ends_it_at_once(
    start: Start, slow: Slow, number: signal.Signals, count: int
) -> None:
    """Neither the delay nor what is in flight is waited for; the exit is as orderly as the other."""
    gateway = start(configuration(slow, workers=count, drain_delay="60s"))
    pids = gateway.pids()
    with RawClient(gateway.port, timeout=30) as client:
        client.send(request(target="/up/stream"))
        assert until(slow.under_way)
        gateway.process.send_signal(number)
        # One that is still starting has nothing to say, and ends.
        assert until(lambda: STOPPING in gateway.said())
        assert ask(gateway.port, target="/up").status == 200
        gateway.process.send_signal(number)
        assert gateway.process.wait(20) == 0, gateway.said()
        assert not client.read().complete
    assert [pid for pid in pids if is_alive(pid)] == []
    assert "Traceback" not in gateway.said()


@pytest.mark.parametrize("count", [1, 2])
def test_a_hangup_does_no_harm_to_a_stop(start: Start, slow: Slow, count: int) -> None:
    """Whether its file is good or not: what is in flight ends well, and so does the process."""
    gateway = start(configuration(slow, workers=count))
    pids = gateway.pids()
    with RawClient(gateway.port, timeout=30) as client:
        client.send(request(target="/up/late"))
        assert until(slow.under_way)
        gateway.process.terminate()
        assert until(lambda: is_refused(gateway.port))
        for text in (gateway.file.read_text(), "routes: [\n"):
            gateway.file.write_text(text)
            before = gateway.said().count("reload: ")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it had nothing in flight
                    os.kill(pid, signal.SIGHUP)
            assert until(lambda: gateway.said().count("reload: ") > before)  # noqa: B023
        slow.go.set()
        answer = client.read()
        assert (answer.status, answer.body, answer.complete) == (200, b"ok", True)
    assert gateway.process.wait(20) == 0, gateway.said()
    assert "Traceback" not in gateway.said()


def test_a_worker_that_does_not_stop_is_ended(start: Start, slow: Slow) -> None:
    """One that hears nothing keeps nobody waiting for longer than all may take."""
    gateway = start(configuration(slow, workers=2, drain=0), patience="s._PATIENCE = 0.3")
    pids = workers(gateway)
    os.kill(pids[0], signal.SIGSTOP)
    gateway.process.terminate()
    assert gateway.process.wait(20) == 0
    assert [pid for pid in pids if is_alive(pid)] == []


# Workers


def test_all_workers_go_by_the_new_file(start: Start, slow: Slow) -> None:
    """Those that are there when it changes, the one that comes in the place of a dead one, and again."""
    gateway = start(configuration(slow, workers=2))
    config = yaml.safe_load(gateway.file.read_text())

    def put(path: str) -> None:
        config["routes"] = [{"path": path, "service": "up"}]
        gateway.file.write_text(yaml.safe_dump(config))

    def reload(path: str) -> None:
        before = gateway.said().count("reload: ")
        put(path)
        gateway.process.send_signal(signal.SIGHUP)
        assert until(lambda: gateway.said().count("reload: ") == before + 2)

    def statuses() -> list[list[int]]:
        pids, found = workers(gateway), []
        assert len(pids) == 2
        for pid in pids:
            with only(pid, pids):
                found.append([ask(gateway.port, target=path).status for path in ("/a", "/b")])
        return found

    reload("/a")
    assert statuses() == [[200, 404]] * 2
    victim, other = workers(gateway)
    os.kill(victim, signal.SIGKILL)
    assert until(lambda: victim not in workers(gateway) and len(workers(gateway)) == 2)
    assert statuses() == [[200, 404]] * 2
    reload("/b")
    assert statuses() == [[404, 200]] * 2
    assert other in workers(gateway)
    assert gateway.stop() == 0


OWN = """
import os
from pathlib import Path
from propylon import Gateway

with open("imports", "a") as file:
    print(os.getpid(), file=file)
if Path("broken").exists():
    raise RuntimeError("broken since then")
gateway = Gateway.from_file("propylon.yaml")
"""
PAUSE = 0.3  # seconds: what the supervisor is made to wait before it tries again


def test_a_worker_that_cannot_start_takes_nobody_along(
    start: Start, slow: Slow, tmp_path: Path
) -> None:
    """The other one serves; it is tried again, not all the time, and said each time; then it is back."""
    (tmp_path / "own.py").write_text(OWN)
    shortened = f"s._SETTLED = {PAUSE}; s._BACKOFF = {PAUSE}; s._HEALTHY_LIFE = {PAUSE}"
    gateway = start(configuration(slow, workers=2), app="own", patience=shortened)
    assert until(lambda: len(workers(gateway)) == 2)
    victim, other = workers(gateway)
    time.sleep(PAUSE * 2)  # it has run for a while by then
    (tmp_path / "broken").write_text("")
    before, began = imports(tmp_path), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    assert until(lambda: gateway.said().count("RuntimeError: broken since then") >= 2)
    while gateway.said().count("a worker died (exit status 1); starting another") < 3:
        assert ask(gateway.port, target="/up").status == 200
        assert time.monotonic() < began + 30
        time.sleep(0.02)
    assert other in workers(gateway)
    assert imports(tmp_path) - before <= (time.monotonic() - began) / PAUSE + 2
    (tmp_path / "broken").unlink()
    assert until(lambda: has_two_that_stay(gateway))
    assert other in workers(gateway)
    assert gateway.stop() == 0


def imports(folder: Path) -> int:
    """How often the module was imported."""
    return (folder / "imports").read_text().count("\n")


def has_two_that_stay(gateway: Gateway) -> bool:
    """Whether each of two workers answers."""
    pids = workers(gateway)
    if len(pids) != 2:
        return False
    answers = 0
    for pid in pids:
        with (
            contextlib.suppress(OSError, Ended),
            only(pid, pids),
            RawClient(gateway.port, timeout=1) as client,
        ):
            answers += client.send(request(target="/up")).read().status == 200
    return answers == 2 and workers(gateway) == pids


def test_two_steps_with_every_worker(two_steps: Future[None]) -> None:
    """First unready and still serving, then refusing; what is in flight ends well, and then all is over."""
    two_steps.result(90)
