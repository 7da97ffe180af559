"""An exact protected route beside an open one, spelled in every way that a server merges; and routes with equal rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import ask
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.readers import READERS, spellings
from tests.support.servers import running
from tests.support.tokens import SECRET, authorized
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

PROTECTED = ["/admin", "/shop/admin"]
# Each key of a route in which two routes may differ, but for those that protect nothing.
RULES: dict[str, dict[str, Any]] = {
    "auth": {"auth": "optional"},
    "scopes": {"auth": "required", "scopes": ["a"]},
    "roles": {"auth": "required", "roles": ["a"]},
    "methods": {"methods": ["GET"]},
    "header": {"headers": {"request": {"set": {"X-Set": "1"}}}},
    "answer": {"headers": {"response": {"remove": ["X-Gone"]}}},
    "body": {"max_body": 10},
    "circuit": {"circuit": False},
    "privacy": {"privacy": "required"},
    "strip": {"strip_prefix": True},
    "service": {"service": "other"},
}
NO_RULES: dict[str, dict[str, Any]] = {
    "name": {"name": "another"},
    "timeouts": {"timeouts": {"total": 5}},
}


def configuration(port: int, other: int, database: Path) -> Config:
    """Open and protected routes; `/r/KEY/{id}` beside `/r/KEY/it`, which differ in that key alone."""
    routes: list[dict[str, Any]] = [
        {"path": "/", "service": "main", "auth": "none"},
        *({"path": path, "service": "main", "exact": True} for path in PROTECTED),
        {"path": "/box/", "service": "main", "exact": True},
        {"path": "/projects/{id}", "service": "main", "auth": "none"},
        {"path": "/projects/{id}/items", "service": "main", "auth": "none"},
        {"path": "/users/{id}", "service": "main", "auth": "none", "exact": True},
        {"path": "/users/me", "service": "main", "auth": "none", "exact": True},
    ]
    for key, rule in (RULES | NO_RULES).items():
        shared = {"service": "main", "auth": "none"}
        routes += [
            {**shared, "path": f"/r/{key}/{{id}}"},
            {**shared, "path": f"/r/{key}/it", **rule},
        ]
    return {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"database": f"sqlite:///{database}"}},
        "services": {
            "main": {"url": f"http://127.0.0.1:{port}"},
            "other": {"url": f"http://127.0.0.1:{other}"},
        },
        "routes": routes,
    }


@pytest.fixture(scope="module")
def kept_spelled(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway on each edge."""
    folder = tmp_path_factory.mktemp("spelled")
    main, second = guarded_upstreams.main.port, guarded_upstreams.second.port
    kept = Kept(EDGES, folder, configuration(main, second, folder / "users.db"))
    yield kept
    kept.close()


@pytest.fixture
def spelled(edge: str, kept_spelled: Kept) -> Gateway:
    """The gateway on the edge in turn."""
    return kept_spelled.at(edge)


@pytest.fixture
def reached(spelled: Gateway, guarded_upstreams: Upstreams) -> Upstream:
    """The upstream with an empty record."""
    guarded_upstreams.reset()
    return guarded_upstreams.main


@pytest.mark.parametrize("path", PROTECTED)
def test_no_spelling_walks_round_an_exact_route(
    spelled: Gateway, reached: Upstream, path: str
) -> None:
    """No spelling that some server reads as the protected path arrives without a token."""
    for spelling in spellings(path):
        answer = ask(spelled.port, target=spelling)
        assert answer.status in (200, 400, 401, 404), spelling
    slipped = [
        arrived.target
        for arrived in reached.requests
        if any(read(arrived.target) == path.encode() for read in READERS.values())
    ]
    assert slipped == []


@pytest.mark.parametrize("path", PROTECTED)
def test_the_path_itself_has_its_rule(spelled: Gateway, reached: Upstream, path: str) -> None:
    """Without a token 401, with one it passes; a path that only begins alike is open."""
    assert ask(spelled.port, target=path).status == 401
    assert ask(spelled.port, target=path, headers=authorized()).status == 200
    for other in (f"{path}istrator", f"{path}/x", f"{path}-x.json"):
        assert ask(spelled.port, target=other).status == 200


@pytest.mark.parametrize(
    "target", ["/projects/a%2Fitems", "/projects/a/ITEMS", "/users/Me", "/users/me.x", "/users/ME"]
)
def test_routes_with_equal_rules_refuse_nothing(
    spelled: Gateway, reached: Upstream, target: str
) -> None:
    """A path that may be read as one of a sibling with equal rules passes as it was sent."""
    assert ask(spelled.port, target=target).status == 200
    assert reached.last.target == target.encode()


@pytest.mark.parametrize("key", RULES)
def test_a_difference_in_any_rule_refuses(spelled: Gateway, reached: Upstream, key: str) -> None:
    """Where the two readings differ in one rule, the path is refused."""
    for target in (f"/r/{key}/IT", f"/r/{key}/it.json", f"/r/{key}/%69t"):
        assert ask(spelled.port, target=target).status == 400, target
    assert reached.raw == b""


@pytest.mark.parametrize("key", NO_RULES)
def test_a_difference_that_protects_nothing_does_not(
    spelled: Gateway, reached: Upstream, key: str
) -> None:
    """A name, and how long the gateway waits, are no rules."""
    assert ask(spelled.port, target=f"/r/{key}/IT").status == 200


def test_an_exact_path_with_a_final_slash(spelled: Gateway, reached: Upstream) -> None:
    """An exact route that is written as Django writes its paths has its rule with and without the slash."""
    for target in ("/box", "/box/"):
        assert ask(spelled.port, target=target).status == 401
        assert ask(spelled.port, target=target, headers=authorized()).status == 200
        assert reached.last.target == target.encode()
    for spelling in spellings("/box"):
        assert ask(spelled.port, target=spelling).status in (200, 400, 401)
    assert not [
        one.target
        for one in reached.requests[2:]
        if READERS["django"](one.target) in (b"/box", b"/box/")
    ]


@pytest.mark.parametrize(
    ("target", "status"),
    [("/docs/", 200), ("/health.html", 200), ("/openapi.json/", 200), ("/Livez", 200), ("/metrics/", 400),
     ("/api/v1/users/me/", 400), ("/api/v1/Circuits", 400)],
)  # fmt: skip
def test_the_gateways_own_endpoints(
    spelled: Gateway, reached: Upstream, target: str, status: int
) -> None:
    """A path that reads as an endpoint that anybody may use is the service's; one of the others is refused."""
    assert ask(spelled.port, target=target).status == status
    assert len(reached.requests) == (status == 200)


@pytest.mark.parametrize("name", ["express 5", "express 4", "flask", "starlette"])
def test_a_real_server_is_not_reached(
    edge: str, name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A real server behind the gateway never answers a client without a token with its protected page."""
    with running(name, tmp_path) as port:
        config = configuration(port, port, tmp_path / "users.db")
        gateway = Gateway(edge, config, tmp_path_factory.mktemp("real"))
        try:
            gateway.wait_ready()
            for spelling in spellings("/admin"):
                assert ask(gateway.port, target=spelling).body != b"ADMIN", spelling
            assert ask(gateway.port, target="/admin", headers=authorized()).body == b"ADMIN"
        finally:
            gateway.kill()
