"""Probes over real sockets, and when they are sent."""

import asyncio
import gc
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from propylon.errors import (
    BadResponse,
    ConnectFailed,
    GatewayError,
    ServiceUnavailable,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.loop.tasks import _running
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.upstream.probe import Probe, Prober, ProbeTarget, Result, ask
from propylon.upstream.reply import Reply
from propylon.wire.message import Response
from tests.proxy.doubles import Asked
from tests.upstream.peer import OK, Line, Script, World, polite, run, saying, until

LINE = b"GET /base/health"
BLOCK = b"\r\nHost: a\r\nUser-Agent: propylon-health"


def probe_of(upstream: Any, *, strict: bool = True, timeout: float = 20.0) -> Probe:
    """A probe."""
    return Probe(upstream, LINE, BLOCK, timeout, strict)


def prober(chance: float = 0.0) -> Prober:
    """A prober with real clocks."""
    return Prober(clock=time.monotonic, wall=lambda: 1000.0, chance=lambda: chance)


async def ask_once(script: Script, **options: Any) -> Result:
    """Ask a peer that behaves like that, and see that nothing of it is left."""
    async with World(script) as world:
        probe = probe_of(world.pool, **options)
        result = await ask(probe, clock=time.monotonic, wall=lambda: 1000.0)
        # Those that close when they are asked to do, and those that were cut off.
        await until(lambda: world.pool.open == 0 and all(line.ended for line in world.lines))
    return result


def answer(status: int) -> bytes:
    """A short answer that ends its connection."""
    head = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    return head % status + (b"" if status in (204, 304) else b"ok")


@pytest.mark.parametrize(
    ("status", "strict", "ok"),
    [
        (200, True, True),
        (204, True, True),
        (299, True, True),
        (301, True, False),
        (404, True, False),
        (500, True, False),
        (503, True, False),
        (200, False, True),
        (301, False, True),
        (401, False, True),
        (404, False, True),
        (499, False, True),
        (500, False, False),
        (503, False, False),
    ],
)
def test_the_status_decides(status: int, strict: bool, ok: bool) -> None:
    """Strictly a 2xx is well; else anything that is not the upstream's own fault."""
    result = run(ask_once(saying(answer(status)), strict=strict))
    assert (result.ok, result.status, result.error) == (ok, status, None)
    assert (result.answered, result.reason) == (True, f"status {status}")
    assert result.at == 1000.0
    assert result.latency > 0


async def close(line: Line) -> None:
    """Take the request and hang up."""
    await line.head()
    line.close()


async def reset(line: Line) -> None:
    """Take the request and break the connection."""
    await line.head()
    line.reset()


async def hang(line: Line) -> None:
    """Take the request, and that is all."""
    await line.head()


async def drip(line: Line) -> None:
    """Answer with a head, byte by byte, that never ends."""
    await line.head()
    line.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not (line.reader.at_eof() or line.writer.is_closing()):
        line.send(b"a")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "error", "answered"),
    [
        (close, UpstreamReset, False),
        (reset, UpstreamReset, False),
        (hang, UpstreamTimeout, False),
        (drip, UpstreamTimeout, False),
        (saying(b"SSH-2.0-OpenSSH_9.2p1\r\n"), BadResponse, True),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"), BadResponse, True),
    ],
)
def test_no_answer(script: Script, error: type[GatewayError], answered: bool) -> None:
    """Not well, whatever counts as well; and the connection is closed, not left behind."""
    timeout = 0.15 if error is UpstreamTimeout else 20.0
    result = run(ask_once(script, strict=False, timeout=timeout))
    assert (result.ok, result.status, result.answered) == (False, None, answered)
    assert isinstance(result.error, error)
    assert result.error.message in result.reason


def test_nobody_listens() -> None:
    """Refused: it failed, and the reason is there for the log."""

    async def main() -> None:
        async with World() as world:
            world.listener.close()
            result = await ask(probe_of(world.pool), clock=time.monotonic, wall=time.time)
            assert (result.ok, result.answered) == (False, False)
            assert isinstance(result.error, ConnectFailed)
            assert result.reason.startswith(f"{result.error.message} (")

    run(main())


def test_the_head_is_enough() -> None:
    """A body that never ends is not waited for: the connection is closed."""

    async def endless(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        while await line.reader.read(1):
            await asyncio.sleep(0)

    result = run(ask_once(endless, timeout=60.0))
    assert (result.ok, result.status) == (True, 200)


def test_interim_answers_are_no_answers() -> None:
    """The final one counts."""
    result = run(ask_once(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(503))))
    assert (result.ok, result.status) == (False, 503)


def test_what_is_sent() -> None:
    """The line and the block as given, and that the connection is wanted once."""
    heads = []

    async def script(line: Line) -> None:
        heads.append(await line.head())
        line.send(answer(200))

    run(ask_once(script))
    assert heads == [LINE + b" HTTP/1.1" + BLOCK + b"\r\nConnection: close\r\n\r\n"]


def test_a_connection_that_was_kept_and_closed_is_no_illness() -> None:
    """An upstream that closes a connection later than it was asked to is probed once more."""

    async def once(line: Line) -> None:
        await line.head()
        line.send(OK)
        await line.head()
        line.close()

    async def main() -> None:
        async with World(once) as world:
            for _ in range(2):
                result = await ask(probe_of(world.pool), clock=time.monotonic, wall=time.time)
                assert (result.ok, result.error) == (True, None)
            assert len(world.lines) == 2

    run(main())


def test_the_error_of_a_pool_is_a_result_too() -> None:
    """An error that the upstream raises becomes the result of the probe."""

    class Full:
        """An upstream that takes no more."""

        async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
            raise ServiceUnavailable("full")

    result = run(ask(probe_of(Full()), clock=time.monotonic, wall=time.time))
    assert (result.ok, result.answered, result.reason) == (False, False, "full")


# In the background


def test_all_are_asked_together() -> None:
    """A target that hangs delays no other, and each result goes to its own target."""

    async def main() -> None:
        got: dict[str, list[Result]] = {"well": [], "ill": [], "hanging": []}
        asking = prober()
        async with (
            World(saying(answer(200))) as well,
            World(saying(answer(503))) as ill,
            World(hang) as hanging,
        ):
            worlds = {"hanging": hanging, "well": well, "ill": ill}
            for name, world in worlds.items():
                asking.watch(ProbeTarget(probe_of(world.pool), 0.02, got[name].append))
            await until(lambda: len(got["well"]) > 2 and len(got["ill"]) > 2)
            assert got["hanging"] == []
            assert len(hanging.lines) == 1
            asking.close()
        assert all(result.ok for result in got["well"])
        assert not any(result.ok for result in got["ill"])

    run(main())


def test_a_change_is_seen() -> None:
    """The next probe reports it, without a request."""

    async def main() -> None:
        found: list[bool] = []
        asking = prober()
        async with World(polite) as world:
            target = ProbeTarget(probe_of(world.pool), 0.02, lambda result: found.append(result.ok))
            asking.watch(target)
            await until(lambda: found)
            world.listener.close()
            for line in world.lines:
                line.close()
            await until(lambda: not found[-1])
            asking.close()

    run(main())


async def no_task_left(before: int) -> None:
    """Wait until everything that ran has ended."""
    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert not [task for task in _running if not task.done()]


@pytest.mark.parametrize("when", ["before it began", "while it is asked", "in a pause"])
def test_forgotten_in_time(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it was doing: nothing is reported, no task and no connection stay."""

    async def main() -> None:
        found: list[Result] = []
        asking = prober(0.5 if when == "before it began" else 0.0)
        asked: list[bytes] = []

        async def noting(line: Line) -> None:
            asked.append(await line.head())

        script = noting if when == "while it is asked" else saying(answer(200))
        async with World(script) as world:
            before = len(asyncio.all_tasks())
            target = ProbeTarget(probe_of(world.pool), 60.0, found.append)
            asking.watch(target)
            asking.watch(target)
            if when == "while it is asked":
                # A connection alone is too early: one that opens too late for its request stays in the pool.
                await until(lambda: asked)
            elif when == "in a pause":
                await until(lambda: found)
            said = len(found)
            asking.forget(target)
            asking.forget(target)
            await until(lambda: world.pool.open == 0)
            await until(lambda: all(line.ended for line in world.lines))
            await no_task_left(before)
            assert len(found) == said
            assert len(world.lines) <= 1

    with caplog.at_level(logging.DEBUG):
        run(main())
        gc.collect()
    assert "never retrieved" not in caplog.text


def test_forgotten_in_its_own_report() -> None:
    """A target's `report` may call `forget` for that target."""

    async def main() -> None:
        before = len(asyncio.all_tasks())
        asking, up = prober(), Scripted()
        targets: list[ProbeTarget] = []
        targets.append(ProbeTarget(probe_of(up), 0.0, lambda _: asking.forget(targets[0])))
        asking.watch(targets[0])
        await no_task_left(before)
        assert up.asked == 1

    run(main())


def test_watched_again_at_once() -> None:
    """The end of the first task does not take the second one's place."""

    async def main() -> None:
        asking, up = prober(), Scripted()
        found: list[Result] = []
        target = ProbeTarget(probe_of(up), 0.01, found.append)
        for _ in range(3):
            asking.watch(target)
            asking.forget(target)
        asking.watch(target)
        await until(lambda: len(found) > 2)
        asking.watch(target)  # does nothing: it is watched
        asking.close()
        before = len(found)
        await asyncio.sleep(0.03)
        assert len(found) == before

    run(main())


def test_a_report_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is in the log, ends this one target, and no other."""

    async def main() -> None:
        asking, up = prober(), Scripted()
        found: list[Result] = []

        def broken(result: Result) -> None:
            raise ZeroDivisionError("a bug")

        asking.watch(ProbeTarget(probe_of(up), 0.01, broken))
        asking.watch(ProbeTarget(probe_of(up), 0.01, found.append))
        await until(lambda: len(found) > 2)
        assert len(asking._tasks) == 1
        asking.close()

    run(main())
    gc.collect()
    assert caplog.text.count("ZeroDivisionError: a bug") == 1


class Scripted:
    """An upstream without sockets: each exchange takes `seconds` of a clock that is its own."""

    busy = 0

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.asked = 0
        self.now = 0.0

    def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
        """Answer."""
        return self._exchange()

    async def _exchange(self) -> Answer:
        self.asked += 1
        self.now += self.seconds.pop(0) if self.seconds else 0.0
        return Reply(Response(200, b" 200 OK", b"", 0, keep_alive=True), b"", None)


def pauses(
    monkeypatch: pytest.MonkeyPatch, chances: Callable[[], float], interval: float, up: Scripted
) -> list[float]:
    """How long is waited before the first probes, and between them."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        up.now += seconds
        await real(0)

    async def main() -> None:
        asking = Prober(clock=lambda: up.now, wall=time.time, chance=chances)
        asking.watch(ProbeTarget(probe_of(up), interval, lambda _: None))
        while len(slept) < 5:
            await real(0)
        asking.close()
        await real(0)

    with monkeypatch.context() as patched:
        patched.setattr("propylon.upstream.probe.asyncio.sleep", sleep)
        asyncio.run(main())
    return slept


def test_at_once_and_then_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first within half a second; the others 30 s apart, give or take a tenth."""
    for chance, first, others in ((0.0, 0.0, 27.0), (0.5, 0.25, 30.0), (1.0, 0.5, 33.0)):
        found = pauses(monkeypatch, lambda c=chance: c, 30.0, Scripted())  # type: ignore[misc]
        assert found[0] == pytest.approx(first)
        assert found[1:5] == pytest.approx([others] * 4)


def test_the_first_of_a_short_interval_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tenth of it."""
    assert pauses(monkeypatch, lambda: 0.5, 1.0, Scripted())[0] == pytest.approx(0.05)


def test_from_start_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its time is not asked less often; what takes longer than that, at once again."""
    found = pauses(monkeypatch, lambda: 0.5, 10.0, Scripted(4.0, 10.0, 25.0, 0.0))
    assert found[1:5] == pytest.approx([6.0, 0.0, 0.0, 10.0])


# Kinds of probes


CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def asked_by(script: Script, line: bytes = LINE, **expected: Any) -> tuple[bool, int | None, str]:
    """Probe a peer by these rules, on a clock that stands still; return whether it is well, the status, and the reason."""

    async def main() -> Result:
        async with World(script) as world:
            probe = Probe(world.pool, line, BLOCK, 20.0, strict=True, **expected)
            result = await ask(probe, clock=lambda: 7.0, wall=lambda: 1000.0)
            await until(lambda: world.pool.open == 0)
        return result

    result = run(main())
    assert (result.at, result.latency) == (1000.0, 0.0)
    return result.ok, result.status, result.reason


@pytest.mark.parametrize(
    ("statuses", "status", "ok"),
    [
        ({200}, 200, True),
        ({200}, 204, False),
        (range(200, 400), 302, True),
        ({401}, 401, True),
        ({401}, 200, False),
        ({200, 503}, 503, True),
    ],
)
def test_the_expected_statuses_decide(statuses: Any, status: int, ok: bool) -> None:
    """Those that the operator lists are well, and no others."""
    found = asked_by(saying(answer(status)), statuses=statuses)
    assert found == (ok, status, f"status {status}")


def body_of(body: bytes, *, chunked: bool = False, close: bool = False) -> Script:
    """An answer with this body, framed in some way, in two pieces."""

    async def script(line: Line) -> None:
        await line.head()
        if close:
            line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        elif chunked:
            line.send(CLOSING + b"Transfer-Encoding: chunked\r\n\r\n")
            body_in_a_chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            line.send(body_in_a_chunk)
            return
        else:
            line.send(CLOSING + b"Content-Length: %d\r\n\r\n" % len(body))
        line.send(body[:3])
        await asyncio.sleep(0.01)
        line.send(body[3:])
        if close:
            line.close()

    return script


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"close": True}])
@pytest.mark.parametrize(
    ("pattern", "body", "ok"),
    [
        (rb'"status": ?"(up|ok)"', b'{"status": "up"}', True),
        (rb'"status": ?"(up|ok)"', b'{"status": "down"}', False),
        (rb"^ready$", b"ready", True),
        (rb"^ready$", b"not ready", False),
        (rb"\xc3\xa9", "é".encode(), True),
        (rb"x", b"", False),
        (rb"^$", b"", True),
    ],
)
def test_the_body_decides(framing: dict[str, bool], pattern: bytes, body: bytes, ok: bool) -> None:
    """The pattern may match anywhere in the body, however that is framed and cut."""
    found = asked_by(body_of(body, **framing), body=re.compile(pattern))
    assert found == (ok, 200, "status 200" + ("" if ok else ", and the body does not match"))


def test_a_bad_status_needs_no_body() -> None:
    """The status comes first: its body is not waited for."""

    async def endless(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 503 Ill\r\nTransfer-Encoding: chunked\r\n\r\n")
        await line.reader.read()

    assert asked_by(endless, body=re.compile(b"x")) == (False, 503, "status 503")


@pytest.mark.parametrize(("where", "ok"), [(60_000, True), (70_000, False)])
def test_a_body_without_end(where: int, ok: bool) -> None:
    """The first 64 KiB are looked at, and the connection is closed behind them."""

    async def endless(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"." * where + b"well")
        while not line.writer.is_closing() and not line.reader.at_eof():
            line.send(b"." * 10_000)
            await asyncio.sleep(0.001)

    assert asked_by(endless, body=re.compile(b"well"))[:2] == (ok, 200)


def test_a_body_that_breaks_off() -> None:
    """An answer that is not whole is no sign of health, whatever stands in it."""

    async def cut(line: Line) -> None:
        await line.head()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwell")
        await asyncio.sleep(0.01)
        line.close()

    ok, status, reason = asked_by(cut, body=re.compile(b"well"))
    assert (ok, status) == (False, None)
    assert "cut short" in reason


@pytest.mark.parametrize(
    ("method", "length"), [(b"HEAD", b""), (b"OPTIONS", b""), (b"POST", b"\r\nContent-Length: 0")]
)
def test_other_methods(method: bytes, length: bytes) -> None:
    """A probe has no body, and says so where its method lets expect one (RFC 9110, 8.6)."""
    heads = []

    async def script(line: Line) -> None:
        heads.append(await line.head())
        line.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    assert asked_by(script, line=method + b" /up") == (True, 204, "status 204")
    expected = method + b" /up HTTP/1.1" + BLOCK + length + b"\r\nConnection: close\r\n\r\n"
    assert heads == [expected]


def test_a_connection_is_enough() -> None:
    """A TCP check sends nothing, and is well as soon as the connection is open."""
    got = []

    async def script(line: Line) -> None:
        got.append(await line.reader.read())

    assert asked_by(script, tcp=True) == (True, None, "connected")
    assert got == [b""]


def test_no_connection_for_a_tcp_check() -> None:
    """A port that nobody listens on has failed; an app in this process can always be asked."""

    async def main() -> None:
        async with World() as world:
            world.listener.close()
            probe = Probe(world.pool, LINE, BLOCK, 20.0, strict=True, tcp=True)
            result = await ask(probe, clock=lambda: 0.0, wall=lambda: 0.0)
            assert (result.ok, result.answered) == (False, False)
            assert isinstance(result.error, ConnectFailed)
            here = await ask(
                Probe(Asked(), LINE, BLOCK, 20.0, strict=True, tcp=True),
                clock=lambda: 0.0,
                wall=lambda: 0.0,
            )
            assert (here.ok, here.answered) == (True, True)

    run(main())
