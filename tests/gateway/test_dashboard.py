"""The dashboard over real sockets, on both edges: a page without data, endpoints for admins alone, and what operators do there."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Upstream
from tests.support.waiting import wait

PREFIX = "/api/v1"
JSON = ("Content-Type", "application/json")
SCRIPT = "<script>alert(1)</script>"
READ = ("overview", "live", "tail", "history", "log-level")


class World:
    """A gateway with a service that answers and one that is not there."""

    def __init__(self, edge: str, folder: Path) -> None:
        self.upstream = Upstream()
        self.admin = authorized("ann", scope="admin", edge=edge)
        self.user = authorized("bob", scope="read", edge=edge)
        up = f"http://127.0.0.1:{self.upstream.port}"
        never = {"failure_threshold": 1000}
        self.gateway = Gateway(
            edge,
            {
                "server": {"workers": 2 if edge == "fast" else 1},
                "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
                "services": {
                    "up": {"url": up, "circuit": never},
                    "away": {"url": "http://127.0.0.1:1", "circuit": never},
                },
                "routes": [
                    {"name": SCRIPT, "path": "/up", "service": "up", "auth": "none"},
                    {"name": "away", "path": "/away", "service": "away", "auth": "none"},
                    {
                        "name": "few",
                        "path": "/few",
                        "service": "up",
                        "auth": "none",
                        "rate_limit": {"rate": "1/h", "burst": 1, "key": "ip"},
                    },
                ],
            },
            folder,
        )
        self.gateway.wait_ready()

    def ask(self, path: str, method: str = "GET", said: Any = None, **headers: str) -> Answer:
        """Ask as an admin."""
        body = b"" if said is None else json.dumps(said).encode()
        more = [(name.replace("_", "-"), value) for name, value in headers.items()]
        fields = [*self.admin, *more, *([JSON] if body else [])]
        return ask(self.gateway.port, method, f"{PREFIX}{path}", fields, body)

    def overview(self) -> dict[str, Any]:
        """Everything now."""
        answer = self.ask("/gateway/overview")
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.body)["set"]
        return found

    def audited(self, action: str) -> list[dict[str, Any]]:
        """The audit records of an action."""
        return [one for one in self.gateway.lines('"audit"') if one.get("action") == action]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """One on each edge."""
    found = {edge: World(edge, tmp_path_factory.mktemp(edge)) for edge in EDGES}
    yield found
    for world in found.values():
        world.gateway.stop()
        world.upstream.close()


@pytest.fixture(params=EDGES)
def world(request: pytest.FixtureRequest, worlds: dict[str, World]) -> World:
    """The gateway on an edge."""
    return worlds[request.param]


def test_the_page_holds_no_data_and_loads_nothing_from_elsewhere(world: World) -> None:
    """Anybody may read it; its policy runs no script and uses no style of the page, and lets it ask this gateway alone."""
    answer = ask(world.gateway.port, target="/dashboard")
    assert answer.status == 200
    policy = answer.get("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert answer.get("set-cookie") is None
    assert b"//" not in answer.body
    assert b"away" not in answer.body
    loaded = re.findall(rb'(?:src|href)="(/[^"]+)"', answer.body)
    assert len(loaded) == 4
    for path in loaded:
        assert ask(world.gateway.port, target=path.decode()).status == 200
    assert ask(world.gateway.port, target="/dashboard/assets/__init__.py").status == 404


def test_scripts_of_the_page_never_write_markup() -> None:
    """What they show goes into the page as text: none of them can make an element out of a name."""
    assets = Path("src/propylon/control/assets")
    scripts = sorted(assets.glob("dashboard*.js"))
    assert len(scripts) >= 8
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
        assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", text)
        assert not re.search(r"https?://", text)


@pytest.mark.parametrize("path", [f"/gateway/{name}" for name in READ])
def test_only_admins_see_it(world: World, path: str) -> None:
    """No token is 401, another scope 403; and so is what a browser sends for another site's page, whatever the token."""
    port = world.gateway.port
    assert ask(port, target=f"{PREFIX}{path}").status == 401
    assert ask(port, target=f"{PREFIX}{path}", headers=world.user).status == 403
    for site in ("cross-site", "same-site"):
        assert world.ask(path, Sec_Fetch_Site=site).status == 403


ACTIONS = [
    ("PUT", "/circuits/up", {"state": "OPEN"}),
    ("PUT", "/services/up/127.0.0.1:1/drain", None),
    ("DELETE", "/services/up/127.0.0.1:1/drain", None),
    ("PUT", "/gateway/log-level", {"level": "error"}),
]


@pytest.mark.parametrize(("method", "path", "said"), ACTIONS)
def test_only_admins_act(world: World, method: str, path: str, said: Any) -> None:
    """The same of all actions; a token in a cookie counts for nothing. Nothing has been done."""
    port, target = world.gateway.port, f"{PREFIX}{path}"
    body = b"" if said is None else json.dumps(said).encode()
    cookie = [("Cookie", f"token={world.admin[0][1].removeprefix('Bearer ')}")]
    assert ask(port, method, target, [JSON, *cookie], body).status == 401
    assert ask(port, method, target, [JSON, *world.user], body).status == 403
    assert world.ask(path, method, said, Sec_Fetch_Site="cross-site").status == 403
    # An earlier case may have opened it, and the other worker may not have heard yet that it was closed again.
    wait(lambda: world.overview()["services"]["up"]["circuit"]["state"] == "CLOSED")
    assert world.overview()["gateway"]["all"]["log_level"] != "error"


def test_what_fails_is_shown_with_its_request(world: World) -> None:
    """With id, code and caller, without the query; a name that is markup is text in JSON; `away` is counted as failing."""
    answer = ask(world.gateway.port, target="/away/x?token=hunter2")
    assert answer.status == 502
    identity = answer.get("x-request-id")

    def found() -> list[dict[str, Any]]:
        records = world.overview()["records"].values()
        return [one for one in records if one["request_id"] == identity]

    wait(found)
    (record,) = found()
    assert (record["code"], record["path"], record["client_ip"]) == (
        "UPSTREAM_ERROR", "/away/x", "127.0.0.1",
    )  # fmt: skip
    assert "hunter2" not in json.dumps(record)
    ask(world.gateway.port, target="/up/x")
    wait(lambda: f"{SCRIPT}\0up" in world.overview()["routes"])
    shown = world.overview()
    assert shown["map"][f"{SCRIPT}\0up"][:3] == [SCRIPT, "up", "/up"]
    wait(lambda: world.overview()["routes"]["away\0away"][5] >= 1)


def test_who_runs_into_a_limit_is_named(world: World) -> None:
    """By the address, with how often; the limit, with its rate and how many it refused."""
    answers = [ask(world.gateway.port, target="/few").status for _ in range(4)]
    assert answers.count(429) >= 3

    def callers() -> list[Any]:
        return [one for one in world.overview()["callers"].values() if one[1] == "127.0.0.1"]

    wait(lambda: callers() and callers()[0][2] >= 3)
    limit = callers()[0][0]
    wait(lambda: world.overview()["limits"].get(limit, {}).get("refused", 0) >= 3)
    assert world.overview()["limits"][limit]["routes"] == ["few"]


def statuses(world: World) -> set[int]:
    """What some requests are answered, on connections of their own: both workers get some."""
    return {ask(world.gateway.port, target="/up/x").status for _ in range(8)}


def test_an_operator_opens_and_closes_a_breaker(world: World) -> None:
    """In all workers: each request is refused until it is closed again. Both stand in the audit log, with who did it."""
    assert world.ask("/circuits/up", "PUT", {"state": "OPEN"}).status == 204
    wait(lambda: statuses(world) == {503})
    circuit = world.overview()["services"]["up"]["circuit"]
    assert (circuit["state"], circuit["held"]) == ("OPEN", True)
    assert circuit["reason"] == "ann opened it by hand"
    assert world.ask("/circuits/up", "PUT", {"state": "CLOSED"}).status == 204
    wait(lambda: statuses(world) == {200})
    for action in ("circuit.open", "circuit.reset"):
        wait(partial(world.audited, action))
        record, *_ = world.audited(action)
        assert (record["principal"], record["target"], record["outcome"]) == (
            "ann", "service:up", "success",
        )  # fmt: skip
    assert world.ask("/circuits/nothing", "PUT", {"state": "CLOSED"}).status == 404
    assert world.ask("/circuits/up", "PUT", {"state": "ajar"}).status == 422


def test_an_operator_drains_and_restores_an_instance(world: World) -> None:
    """In all workers; the last one may be drained, too, and the service then answers 503."""
    where = f"/services/up/127.0.0.1:{world.upstream.port}/drain"
    assert world.ask(where, "PUT").status == 204
    wait(lambda: statuses(world) == {503})
    (instance,) = world.overview()["services"]["up"]["instances"].values()
    assert instance["drained"]
    assert json.loads(world.ask("/services/up").body)["instances"][0]["drained"]
    assert world.ask(where, "DELETE").status == 204
    wait(lambda: statuses(world) == {200})
    wait(lambda: world.audited("instance.drain") and world.audited("instance.restore"))
    assert world.ask("/services/up/nowhere:1/drain", "PUT").status == 404


def test_an_operator_sets_the_level_of_the_log(world: World) -> None:
    """All workers obey until it is set back."""
    assert world.ask("/gateway/log-level", "PUT", {"level": "critical"}).status == 200
    wait(lambda: json.loads(world.ask("/gateway/log-level").body) == {"level": "critical"})
    wait(lambda: world.audited("log.level"))
    assert world.ask("/gateway/log-level", "PUT", {"level": "loud"}).status == 422
    assert world.ask("/gateway/log-level", "PUT", {"level": "info"}).status == 200
    wait(lambda: json.loads(world.ask("/gateway/log-level").body) == {"level": "info"})


def lines(client: RawClient) -> Iterator[dict[str, Any]]:
    """Read a stream's lines of JSON from a connection whose request was sent."""
    read = b""
    while True:
        piece = client.sock.recv(65536)
        assert piece, "the stream ended"
        read += piece
        # Each line is a chunk of its own; the sizes between them are no JSON.
        *whole, read = read.split(b"\n")
        for line in whole:
            if line.startswith(b"{"):
                yield json.loads(line)


def test_the_stream_begins_with_all_and_goes_on(world: World) -> None:
    """A full line, then the next numbers of one generation; who comes back with a number gets no line twice."""
    path = f"{PREFIX}/gateway/live"
    with RawClient(world.gateway.port) as client:
        client.send(request(target=path, headers=world.admin))
        stream = lines(client)
        first, second = next(stream), next(stream)
    assert (first["full"], second["full"]) == (True, False)
    assert second["seq"] == first["seq"] + 1
    assert second["generation"] == first["generation"]
    assert {"services", "routes", "records", "limits", "reloads"} <= first["set"].keys()
    again = f"{path}?generation={second['generation']}&seq={second['seq']}"
    with RawClient(world.gateway.port) as client:
        client.send(request(target=again, headers=world.admin))
        third = next(lines(client))
    # Another worker has another generation, and says everything.
    assert third["full"] or third["seq"] == second["seq"] + 1


def test_requests_of_all_workers_are_seen_as_they_end(world: World) -> None:
    """Those that pass the filter, with their ids; the others, and the gateway's own endpoints, are not."""
    target = f"{PREFIX}/gateway/tail?text=/seen&least_status=200"
    with RawClient(world.gateway.port) as client:
        client.send(request(target=target, headers=world.admin))
        stream = lines(client)
        assert next(stream) == {}
        asked: set[str] = set()
        seen: set[str] = set()

        def look() -> bool:
            ask(world.gateway.port, target="/up/other")
            asked.add(ask(world.gateway.port, target="/up/seen").get("x-request-id") or "")
            for record in next(stream).get("records", ()):
                assert record["path"] == "/up/seen"
                seen.add(record["request_id"])
            return len(seen & asked) >= 8

        wait(look, 60.0)


def test_a_stop_ends_the_streams(tmp_path: Path) -> None:
    """Somebody who looks does not make the stop wait for the end of the stream, a minute later."""
    with Upstream() as upstream:
        service = {"up": {"url": f"http://127.0.0.1:{upstream.port}"}}
        config = {"auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}}}
        gateway = Gateway(
            "fast", {**config, "services": service, "server": {"drain": 600}}, tmp_path
        )
        gateway.wait_ready()
        admin = authorized("eve", scope="admin")
        with RawClient(gateway.port) as live, RawClient(gateway.port) as tail:
            live.send(request(target=f"{PREFIX}/gateway/live", headers=admin))
            tail.send(request(target=f"{PREFIX}/gateway/tail", headers=admin))
            next(lines(live))
            next(lines(tail))
            assert gateway.stop(within=120) == 0


def test_terminal_escapes_are_json(world: World) -> None:
    """A caller that calls itself by control characters steers no terminal and no page: they are escaped."""
    evil = authorized("\x1b[2Jred\u202e", scope="admin", edge=world.gateway.edge)
    answer = ask(world.gateway.port, "PUT", f"{PREFIX}/circuits/up", [JSON, *evil], b'{"state":1}')
    identity = answer.get("x-request-id") or "none"
    wait(lambda: identity in world.ask("/gateway/overview").body.decode())
    assert b"\x1b" not in world.ask("/gateway/overview").body


@pytest.mark.parametrize("written", ["{path: /dashboard}", "off"])
def test_it_gives_way(tmp_path: Path, written: str) -> None:
    """To a route of the team on its path, with a doubt that names both; and `off` leaves no page."""
    with Upstream() as upstream:
        service = {"up": {"url": f"http://127.0.0.1:{upstream.port}"}}
        path = "/other" if written == "off" else "/dashboard"
        route = {"path": path, "service": "up", "auth": "none"}
        config = {"services": service, "routes": [route], "dashboard": yaml.safe_load(written)}
        gateway = Gateway("fast", config, tmp_path)
        try:
            gateway.wait_ready()
            answer = ask(gateway.port, target="/dashboard")
            assert answer.get("content-security-policy") is None
            assert answer.status == (404 if written == "off" else 200)
        finally:
            gateway.stop()
        # All that it has to say has been said by now.
        taken = "takes the place of the gateway's own /dashboard"
        assert (taken in gateway.said()) == (written != "off")
