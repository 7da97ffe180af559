"""The pytest plugin: a gateway with upstreams in memory, on a clock that the test moves."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from propylon import Forbidden, Gateway, Principal, Request
from propylon.testing.clocks import Clock
from propylon.testing.gateway import GatewayUnderTest, running
from propylon.testing.refused import NotInMemory

# The suite has a fixture `gateway` of its own, so these ask for `propylon_gateway`.
pytest_plugins = ["pytester"]
pytestmark = pytest.mark.propylon(config="tests/testing/shop.yaml")
ENVIRON = {"JWT_SECRET_KEY": "propylon-test-secret-which-protects-nothing"}


@pytest.fixture
def propylon_prepare() -> Callable[[Gateway], None]:
    """A policy in a thread, on the route `orders`."""

    def prepare(gateway: Gateway) -> None:
        @gateway.before("orders")
        def no_bob(request: Request, principal: Principal) -> None:
            if principal.subject == "bob":
                raise Forbidden("Not bob")

    return prepare


def test_requests_go_through_the_whole_gateway(propylon_gateway: GatewayUnderTest) -> None:
    """The service gets what it would get, the client what it would get; both as users of httpx write it."""
    orders = propylon_gateway.upstream("orders")
    orders.reply(201, json={"id": 7}, headers={"X-Made": "yes"})
    token = propylon_gateway.token("ann", scope="read", iss="shop")
    answer = propylon_gateway.post(
        "/api/orders", params={"a": "b c"}, json={"n": 1}, headers={"X-A": "1"}, token=token
    )
    assert (answer.status_code, answer.json(), answer.headers["x-made"]) == (201, {"id": 7}, "yes")
    (got,) = orders.requests
    assert (got.method, got.path, got.query) == ("POST", "/v2/api/orders", "a=b+c")
    assert (got.json(), got.headers["X-A"], got.headers["x-user-id"]) == ({"n": 1}, "1", "ann")
    assert propylon_gateway.get("/api/orders").status_code == 401
    bob = propylon_gateway.token("bob", scope="read")
    assert propylon_gateway.get("/api/orders", token=bob).status_code == 403


def test_who_else_decides(propylon_gateway: GatewayUnderTest) -> None:
    """A service that decides has a stand-in, by its host; users of a file have their passwords."""
    decider = propylon_gateway.upstream("auth.internal")
    decider.reply(200, headers={"X-User": "ann"})
    assert propylon_gateway.get("/api/asked").status_code == 200
    (got,) = propylon_gateway.upstream("users").requests
    assert got.headers["x-user"] == "ann"
    decider.fail(1)
    assert propylon_gateway.get("/api/asked").status_code == 503
    decider.reply(401, text="who are you?")
    answer = propylon_gateway.get("/api/asked")
    assert (answer.status_code, answer.text) == (401, "who are you?")
    assert propylon_gateway.get("/api/inner").status_code == 401
    right = {"Authorization": "Basic YW5uOmNvcnJlY3QgaG9yc2U="}  # ann:correct horse
    assert propylon_gateway.get("/api/inner", headers=right).status_code == 200


def test_retries_and_the_circuit(propylon_gateway: GatewayUnderTest, clock: Clock) -> None:
    """Refused connections are retried; without retries they open the circuit until its time has passed."""
    users, once = propylon_gateway.upstream("users"), propylon_gateway.upstream("once")
    assert (
        propylon_gateway.get("/api/users").status_code == 200
    )  # leaves a connection, which `fail` closes
    users.fail(2)
    assert propylon_gateway.get("/api/users").status_code == 200
    once.fail(3)
    assert [propylon_gateway.get("/api/once").status_code for _ in range(4)] == [502, 502, 502, 503]
    assert once.requests == []
    clock.tick(29)
    assert propylon_gateway.get("/api/once").status_code == 503
    clock.tick(2)
    assert propylon_gateway.get("/api/once").status_code == 200


def test_limits_caches_and_tokens_run_out_on_the_same_clock(
    propylon_gateway: GatewayUnderTest, clock: Clock
) -> None:
    """No clock of the gateway is left behind, and none of the test is touched."""
    began = time.time()
    users = propylon_gateway.upstream("users")
    few = [propylon_gateway.get("/api/few").status_code for _ in range(3)]
    assert few == [200, 200, 429]
    assert propylon_gateway.get("/api/few", client="192.0.2.2").status_code == 200
    users.reply(text="first")
    assert propylon_gateway.get("/api/kept").text == "first"
    users.reply(text="second")
    token = propylon_gateway.token("ann", scope="read", expires=300)
    clock.tick(50)
    assert propylon_gateway.get("/api/few").status_code == 200
    assert propylon_gateway.get("/api/kept").text == "first"
    clock.tick(11)
    assert propylon_gateway.get("/api/kept").text == "second"
    assert propylon_gateway.get("/api/orders", token=token).status_code == 200
    clock.tick(240)
    assert propylon_gateway.get("/api/orders", token=token).status_code == 401
    assert time.time() - began < 300


def test_hanging_and_slow_services_cost_no_time(
    propylon_gateway: GatewayUnderTest, clock: Clock
) -> None:
    """Time passes as a request needs it, and stands still while a thread works."""
    once = propylon_gateway.upstream("once")
    once.hang()
    before = clock.monotonic()
    assert propylon_gateway.get("/api/once").status_code == 504
    assert clock.monotonic() - before == pytest.approx(5, abs=1)
    once.reply()
    once.slow(4)
    before = clock.monotonic()
    assert propylon_gateway.get("/api/once").status_code == 200
    assert clock.monotonic() - before == pytest.approx(4)
    # A password's hash in a thread, and SQLite in another one.
    before = clock.monotonic()
    form = {"grant_type": "password", "username": "ann", "password": "wrong-and-long"}
    assert propylon_gateway.post("/api/v1/auth/token", data=form).status_code == 401
    assert clock.monotonic() - before < 1


def test_a_request_in_flight_ends_while_the_gateway_drains(
    propylon_gateway: GatewayUnderTest, clock: Clock
) -> None:
    """Its answer comes; the gateway is not ready any more, and later answers close their connections."""
    propylon_gateway.upstream("once").slow(3)
    assert propylon_gateway.get("/readyz").status_code == 200
    pending = propylon_gateway.begin("GET", "/api/once")
    propylon_gateway.drain()
    clock.tick(2)
    assert not pending.done
    assert propylon_gateway.get("/readyz").status_code == 503
    assert pending.result().status_code == 200
    assert propylon_gateway.get("/api/users").headers["connection"] == "close"


def test_published_keys(propylon_gateway: GatewayUnderTest) -> None:
    """What stands in for the provider publishes a test key, by which the token is verified."""
    token = propylon_gateway.token("ann", scope="read", iss="idp")
    assert propylon_gateway.get("/api/orders", token=token).status_code == 200
    assert [got.path for got in propylon_gateway.upstream("idp.example.com").requests] == ["/keys"]
    with pytest.raises(LookupError, match="no service 'shop'"):
        propylon_gateway.upstream("shop")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("redis: redis://127.0.0.1/0", "redis"),
        ("log: {syslog: udp://127.0.0.1}", "syslog"),
        ("services: {a: {url: 'srv+http://_http._tcp.a.example'}}", "SRV"),
    ],
)
def test_what_needs_a_socket_is_refused(tmp_path: Path, config: str, why: str) -> None:
    """And not replaced by something that behaves otherwise."""
    file = tmp_path / "propylon.yaml"
    file.write_text(config)
    with (
        pytest.raises(NotInMemory, match=why),
        running(file, ENVIRON, tmp_path, lambda gateway: None),
    ):
        pass


def test_the_entry_point_loads_nothing_of_the_gateway() -> None:
    """Every run of pytest where the package is installed imports it."""
    code = (
        "import sys, pytest; before = set(sys.modules); import propylon.testing.plugin;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('propylon.v')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['propylon', 'propylon.testing', 'propylon.testing.plugin']"


def test_a_project_needs_no_more_than_its_file(pytester: pytest.Pytester) -> None:
    """The fixtures come with the package: the how-to page is such a project, and its tests run twice, sharing nothing."""
    page = (Path(__file__).parents[2] / "docs/howto/testing.md").read_text()
    pytester.makefile(
        ".yaml", propylon="\n".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    )
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    names = re.findall(r"^def (test_\w+)", blocks, re.MULTILINE)
    pytester.makepyfile(test_one=blocks, test_two=blocks)
    run = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    run.assert_outcomes(passed=2 * len(names))
