"""What /health and /readyz say, and how often anybody is asked for it."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from propylon.control import health
from propylon.control.app import create_app
from propylon.control.health import HealthState
from propylon.control.schemas import Readiness
from propylon.errors import ConnectFailed
from propylon.services.instance import Ejection, HealthRules
from propylon.services.service import Fleet, Service
from tests.proxy.doubles import Asked, instance, service, whole

GONE = ConnectFailed("refused", reason="Connect call failed ('192.0.2.1', 80)")


def governed(*upstreams: Any, name: str = "orders", **rules: Any) -> Service:
    """A service whose instances are probed in the background."""
    found = [instance(up, f"host-{number}") for number, up in enumerate(upstreams)]
    return Service(name, Fleet(found, name, health=HealthRules(**rules)), lambda some: some[0])


def note(of: Service, at: int, *, ok: bool, answered: bool = True) -> None:
    """Have a background probe end."""
    found = of.instances[at]
    of.fleet.checked(found, ok=ok, answered=answered, at=1.0, latency=0.25, reason="")


async def get(state: HealthState, path: str) -> httpx.Response:
    """Ask the endpoint."""
    transport = httpx.ASGITransport(create_app("1", [health.router(state)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        return await client.get(path)


def found_by(state: HealthState) -> dict[str, Any]:
    """What one round of probes finds."""

    async def main() -> dict[str, Any]:
        return {name: one.model_dump() for name, one in (await state.probe()).items()}

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("verdicts", "status", "latency"),
    [
        ("++", "healthy", 250.0),
        ("+-", "degraded", 250.0),
        ("0+", "degraded", 250.0),
        ("--", "unhealthy", None),
        ("00", "unhealthy", None),
    ],
)
def test_background_verdicts(verdicts: str, status: str, latency: float | None) -> None:
    """Where probes govern, they have been asked already: /health asks nobody."""
    ups = [Asked(GONE) for _ in verdicts]
    of = governed(*ups)
    for at, verdict in enumerate(verdicts):
        note(of, at, ok=verdict == "+", answered=verdict != "0")
    found = found_by(HealthState("1", (of,)))
    assert found == {"orders": {"status": status, "latency_ms": latency}}
    assert [up.got for up in ups] == [[]] * len(ups)


def test_healthy_through_a_silence_below_the_threshold() -> None:
    """One probe without an answer is no verdict yet: then the last answer is what is known."""
    of = governed(Asked(), unhealthy_after=2)
    note(of, 0, ok=True)
    note(of, 0, ok=False, answered=False)
    assert found_by(HealthState("1", (of,)))["orders"]["status"] == "healthy"


@pytest.mark.parametrize(("answer", "status"), [(whole(), "healthy"), (whole(404), "unhealthy")])
def test_before_the_first_verdict_somebody_asks(answer: Any, status: str) -> None:
    """As the background would: on its path, and only a 2xx is well. The verdict stays the background's."""
    up = Asked(answer)
    of = governed(up, path=b"/up")
    assert found_by(HealthState("1", (of,)))["orders"]["status"] == status
    assert up.got[0][0] == b"GET /up HTTP/1.1"
    assert of.instances[0].state.status == "starting"


def test_ejected_is_not_ill() -> None:
    """The status is that of probes: who is left out for a while may be well."""
    ups = [Asked(), Asked()]
    instances = [instance(up, str(number)) for number, up in enumerate(ups)]
    fleet = Fleet(instances, ejection=Ejection(1), clock=lambda: 0.0, wall=lambda: 0.0)
    fleet.failed(instances[0])
    assert len(fleet.candidates()) == 1
    of = Service("orders", fleet, lambda some: some[0])
    assert found_by(HealthState("1", (of,)))["orders"]["status"] == "healthy"


def test_what_was_found_is_kept_for_whoever_is_refused() -> None:
    """Asked on demand, an instance's status and time are known from then on; it is asked all the same."""
    of = service(Asked(GONE), Asked())
    found_by(HealthState("1", (of,)))
    assert [one.status for one in of.fleet.snapshot()] == ["failed", "healthy"]
    assert of.fleet.last_check is not None
    assert len(of.fleet.candidates()) == 2


def test_no_addresses() -> None:
    """The public learns names and statuses, and neither hosts nor reasons."""
    states = HealthState("1", (service(Asked(GONE)), governed(Asked(GONE), name="users")))
    answer = asyncio.run(get(states, "/health"))
    assert answer.json()["services"] == {
        "orders": {"status": "unhealthy", "latency_ms": None},
        "users": {"status": "unhealthy", "latency_ms": None},
    }
    for word in ("192.0.2.1", "host-0", "one", "refused", "Connect"):
        assert word not in json.dumps({**answer.json(), "status": ""})


class Slow:
    """An upstream that answers when it is told to."""

    busy = 0

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def send(self, outgoing: Any, sink: Any) -> Any:
        """Wait."""
        self.asked += 1
        await self.go.wait()
        return whole()


def test_one_round_at_a_time() -> None:
    """However long a round takes: who asks meanwhile waits for it, and starts no other."""

    async def main() -> None:
        up = Slow()
        state = HealthState("1", (service(up),))
        first = asyncio.create_task(state.probe())
        await asyncio.sleep(0)
        state._probed_at -= 10
        second = asyncio.create_task(state.probe())
        await asyncio.sleep(0)
        up.go.set()
        assert await first == await second
        assert up.asked == 1

    asyncio.run(main())


def test_a_round_that_was_cut_off_is_not_shared() -> None:
    """A loop that ended took its tasks with it: the next one asks anew."""
    up = Slow()
    state = HealthState("1", (service(up),))

    async def begin() -> None:
        begun = asyncio.create_task(state.probe())
        await asyncio.sleep(0.01)
        assert not begun.done()

    asyncio.run(begin())
    up.go = asyncio.Event()
    up.go.set()
    assert found_by(state)["orders"]["status"] == "healthy"


@pytest.mark.parametrize("draining", [False, True])
def test_why_it_is_not_ready(draining: bool) -> None:
    """Every reason, in order; once it stops, only that."""
    state = HealthState("1", draining=draining)
    state.waiting.append(lambda: "the key set")
    state.waiting.append(lambda: None)
    state.waiting.append(lambda: "the database")
    answer = asyncio.run(get(state, "/readyz"))
    assert answer.status_code == 503
    expected = (
        {"status": "draining"}
        if draining
        else {"status": "waiting", "for": ["the key set", "the database"]}
    )
    assert answer.json() == expected
    assert answer.headers["retry-after"] == ("5" if draining else "1")


def test_waiting_is_degraded_and_not_unhealthy() -> None:
    """A container that is restarted because a key set is late would never come up."""
    state = HealthState("1", (service(Asked()),), waiting=[lambda: "the key set"])
    answer = asyncio.run(get(state, "/health"))
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    state.draining = True
    answer = asyncio.run(get(state, "/health"))
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")


def test_readiness_is_described() -> None:
    """In the schema, the reasons are called what they are called in the answer."""
    schema = create_app("1", [health.router(HealthState("1"))]).openapi()
    responses = schema["paths"]["/readyz"]["get"]["responses"]
    assert set(responses) >= {"200", "503"}
    properties = schema["components"]["schemas"]["Readiness"]["properties"]
    assert set(properties) == {"status", "for"}
    assert Readiness(status="ready").reasons is None
