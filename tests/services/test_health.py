"""Probes of instances, and what their fleet makes of them."""

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from propylon.errors import BadResponse, ConnectFailed, GatewayError, UpstreamTimeout
from propylon.services.fleet import Fleet, HealthRules, Instance, Status
from propylon.services.health import Checks, check
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.upstream.probe import Prober, ProbeTarget, Result
from tests.proxy.doubles import Asked, streamed, whole


class Noted:
    """A prober that only notes who is watched."""

    def __init__(self) -> None:
        self.targets: list[ProbeTarget] = []

    def watch(self, target: ProbeTarget) -> None:
        """Note it."""
        self.targets.append(target)

    def forget(self, target: ProbeTarget) -> None:
        """Strike it out."""
        self.targets.remove(target)


def watched(*instances: Instance, health: HealthRules | None) -> tuple[Fleet, Noted]:
    """A fleet that is watched."""
    noted = Noted()
    fleet = Fleet(instances, health=health)
    fleet.watch(Checks(cast("Prober", noted)))
    return fleet, noted


def below_base(upstream: Any, **options: Any) -> Instance:
    """An instance below a base path."""
    return Instance("one:80", b"one", b"/base", upstream, **options)


def check_now(fleet: Fleet) -> Result:
    """Check the first instance."""

    async def main() -> Result:
        return await check(fleet, fleet.instances[0], clock=lambda: 0.0, wall=lambda: 1000.0)

    return asyncio.run(main())


def test_what_is_asked() -> None:
    """The path of the rules below the base path, marked as ours; by the rules' own times."""
    up: Any = Asked()
    rules = HealthRules(path=b"/up?deep", interval=7.0, timeout=2.0)
    _, noted = watched(below_base(up), health=rules)
    (target,) = noted.targets
    assert target.interval == 7.0
    probe = target.probe
    assert (probe.upstream, probe.timeout, probe.strict) == (up, 2.0, True)
    assert probe.line == b"GET /base/up?deep"
    assert probe.block == b"\r\nHost: one\r\nUser-Agent: propylon-health"


def test_a_probe_has_the_host_of_requests() -> None:
    """Where the operator chose a name for the service, a probe asks for it; the client's Host it cannot know."""
    for host, sent in ((b"shop.internal", b"shop.internal"), (b"", b"one"), (None, b"one")):
        noted = Noted()
        fleet = Fleet([below_base(Asked())], health=HealthRules(), host=host)
        fleet.watch(Checks(cast("Prober", noted)))
        assert noted.targets[0].probe.block.startswith(b"\r\nHost: %b\r\n" % sent)


def test_over_connections_of_its_own() -> None:
    """Those for everything else may all be in use, and that is no illness."""
    busy: Any = Asked(UpstreamTimeout("queued"))
    free: Any = Asked()
    assert check_now(Fleet([below_base(busy, probe=free)])).ok
    assert (busy.got, len(free.got)) == ([], 1)


def test_nobody_is_watched_without_rules() -> None:
    """Where the operator said nothing, nothing is asked in the background."""
    assert watched(below_base(Asked()), health=None)[1].targets == []


def test_watched_and_forgotten() -> None:
    """Whoever goes is probed no more; watched anew is watched once."""
    fleet, noted = watched(below_base(Asked()), health=HealthRules())
    first = noted.targets[0]
    fleet.add(below_base(Asked()))
    assert first not in noted.targets
    assert len(noted.targets) == 1
    checks = Checks(cast("Prober", noted))
    noted.targets.clear()
    for _ in range(2):
        checks.watch(fleet, fleet.instances[0], HealthRules())
    assert len(noted.targets) == 1
    checks.forget(fleet.instances[0])
    checks.forget(fleet.instances[0])
    assert noted.targets == []


@pytest.mark.parametrize(
    ("status", "error", "verdict", "latency"),
    [
        (200, None, "healthy", 2.0),
        (503, None, "unhealthy", 2.0),
        (None, BadResponse("no HTTP"), "unhealthy", 2.0),
        (None, ConnectFailed("refused"), "failed", None),
        (None, UpstreamTimeout("late"), "failed", None),
    ],
)
def test_the_fleet_is_told(
    status: int | None, error: GatewayError | None, verdict: Status, latency: float | None
) -> None:
    """Well, answering badly, or not answering: the last is another thing to look for."""
    fleet, noted = watched(below_base(Asked()), health=HealthRules())
    noted.targets[0].report(Result(status == 200, 1000.0, 0.002, status, error))
    (found,) = fleet.snapshot()
    assert (found.status, found.last_check, found.latency_ms) == (verdict, 1000.0, latency)
    assert bool(fleet.candidates()) == (verdict == "healthy")


@pytest.mark.parametrize("status", [200, 302, 404])
def test_unsaid_any_answer_will_do(status: int) -> None:
    """Without rules /health is asked for; the fleet knows, and asks everybody all the same."""
    up = Asked(whole(status))
    fleet = Fleet([below_base(up)])
    assert check_now(fleet).ok
    assert up.got[0][0] == b"GET /base/health HTTP/1.1"
    assert (fleet.snapshot()[0].status, fleet.last_check) == ("healthy", 1000.0)
    up.script = [whole(500)]
    assert not check_now(fleet).ok
    assert fleet.snapshot()[0].status == "unhealthy"
    assert len(fleet.candidates()) == 1


def test_who_asks_often_makes_nobody_ill() -> None:
    """With rules the background's probes judge alone; whoever asks in between learns, and no more."""
    up = Asked(whole(404))
    fleet = Fleet([below_base(up)], health=HealthRules(unhealthy_after=2, path=b"/up"))
    for _ in range(5):
        result = check_now(fleet)
        assert (result.ok, result.status) == (False, 404)
    assert up.got[0][0] == b"GET /base/up HTTP/1.1"
    assert (fleet.snapshot()[0].status, fleet.last_check) == ("starting", None)


def test_nobody_who_asks_waits_for_long() -> None:
    """A second is enough for whoever wants to know now, whatever probes are granted."""
    timeouts: list[float] = []

    class Noting(Asked):
        def send(self, outgoing: Outgoing, sink: Sink) -> Awaitable[Answer]:
            timeouts.append(outgoing.timeouts.first_byte)
            return super().send(outgoing, sink)

    for timeout in (30.0, 0.5):
        check_now(Fleet([below_base(Noting())], health=HealthRules(timeout=timeout)))
    assert timeouts == [1.0, 0.5]


def test_a_body_is_let_go() -> None:
    """It is nobody's business."""
    answer = streamed(b"x")
    assert check_now(Fleet([below_base(Asked(answer))])).ok
    assert answer.aborted == 1
