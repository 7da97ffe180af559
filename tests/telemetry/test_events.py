"""What is logged of services: a line each, at the level that it deserves."""

import logging
from typing import Any

import orjson
import pytest

from propylon.services.breaker import Breaker, Circuit, Event, Outcome, State
from propylon.services.fleet import Ejection, Fleet
from propylon.services.instance import Condition, HealthRules
from propylon.stores.sums import LocalSums
from propylon.telemetry.access_log import as_json, as_text
from propylon.telemetry.events import Events
from propylon.telemetry.logs import WriterHandler
from propylon.telemetry.metrics import Metrics
from tests.proxy.doubles import Asked, instance

LOGGER = "propylon.telemetry.events"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what was logged."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("old", "new", "event", "level"),
    [
        (State.CLOSED, State.OPEN, Event.TOO_MANY_FAILURES, "ERROR"),
        (State.HALF_OPEN, State.OPEN, Event.PROBE_FAILED, "ERROR"),
        (State.HALF_OPEN, State.OPEN, Event.PROBE_EXPIRED, "ERROR"),
        (State.OPEN, State.HALF_OPEN, Event.RECOVERY_TIMEOUT, "WARNING"),
        (State.HALF_OPEN, State.CLOSED, Event.PROBES_SUCCEEDED, "WARNING"),
    ],
)
def test_a_breaker_moves(
    old: State, new: State, event: Event, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Which, from where to where, and why; somebody has to look when it opens."""
    with caplog.at_level(logging.DEBUG, LOGGER):
        Events(Metrics(LocalSums())).circuit("orders", old, new, event)
    assert lines(caplog) == [(level, f'circuit of "orders": {old} -> {new} ({event})')]


@pytest.mark.parametrize(
    ("new", "level"),
    [
        ("starting", "INFO"),
        ("healthy", "INFO"),
        ("stopped", "INFO"),
        ("unhealthy", "WARNING"),
        ("failed", "WARNING"),
        ("ejected", "WARNING"),
    ],
)
def test_an_instance_changes(new: Condition, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """Which of which service, from what to what, and why; what is left out deserves a warning."""
    with caplog.at_level(logging.DEBUG, LOGGER):
        Events(Metrics(LocalSums())).instance(
            "orders", instance(Asked(), "one"), "healthy", new, "status 500"
        )
    expected = f'instance one:80 of "orders": healthy -> {new} (status 500)'
    assert lines(caplog) == [(level, expected)]


def test_a_breaker_tells_each_move_once(caplog: pytest.LogCaptureFixture) -> None:
    """Opening, trying, closing: three lines, and none for each request that is refused meanwhile."""
    now = [0.0]
    breaker = Breaker(
        "orders",
        Circuit(failure_threshold=2, min_throughput=2),
        clock=lambda: now[0],
        wall=lambda: now[0],
        listener=Events(Metrics(LocalSums())).circuit,
    )
    with caplog.at_level(logging.DEBUG, LOGGER):
        for _ in range(2):
            breaker.settle(breaker.admit(), Outcome.FAILURE)
        assert breaker.state is State.OPEN
        now[0] = 60.0
        breaker.settle(breaker.admit(), Outcome.SUCCESS)
    assert [text.partition(": ")[2].partition(" (")[0] for _, text in lines(caplog)] == [
        "CLOSED -> OPEN",
        "OPEN -> HALF_OPEN",
        "HALF_OPEN -> CLOSED",
    ]


def test_a_fleet_tells_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    """Falling ill, staying ill, recovering; being left out and coming back."""
    now = [0.0]
    one, two = instance(Asked(), "one"), instance(Asked(), "two")
    fleet = Fleet(
        (one, two),
        "orders",
        health=HealthRules(),
        ejection=Ejection(failures=2, time=30.0),
        clock=lambda: now[0],
        wall=lambda: now[0],
        listener=Events(Metrics(LocalSums())).instance,
    )

    def probed(ok: bool) -> None:
        fleet.checked(one, ok=ok, answered=True, at=1.0, latency=0.1, reason="status 503")

    with caplog.at_level(logging.DEBUG, LOGGER):
        for ok in (True, False, False, False, True, True):
            probed(ok)
        for _ in range(2):
            fleet.failed(one)
        now[0] = 30.0
        fleet.candidates()
        fleet.remove(two)
    assert [text.partition(" of ")[2].partition(" (")[0] for _, text in lines(caplog)] == [
        '"orders": starting -> healthy',
        '"orders": healthy -> unhealthy',
        '"orders": unhealthy -> healthy',
        '"orders": healthy -> ejected',
        '"orders": ejected -> healthy',
        '"orders": starting -> stopped',
    ]


class Lines:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Keep it."""
        self.kept.append(line)


@pytest.mark.parametrize("reason", ["a\nb", "\x1b[2Jcleared", 'quoted "so"', "%s %d", "\x00"])
def test_no_upstream_steers_the_log(reason: str) -> None:
    """Whatever stands in a reason, an event is one line, in both forms."""
    for render in (as_json, as_text):
        written: Any = Lines()
        handler = WriterHandler(written, render)
        logger = logging.getLogger(LOGGER)
        before, logger.propagate = logger.propagate, False
        logger.addHandler(handler)
        try:
            Events(Metrics(LocalSums())).instance(
                "orders", instance(Asked(), "one"), "healthy", "failed", reason
            )
        finally:
            logger.removeHandler(handler)
            logger.propagate = before
        [line] = written.kept
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert line[:-1].decode().isprintable()
        if render is as_json:
            assert f"({reason})" in orjson.loads(line)["event"]
