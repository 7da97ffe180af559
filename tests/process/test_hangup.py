"""Two ways to hang up: a SIGHUP that comes before anybody serves, and a client that does not wait."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from propylon.control.policies import Policy, compose_policies
from propylon.errors import ClientGone
from propylon.process.hangup import early_hangup, note_hangups
from propylon.process.server import Hooks, ServerOptions, _Server, exit_quietly
from propylon.proxy.principal import Principal
from propylon.wire.message import Request
from tests.edge.test_asgi import App
from tests.edge.test_regressions import Held, Waiting, Wire, connected
from tests.proxy.doubles import Asked, route, service, streamed, whole
from tests.support.zygote import ROOT
from tests.upstream.peer import run, until

GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n"
STOPS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Signals mean afterwards what they meant before, and nothing is remembered."""
    before = {number: signal.getsignal(number) for number in STOPS}
    early_hangup()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    early_hangup()


# SIGHUP before there is a loop


def test_a_hangup_is_remembered_once() -> None:
    """However often it came; who has asked is not told again, until the next one."""
    note_hangups()
    assert not early_hangup()
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)
    assert [early_hangup(), early_hangup()] == [True, False]
    signal.raise_signal(signal.SIGHUP)
    assert early_hangup()


def test_a_start_ends_quietly_and_not_by_a_hangup() -> None:
    """While it starts: SIGTERM and SIGINT end it with 0, SIGHUP does not end it."""
    exit_quietly()
    signal.raise_signal(signal.SIGHUP)
    assert early_hangup()
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == 0


class Server(_Server):
    """A server without sockets, and how often it was told to reload."""

    def __init__(self) -> None:
        self.reloads = 0
        hooks = Hooks(drain=lambda: None, reload=self._reload)
        config = uvicorn.Config(lambda *_: None, lifespan="off", log_config=None)
        super().__init__(config, ServerOptions(drain=0, drain_delay=0), hooks)

    def _reload(self) -> None:
        self.reloads += 1


@pytest.mark.parametrize("early", [0, 1, 5])
def test_the_loop_takes_over_what_was_remembered(early: int) -> None:
    """As soon as it runs: what was read before may be old. Later ones count one by one."""
    note_hangups()
    for _ in range(early):
        signal.raise_signal(signal.SIGHUP)

    async def main() -> None:
        server = Server()
        with server.capture_signals():
            await asyncio.sleep(0.01)
            assert server.reloads == min(early, 1)
            for count in (1, 2):
                signal.raise_signal(signal.SIGHUP)
                await until(lambda: server.reloads == min(early, 1) + count)  # noqa: B023
        # It has stopped: there is nothing to reload, and nothing to end.
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0.01)
        assert server.reloads == min(early, 1) + 2
        assert not early_hangup()

    run(main())


FORKED = """
import os, signal, sys, time
from propylon.process.hangup import early_hangup, note_hangups
from propylon.process.supervisor import supervise

def work(place, others_go_on):
    print("up", flush=True)
    end = time.monotonic() + 15
    while not early_hangup():
        if time.monotonic() > end:
            return 1
        time.sleep(0.005)
    print("heard", flush=True)
    signal.pause()
    return 1

note_hangups()
if sys.argv[1] == "before":
    os.kill(os.getpid(), signal.SIGHUP)
sys.exit(supervise(work, 2, patience=5, stopping=lambda: print("stopping", flush=True)))
"""


@contextmanager
def forked(when: str) -> Iterator[subprocess.Popen[str]]:
    """A supervisor with two workers that wait for a hangup."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKED, when],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = threading.Timer(20, process.kill)
    end.start()
    try:
        yield process
    finally:
        end.cancel()
        process.kill()
        process.wait(5)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("when", ["before", "while they start"])
def test_every_worker_remembers_it(when: str) -> None:
    """One that comes before the fork, or to the parent before its workers have loops, reaches each."""
    with forked(when) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line.strip())
            if when != "before" and said == ["up", "up"]:
                process.send_signal(signal.SIGHUP)
            if said.count("heard") == 2:
                process.terminate()
        assert process.wait(5) == 0
    assert sorted(said) == ["heard", "heard", "stopping", "up", "up"]


# A client that does not wait


Leave = Callable[[Any], None]


def closes(protocol: Any) -> None:
    """It has closed its connection."""
    protocol.connection_lost(None)


def resets(protocol: Any) -> None:
    """It has gone rudely."""
    protocol.connection_lost(ConnectionResetError(104, "Connection reset by peer"))


LEAVES: list[Leave] = [closes, resets]


class Guard:
    """A policy that waits until it is let on, or is told that nobody waits for it."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.asked = False
        self.cancelled = False
        self.go = asyncio.Event()
        self._stubborn = stubborn

    async def __call__(self, request: Request, principal: Principal) -> None:
        """Wait."""
        self.asked = True
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if not self._stubborn:
                raise


def guarded(upstream: Any, *policies: Policy) -> App:
    """An app with policies before its one route."""
    return App(route("/a", service(upstream), before=compose_policies(policies, 60.0)))


def check_gone(app: App, wire: Wire) -> None:
    """One exchange is recorded, as its client's leaving, and nothing was written after it."""
    (exchange,) = app.seen
    assert isinstance(exchange.error, ClientGone)
    assert exchange.flags == ("client_gone",)
    assert wire.written == b""


async def settle() -> None:
    """Let whatever was left behind have its turns."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("leave", LEAVES)
def test_gone_while_a_policy_decides(leave: Leave) -> None:
    """The policy is cancelled, the next one is not asked, nor is the upstream."""

    async def main() -> None:
        asked, guard, second = Asked(), Guard(), Guard()
        app = guarded(asked, guard, second)
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: guard.asked)
            leave(protocol)
            await until(lambda: guard.cancelled)
            await settle()
            check_gone(app, wire)
            assert (asked.got, second.asked) == ([], False)

    run(main())


def test_gone_while_a_policy_decides_that_will_not_hear_of_it() -> None:
    """It goes on and lets the request pass: there is none any more."""

    async def main() -> None:
        asked, guard = Asked(), Guard(stubborn=True)
        app = guarded(asked, guard)
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: guard.asked)
            closes(protocol)
            await until(lambda: guard.cancelled)
            await settle()
            check_gone(app, wire)
            assert asked.got == []

    run(main())


def test_gone_in_the_moment_in_which_a_policy_lets_it_pass() -> None:
    """Whichever comes first, the upstream is not asked for somebody who has left."""

    async def main() -> None:
        asked, guard = Asked(), Guard()
        app = guarded(asked, guard)
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: guard.asked)
            guard.go.set()
            closes(protocol)
            await settle()
            check_gone(app, wire)
            assert asked.got == []

    run(main())


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("answer", [whole(), streamed(b"late")], ids=["whole", "in pieces"])
def test_gone_while_the_upstream_works(leave: Leave, answer: Any) -> None:
    """It is recorded at once; that the upstream answers after all is nobody's business."""

    async def main() -> None:
        app = App(upstream=(held := Held(answer)))
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: held.asked)
            leave(protocol)
            check_gone(app, wire)
            held.go.set()
            await settle()
            check_gone(app, wire)

    run(main())


def test_gone_in_the_moment_in_which_the_upstream_answers() -> None:
    """One record, and no answer to nobody."""

    async def main() -> None:
        app = App(upstream=(held := Held(whole())))
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: held.asked)
            held.go.set()
            closes(protocol)
            await settle()
            check_gone(app, wire)

    run(main())


def test_gone_in_the_middle_of_its_body() -> None:
    """The upstream never gets an end that the client did not send."""

    async def main() -> None:
        app = App(upstream=(asked := Waiting()))
        with connected(app) as (protocol, wire):
            protocol.data_received(POST + b"ab")
            await until(lambda: asked.data == b"ab")
            closes(protocol)
            await settle()
            check_gone(app, wire)
            assert (asked.data, asked.ended) == (b"ab", False)

    run(main())


@pytest.mark.parametrize("head", [b"", b"G", GET[:-2], GET[:-1]])
def test_gone_before_its_head_was_whole(head: bytes) -> None:
    """That was no request."""

    async def main() -> None:
        app = App(upstream=(asked := Asked()))
        with connected(app) as (protocol, wire):
            if head:
                protocol.data_received(head)
            closes(protocol)
            await settle()
            assert (app.seen, asked.got, bytes(wire.written)) == ([], [], b"")

    run(main())


def test_gone_with_more_requests_in_the_queue() -> None:
    """What it sent behind the one in flight is not begun."""

    async def main() -> None:
        app = App(upstream=(held := Held(whole())))
        with connected(app) as (protocol, wire):
            protocol.data_received(GET * 4)
            await until(lambda: held.asked)
            closes(protocol)
            held.go.set()
            await settle()
            check_gone(app, wire)

    run(main())


def test_gone_while_its_policy_cleans_up() -> None:
    """A policy may take its time to let go of what it holds; nobody waits for it."""
    done: list[str] = []

    async def careful(request: Request, principal: Principal) -> None:
        done.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            done.append("let go")

    async def main() -> None:
        app = guarded(Asked(), careful)
        with connected(app) as (protocol, wire):
            protocol.data_received(GET)
            await until(lambda: done)
            closes(protocol)
            check_gone(app, wire)
            assert done == ["begun"]
            await until(lambda: done == ["begun", "let go"])

    run(main())
