"""Code that holds the loop is found, and a machine that stands still is not taken for it."""

import asyncio
import math
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
import uvloop

from propylon.telemetry import stacks, watchdog
from propylon.telemetry.blocks import LOOKS, STUCK, Beats, Block, Facts, Watch
from propylon.telemetry.stacks import Stack, stack_of
from propylon.telemetry.watchdog import Watchdog, _Sleep

BUDGET = 0.05
LOOK = BUDGET / LOOKS
BEAT = BUDGET / LOOKS


class Scene:
    """A loop and the thread that looks at it, on a clock of their own."""

    def __init__(self) -> None:
        self.now = self.used = self.waited = 0.0
        self.beats = Beats(BUDGET, 0.0)
        self.watch = Watch(BUDGET)
        self.where = "loop"
        self.found: list[Block] = []
        self.looked = self.beaten = 0.0
        self.run(0.1)

    def look(self) -> None:
        """Look once."""
        facts = Facts(self.now, self.used, self.waited, self.now - self.looked)
        self.looked = self.now
        block = self.watch.look(self.beats, facts, lambda: Stack(self.where))
        if block is not None:
            self.found.append(block)

    def run(self, seconds: float) -> None:
        """Let the loop run, and beat."""
        end = self.now + seconds
        while self.now < end:
            self.now += BEAT / 2
            if self.now >= self.beaten + BEAT:
                self.beaten = self.now
                self.beats.beat(self.now)
            if self.now >= self.looked + LOOK:
                self.look()

    def hold(
        self,
        seconds: float,
        where: str,
        *,
        used: float = 0.0,
        waited: float = 0.0,
        looks: bool = True,
    ) -> None:
        """Hold the loop: `used` and `waited` are what the system says of its thread; `looks`: others may run."""
        end, self.where = self.now + seconds, where
        step = BEAT / 2
        while self.now < end:
            self.now += step
            self.used += used * step / seconds
            self.waited += waited * step / seconds
            if looks and self.now >= self.looked + LOOK:
                self.look()
        self.where = "loop"


@pytest.fixture
def scene() -> Scene:
    """A loop that has run for a while."""
    return Scene()


@pytest.mark.parametrize("used", [0.0, 1.0], ids=["waits", "computes"])
@pytest.mark.parametrize("seconds", [0.075, 0.3, 2.0])
def test_code_that_holds_the_loop_is_named_once(scene: Scene, seconds: float, used: float) -> None:
    """Whether it waits for something or computes; with about its length."""
    scene.hold(seconds, "policy slow", used=used * seconds)
    scene.run(0.2)
    (block,) = scene.found
    assert block.stack == Stack("policy slow")
    assert block.seconds == pytest.approx(seconds, abs=2 * BEAT)
    scene.run(5.0)
    assert len(scene.found) == 1


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.04])
def test_what_is_within_the_budget_is_nobodys_business(scene: Scene, seconds: float) -> None:
    """However often it happens."""
    for _ in range(20):
        scene.hold(seconds, "policy quick", used=seconds)
        scene.run(0.05)
    assert scene.found == []


@pytest.mark.parametrize("seconds", [0.2, 3.0, 3600.0])
def test_a_process_that_was_stopped_is_no_block(scene: Scene, seconds: float) -> None:
    """SIGSTOP, a frozen container, a laptop that slept: nobody runs, and nobody uses a processor."""
    scene.now += seconds
    scene.look()
    scene.run(0.5)
    assert scene.found == []
    scene.now += seconds
    scene.run(0.5)  # the loop is the first to run again
    assert scene.found == []


def test_a_thread_that_gets_no_processor_is_no_block(scene: Scene) -> None:
    """The others run, and the system says that this one waits for its turn."""
    scene.hold(0.4, "policy innocent", used=0.02, waited=0.37)
    scene.run(0.2)
    assert scene.found == []


def test_code_that_lets_no_other_thread_run_is_found(scene: Scene) -> None:
    """A regular expression holds the interpreter: no look comes, but a processor was used."""
    scene.hold(0.4, "policy regex", used=0.4, looks=False)
    scene.where = "policy regex"
    scene.look()
    scene.run(0.2)
    (block,) = scene.found
    assert block.stack.where == "policy regex"
    assert block.seconds == pytest.approx(0.4, abs=2 * BEAT)


def test_the_code_that_is_met_most_often_is_named(scene: Scene) -> None:
    """Of callbacks that follow each other without a beat between them."""
    scene.hold(0.03, "code first")
    scene.hold(0.2, "policy second")
    scene.run(0.2)
    assert [block.stack.where for block in scene.found] == ["policy second"]


def test_a_loop_that_does_not_come_back_is_said_at_once(scene: Scene) -> None:
    """After some seconds, and once more at its end."""
    scene.hold(STUCK + 1.0, "endpoint stuck")
    assert [block.goes_on for block in scene.found] == [True]
    scene.run(0.2)
    assert [block.goes_on for block in scene.found] == [True, False]
    assert scene.found[1].seconds == pytest.approx(STUCK + 1.0, abs=2 * BEAT)


def test_a_stack_has_lines_and_no_values() -> None:
    """Files, lines and names: what a variable holds may be a secret."""
    inside, done = threading.Event(), threading.Event()

    def hold(password: str) -> None:
        inside.set()
        done.wait(20)

    thread = threading.Thread(target=hold, args=("s3cret",))
    thread.start()
    assert inside.wait(20)
    found = stack_of(thread.ident or 0)
    done.set()
    thread.join()
    assert found.where == "code test_a_stack_has_lines_and_no_values.<locals>.hold"
    assert any("test_blocks.py:" in line for line in found.frames)
    assert "s3cret" not in str(found)


def test_a_deep_stack_is_bounded() -> None:
    """The frames next to the call are kept."""
    found: list[Stack] = []

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            found.append(stack_of(threading.get_ident()))

    deep(300)
    (stack,) = found
    assert len(stack.frames) <= 24
    assert stack.frames[-1].endswith("stack_of")
    assert stack_of(0) == Stack("gateway")


def frame(file: str, name: str, back: Any = None) -> Any:
    """A frame, as far as it is looked at."""

    class Code:
        co_filename, co_qualname = file, name

    class Frame:
        f_code, f_lineno, f_back = Code, 1, back

    return Frame


@pytest.mark.parametrize(
    ("files", "where"),
    [
        (["propylon:control/policies.py", "/app/shop.py"], "policy f1"),
        (["propylon:upstream/inprocess.py", "/x/site-packages/fastapi/routing.py", "/app/shop.py"], "endpoint f2"),
        (["/usr/bin/propylon", "<frozen runpy>", "propylon:process/server.py"], "gateway"),
        (["propylon:upstream/inprocess.py", "/x/site-packages/shop/api.py"], "endpoint f1"),
        (["/app/shop.py", "propylon:wire/request.py"], "code f0"),
        (["/app/main.py", "/x/asyncio/runners.py", "propylon:wire/request.py"], "gateway"),
        (["/app/main.py", "/x/asyncio/base_events.py", "/app/shop.py"], "code f2"),
    ],
)  # fmt: skip
def test_a_stack_is_named_by_the_teams_code(files: list[str], where: str) -> None:
    """The outermost function that is neither ours nor of a library that calls others' functions."""
    found: FrameType | Any = None
    for at, file in enumerate(files):
        found = frame(file.replace("propylon:", stacks._OURS), f"f{at}", found)
    assert stacks._described(found).where == where


class Row(list[float]):
    """What is counted."""


class Counts:
    """Metrics that keep what is counted by the label."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], Row] = {}

    def row(self, _: object, *labels: str) -> Row:
        """Return the row of the labels."""
        return self.rows.setdefault(labels, Row([0.0]))


def test_names_and_lines_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """All are counted; some are said; names beyond the first are `others`."""
    now, counts = [0.0], Counts()
    dog = Watchdog(None, counts, lambda: now[0])  # type: ignore[arg-type]
    with caplog.at_level("INFO"):
        for at in range(100):
            dog._tell(Block(0.1, Stack(f"code f{at}")))
        assert len(caplog.records) == 5
        now[0] = 10.0
        dog._tell(Block(0.1, Stack("gateway")))
    assert len(counts.rows) == 33
    assert sum(row[0] for row in counts.rows.values()) == 101
    assert caplog.records[-1].fields["unsaid"] == 95  # type: ignore[attr-defined]
    assert caplog.records[-1].levelname == "INFO"
    assert caplog.records[0].levelname == "WARNING"


@dataclass
class Hold:
    """Code that holds the loop; an event or a timer runs it, and `alone` it lets no other thread run."""

    start: float
    seconds: float
    where: str
    used: float = 0.0
    event: bool = True
    alone: bool = False

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + self.seconds


class Night:
    """A gateway with little to do, on a clock of its own: its loop, its thread, and the sleep of the thread that looks."""

    identity, ended, hears_events, tells_use = 0, False, True, True

    def __init__(self, *holds: Hold, until: float = 20.0) -> None:
        self.now, self.used = 0.0, 0.0
        self.looks: list[float] = []
        self._holds = list(holds)
        self._until = until
        self._soon: list[Callable[[], object]] = []
        self.counts = Counts()
        self.dog = Watchdog(self, self.counts, lambda: self.now)  # type: ignore[arg-type]

    def watch(self) -> dict[str, float]:
        """Watch through the night, and return what was found, by its name."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(watchdog, "stack_of", lambda _: Stack(self._current().where))
            self.dog._watch(Beats(BUDGET, 0.0), self, self)  # type: ignore[arg-type]
        return {labels[0]: row[0] for labels, row in self.counts.rows.items()}

    def _current(self) -> Hold:
        held = [hold for hold in self._holds if hold.start <= self.now < hold.end]
        return held[0] if held else Hold(math.inf, 0.0, "gateway")

    def _pass(self, to: float) -> None:
        """Let time pass; what the loop was asked for is done as soon as it is free."""
        while self.now < to:
            held = self._current()
            ends = (
                held.end
                if held.seconds
                else min([to, *(h.start for h in self._holds if h.start > self.now)])
            )
            step = min(to, ends) - self.now
            self.used += held.used * step / held.seconds if held.seconds else 0.0
            self.now += step
            if not self._current().seconds:
                soon, self._soon = self._soon, []
                for call in soon:
                    call()

    # The loop

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        """Call it when nothing holds the loop."""
        if self._current().seconds:
            self._soon.append(lambda: call(*args))
        else:
            call(*args)

    # The loop's thread

    def waits(self) -> bool:
        """Whether the loop waits; this is what a look looks at."""
        self.looks.append(self.now)
        return not self._current().seconds

    def times(self) -> tuple[float, float]:
        """What the system says."""
        return self.used, 0.0

    def close(self) -> None:
        """It is day."""

    # The sleep

    def for_seconds(self, seconds: float) -> None:
        """Sleep; who was kept from running goes on when the other one has almost ended."""
        self._pass(self.now + seconds)
        held = self._current()
        if held.alone:
            self._pass(held.end - 0.001)
        self.ended = self.now >= self._until

    def until_an_event(self, seconds: float) -> bool:
        """Sleep until an event runs something."""
        events = [
            h.start for h in self._holds if h.event and self.now < h.start <= self.now + seconds
        ]
        self.for_seconds((events[0] if events else self.now + seconds) - self.now)
        return bool(events)


def test_a_loop_that_only_waits_is_seldom_looked_at() -> None:
    """Fifty times a second at first, then four times."""
    night = Night()
    assert night.watch() == {}
    assert 10 <= sum(look < 0.25 for look in night.looks) <= 13
    assert 70 <= sum(look >= 1.0 for look in night.looks) <= 77


@pytest.mark.parametrize(
    "hold",
    [
        Hold(10.1, 0.1, "policy slow"),
        Hold(10.1, 0.1, "policy slow", used=0.1),
        Hold(10.1, 0.4, "policy slow", used=0.4, alone=True),
        Hold(10.1, 0.4, "policy slow", event=False),
        Hold(10.1, 0.4, "policy slow", used=0.4, event=False),
        Hold(10.1, 0.4, "policy slow", used=0.4, event=False, alone=True),
    ],
    ids=[
        "event",
        "event that computes",
        "event alone",
        "timer",
        "timer that computes",
        "timer alone",
    ],
)
def test_code_that_holds_a_calm_loop_is_found(hold: Hold) -> None:
    """By an event as always; by a timer if it takes longer than the thread sleeps."""
    assert Night(hold).watch() == {"policy slow": 1.0}


def test_a_timer_that_computes_wakes_the_thread() -> None:
    """It is missed once: from then on the thread looks often for a while."""
    first, second = (Hold(at, 0.1, "code job", used=0.1, event=False) for at in (10.02, 18.0))
    assert Night(first).watch() == {}
    assert Night(first, second).watch() == {"code job": 1.0}


@pytest.mark.parametrize("event", [True, False])
def test_what_is_within_the_budget_wakes_nobody_up_for_nothing(event: bool) -> None:
    """Requests and timers on a calm loop are no blocks."""
    holds = [Hold(3.0 + at * 0.9, 0.03, "policy quick", used=0.03, event=event) for at in range(15)]
    assert Night(*holds).watch() == {}


def test_a_calm_process_that_was_stopped_is_no_block() -> None:
    """No time is anybody's while it stands still."""
    night = Night()
    sleep = night.until_an_event

    def stopped(seconds: float) -> bool:
        slept = sleep(seconds)
        night.now += 3.0
        return slept

    night.until_an_event = stopped  # type: ignore[method-assign]
    assert night.watch() == {}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_event_of_the_loop_ends_the_sleep(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Bytes do, as long as the loop has not read them; and so does the end."""
    loop = new_loop()
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        loop.add_reader(there, lambda: there.recv(1))
        loop.run_until_complete(asyncio.sleep(0.01))
        sleep = _Sleep(loop)
        assert sleep.hears_events
        assert not sleep.until_an_event(0)
        here.send(b".")
        assert sleep.until_an_event(20)
        sleep.for_seconds(0.01)  # it ends, too
        loop.run_until_complete(asyncio.sleep(0.01))
        assert not sleep.until_an_event(0)
        sleep.end()
        assert sleep.until_an_event(20)
        assert sleep.ended
        sleep.close()
        loop.remove_reader(there)
    loop.close()
