"""The gateway's own endpoints: health from real probes, and errors in the gateway's envelope."""

import asyncio
from collections.abc import Generator
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Response

from propylon.control import health
from propylon.control import health as module
from propylon.control import metrics as monitoring
from propylon.control.app import create_app
from propylon.control.health import HealthState
from propylon.control.schemas import Envelope, Health
from propylon.errors import (
    AuthError,
    CircuitOpen,
    ConnectFailed,
    Forbidden,
    ServiceUnavailable,
    UpstreamTimeout,
)
from propylon.services.instance import HealthRules
from propylon.services.service import Fleet, Service
from tests.proxy.doubles import Asked, instance, service, streamed, whole

GONE = ConnectFailed("refused")


class Asking:
    """A client of an app, without sockets; a bug of the app's is its 500."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask."""

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                return await client.request(method, path, **options)

        return asyncio.run(main())

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask with GET."""
        return self.request("GET", path, **options)


def rendering(accept: str) -> Generator[None, None, tuple[bytes, str]]:
    """Metrics that take a turn of the loop to write."""
    yield
    return b"# metrics\n", accept


def app_of(*services: Service, **options: Any) -> tuple[FastAPI, HealthState]:
    """The app over these services."""
    state = HealthState("1.2.3", services, **options)
    routers = [health.router(state), monitoring.router(rendering)]
    return create_app(state.version, routers), state


@pytest.fixture
def client() -> Asking:
    """A client of an app with broken endpoints of a team's own."""
    app, _ = app_of()

    @app.get("/number/{number}")
    async def number(number: int, limit: int = 3) -> int:
        return number

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("s3cret")

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(403, "not you", headers={"X-Why": "because"})

    @app.get("/open")
    async def opened() -> None:
        raise CircuitOpen("open", details={"service": "a"}, headers=((b"Retry-After", b"7"),))

    @app.get("/raised/{kind}")
    async def raised(kind: str) -> None:
        raise RAISED[kind]

    return Asking(app)


HINT = 'Basic realm="a"'
RAISED: dict[str, Exception] = {
    "AuthError": AuthError("who?"),
    "Forbidden": Forbidden("not you"),
    "HTTPException 401": HTTPException(401),
    "HTTPException 403": HTTPException(403),
    "Forbidden with its own": Forbidden("no", headers=((b"www-authenticate", HINT.encode()),)),
    "HTTPException with its own": HTTPException(401, headers={"www-authenticate": HINT}),
    "ServiceUnavailable": ServiceUnavailable("away"),
    "HTTPException 503": HTTPException(503),
    "ServiceUnavailable with its own": ServiceUnavailable("x", headers=((b"retry-after", b"9"),)),
    "HTTPException 503 with its own": HTTPException(503, headers={"retry-after": "9"}),
}


def ask_health(app: FastAPI, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """The health of an app."""
    answer = Asking(app).request(method, "/health")
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json() if method == "GET" else {}


def test_health_of_nothing() -> None:
    """Without services the gateway is well; the answer is the published model."""
    status, body = ask_health(app_of()[0])
    assert (status, body["status"], body["version"], body["services"]) == (
        200,
        "healthy",
        "1.2.3",
        {},
    )
    Health.model_validate(body)
    assert body["timestamp"].endswith("Z")
    assert datetime.fromisoformat(body["timestamp"]).microsecond == 0


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        ([whole()], "healthy"),
        ([whole(404)], "healthy"),
        ([whole(499)], "healthy"),
        ([whole(500)], "unhealthy"),
        ([GONE], "unhealthy"),
        ([UpstreamTimeout("late")], "unhealthy"),
        ([GONE, whole()], "degraded"),
        ([whole(), whole(500)], "degraded"),
        ([whole(), whole()], "healthy"),
        ([whole(503), GONE], "unhealthy"),
        ([], "unknown"),
    ],
)
def test_health_of_a_service(scripts: list[Any], status: str) -> None:
    """Every instance answers below 500, or some do, or none; without instances nobody knows."""
    code, body = ask_health(app_of(service(*map(Asked, scripts), name="orders"))[0])
    assert code == 200
    assert body["status"] == ("healthy" if status == "healthy" else "degraded")
    found = body["services"]["orders"]
    assert found["status"] == status
    assert (found["latency_ms"] is not None) == (status in ("healthy", "degraded"))
    assert "one:80" not in str(body)


def test_the_probe() -> None:
    """GET below the base path, marked as ours, on its own connection; a body is not read."""
    up = Asked(answer := streamed(b"x"))
    found = Service("orders", Fleet((instance(up, "one", b"/base"),)), lambda some: some[0])
    ask_health(app_of(found)[0])
    line, block, _ = up.got[0]
    assert line == b"GET /base/health HTTP/1.1"
    assert block == b"\r\nHost: one\r\nUser-Agent: propylon-health\r\nConnection: close"
    assert answer.aborted == 1


def test_probes_are_shared() -> None:
    """Many who ask at once are one probe, and another one a second later."""
    up = Asked(whole())

    async def main() -> None:
        state = HealthState("1", (service(up),))
        await asyncio.gather(*(state.probe() for _ in range(20)))
        await state.probe()
        assert len(up.got) == 1
        state._probed_at -= module._SHARED_FOR + 0.1
        await state.probe()
        assert len(up.got) == 2

    asyncio.run(main())


def test_one_who_is_impatient_cancels_nobody() -> None:
    """The probe goes on for the others."""

    class Slow:
        async def send(self, outgoing: Any, sink: Any) -> Any:
            await asyncio.sleep(0.05)
            return whole()

    async def main() -> None:
        state = HealthState("1", (service(Slow()),))
        first = asyncio.create_task(state.probe())
        second = asyncio.create_task(state.probe())
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second)["orders"].status == "healthy"

    asyncio.run(main())


def test_a_silent_service() -> None:
    """It is unhealthy after a while; nobody waits longer."""

    class Silent:
        async def send(self, outgoing: Any, sink: Any) -> Any:
            await asyncio.sleep(60)

    silent = Fleet((instance(Silent(), "one"),), health=HealthRules(timeout=0.02))
    found = Service("a", silent, lambda some: some[0])
    _, body = ask_health(app_of(found, service(Asked(whole()), name="b"))[0])
    assert {name: one["status"] for name, one in body["services"].items()} == {
        "a": "unhealthy",
        "b": "healthy",
    }


def test_what_is_probed_anyway_is_not_asked_again() -> None:
    """Where probes run in the background, /health says what they found."""
    ups = [Asked(whole()), Asked(whole())]
    instances = [instance(up, name) for up, name in zip(ups, ("one", "two"), strict=True)]
    fleet = Fleet(instances, health=HealthRules())
    for one, ok in zip(instances, (True, False), strict=True):
        fleet.checked(one, ok=ok, answered=True, at=1.0, latency=0.5, reason="")
    _, body = ask_health(app_of(Service("a", fleet, lambda some: some[0]))[0])
    assert body["services"]["a"] == {"status": "degraded", "latency_ms": 500.0}
    assert [up.got for up in ups] == [[], []]


def test_waiting() -> None:
    """What the gateway waits for is named to a balancer, and degrades it; once it is there, all is well."""
    reasons: list[str | None] = ["the keys", None]
    app, _ = app_of(waiting=[lambda: reasons[0], lambda: reasons[1]])
    asking = Asking(app)
    ready = asking.get("/readyz")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert ready.json() == {"status": "waiting", "for": ["the keys"]}
    assert ask_health(app)[1]["status"] == "degraded"
    assert asking.get("/livez").status_code == 200
    reasons[0] = None
    assert asking.get("/readyz").json() == {"status": "ready"}
    assert ask_health(app)[1]["status"] == "healthy"


def test_draining() -> None:
    """Unhealthy and not ready, but alive."""
    app, state = app_of(service(Asked(whole())))
    asking = Asking(app)
    assert asking.get("/readyz").json() == {"status": "ready"}
    state.draining = True
    found = asking.get("/health")
    assert (found.status_code, found.json()["status"]) == (503, "unhealthy")
    assert found.headers["retry-after"] == "5"
    ready = asking.get("/readyz")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
    assert asking.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics", "/number/7"])
def test_head(client: Asking, path: str) -> None:
    """Whatever GET answers HEAD does, a team's endpoints as well: the same head, and no body."""
    got, answer = client.get(path), client.request("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert answer.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/refused"])
def test_head_sends_no_body(client: Asking, path: str) -> None:
    """Not even to a server that would pass it on: it would be read as the next answer."""
    sent: list[Any] = []
    scope = {"type": "http", "method": "HEAD", "path": path, "query_string": b"", "headers": []}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert [message.get("body") for message in sent[1:]] == [b""]


def test_head_of_what_refuses(client: Asking) -> None:
    """The status that GET has, without a body; what answers no GET answers no HEAD."""
    for path, status in (("/number/x", 422), ("/refused", 403), ("/nowhere", 404)):
        answer = client.request("HEAD", path)
        assert (answer.status_code, answer.content) == (status, b"")


def test_head_that_is_meant() -> None:
    """An endpoint for HEAD itself is the one that is asked."""
    app, _ = app_of()

    @app.head("/thing")
    async def head() -> Response:
        return Response(headers={"X-By": "head"})

    @app.get("/thing")
    async def get() -> Response:
        return Response("body", headers={"X-By": "get"})

    @app.post("/posted")
    async def post() -> None: ...

    client = Asking(app)
    assert client.request("HEAD", "/thing").headers["x-by"] == "head"
    assert client.get("/thing").headers["x-by"] == "get"
    assert client.request("HEAD", "/posted").status_code == 405


def test_metrics(client: Asking) -> None:
    """The text as it was rendered for this Accept, under its media type."""
    answer = client.get("/metrics", headers={"accept": "text/x-of"})
    assert answer.content == b"# metrics\n"
    assert answer.headers["content-type"].startswith("text/x-of")


def envelope(answer: Any) -> dict[str, Any]:
    """The error of an answer, checked against the published model."""
    Envelope.model_validate(answer.json())
    assert answer.json()["request_id"] == "abc"
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()["error"]
    return found


ID = {"X-Request-ID": "abc"}


def test_422(client: Asking) -> None:
    """Which field does not fit, and why."""
    answer = client.get("/number/x?limit=y", headers=ID)
    assert answer.status_code == 422
    error = envelope(answer)
    assert error["code"] == "INVALID_REQUEST"
    assert set(error["details"]["fields"]) == {"number", "limit"}


def test_500(client: Asking) -> None:
    """Nothing of the bug is told."""
    answer = client.get("/broken", headers=ID)
    assert answer.status_code == 500
    assert envelope(answer) == {
        "code": "INTERNAL_ERROR",
        "message": "An endpoint of the gateway failed",
        "details": {},
    }
    assert "s3cret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("DELETE", "/livez", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/refused", 403, "AUTH_ERROR"),
        ("GET", "/open", 503, "CIRCUIT_OPEN"),
    ],
)
def test_refusals(client: Asking, method: str, path: str, status: int, code: str) -> None:
    """Starlette's and the gateway's own errors in one form."""
    answer = client.request(method, path, headers=ID)
    assert (answer.status_code, envelope(answer)["code"]) == (status, code)


def test_headers_of_refusals(client: Asking) -> None:
    """They come along."""
    assert "GET" in client.request("DELETE", "/livez").headers["allow"]
    assert client.get("/refused").headers["x-why"] == "because"
    assert client.get("/open").headers["retry-after"] == "7"


@pytest.mark.parametrize("kind", RAISED)
def test_what_a_refusal_advises(client: Asking, kind: str) -> None:
    """401 and 403 have a challenge, 503 a time to come back, once each; whoever raised it knows better."""
    answer = client.get(f"/raised/{kind}")
    own = kind.endswith("its own")
    asked, later = [HINT if own else "Bearer"], ["9" if own else "5"]
    barred = answer.status_code in (401, 403)
    assert answer.headers.get_list("www-authenticate") == (asked if barred else [])
    assert answer.headers.get_list("retry-after") == ([] if barred else later)


def test_the_documentation_names_the_envelope(client: Asking) -> None:
    """In the schema of every endpoint."""
    schema = client.app.openapi()
    default = schema["paths"]["/health"]["get"]["responses"]["default"]
    reference = default["content"]["application/json"]["schema"]["$ref"]
    assert reference.endswith("/Envelope")
