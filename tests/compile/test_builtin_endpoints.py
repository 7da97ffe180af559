"""From what was written to what runs: the gateway's own endpoints, and whom they are for."""

from typing import Any

import pytest

from propylon.compile.access import access_of
from propylon.compile.routes import Parts
from propylon.compile.table import compile_tables
from propylon.config.models.endpoints import Access, Endpoint, builtin_endpoints
from propylon.wire.headers import values
from tests.compile.compiled import BAD, KEY, TOKEN, World
from tests.proxy.authenticate.stand_in import signed
from tests.proxy.doubles import STILL, request
from tests.proxy.limited import limiting

OWN: dict[str, tuple[str, Access]] = {
    "/health": ("GET", "public"),
    "/livez": ("GET", "public"),
    "/readyz": ("HEAD", "public"),
    "/docs": ("GET", "public"),
    "/openapi.json": ("GET", "public"),
    "/metrics": ("GET", "local"),
    "/api/v1/auth/token": ("POST", "public"),
    "/api/v1/users/me": ("GET", "read"),
    "/api/v1/auth/revoke": ("POST", "offered"),
    "/api/v1/auth/revocations": ("GET", "admin"),
    "/api/v1/auth/revocations/7": ("DELETE", "admin"),
    "/api/v1/users/ann": ("PATCH", "admin"),
    "/api/v1/users/ann/sessions": ("GET", "admin"),
    "/api/v1/users/ann/sessions/0": ("DELETE", "admin"),
    "/api/v1/auth/introspect": ("POST", "admin"),
    "/api/v1/circuits": ("GET", "admin"),
    "/api/v1/services": ("POST", "admin"),
    "/api/v1/services/orders/a:80": ("DELETE", "admin"),
    "/api/v1/services/orders/a:80/heartbeat": ("PUT", "admin"),
}


@pytest.mark.parametrize("path", OWN)
def test_whom_they_are_for(path: str) -> None:
    """By name: everybody, those with a token, a scope, or on this machine; other methods are refused."""
    method, access = OWN[path]
    world = World(KEY, verified=True)
    assert access_of(world.table.match(request(path.encode(), method=method.encode()))) == access
    statuses = {
        "public": (200, 200, 200),
        "offered": (200, 200, 200),
        "known": (401, 200, 200),
        "read": (401, 200, 403),
        "admin": (401, 403, 200),
        "local": (401, 403, 200),
    }[access]
    admin = b"Authorization: Bearer " + signed("root", scope="admin")
    assert (
        tuple(world.handle(path, *lines, method=method)[0] for lines in ((), (TOKEN,), (admin,)))
        == statuses
    )
    assert world.handle(path, admin, method="LINK")[0] == 405


def test_this_machine() -> None:
    """From here /metrics needs no token; nothing else is any different."""
    world = World(KEY, verified=True)
    assert world.handle("/metrics", client="127.0.0.1")[0] == 200
    assert world.handle("/metrics", BAD, client="127.0.0.1")[0] == 401
    assert world.handle("/api/v1/circuits", client="127.0.0.1")[0] == 401


def test_defaults_do_not_touch_them() -> None:
    """What holds for all routes does not hold for those."""
    defaults = {
        "auth": "none",
        "privacy": "required",
        "max_body": 0,
        "strip_prefix": True,
        "headers": {"request": {"set": {"X-A": "1"}}},
    }
    world = World({**KEY, "defaults": defaults}, verified=True)
    assert world.handle("/api/v1/users/me")[0] == 401
    assert world.handle("/health")[0] == 200
    assert world.own.got[-1][0] == b"GET /health HTTP/1.1"
    assert values(world.own.got[-1][1], b"x-a") == []


def test_the_prefix_moves_them() -> None:
    """All but health, metrics and documentation."""
    world = World({**KEY, "prefix": "/v9"}, verified=True)
    assert world.handle("/v9/users/me")[0] == 401
    assert world.handle("/api/v1/users/me")[0] == 404
    assert world.handle("/health")[0] == 200


def test_without_a_key_to_sign_with_nobody_gets_tokens() -> None:
    """There is no such endpoint then."""
    assert World({}).handle("/api/v1/auth/token", method="POST")[0] == 404
    off = {"auth": {**KEY["auth"], "tokens": {"enabled": False}}}
    assert World(off).handle("/api/v1/auth/token", method="POST")[0] == 404


@pytest.mark.parametrize(
    "auth",
    [
        {"jwt": KEY["auth"]["jwt"], "tokens": {"enabled": False}},
        {"jwt": {"jwks_url": "https://id.example/keys"}},
        {"introspection": {"url": "https://id.example/introspect"}},
    ],
    ids=lambda auth: next(iter(auth)),
)
def test_who_is_asking_is_told_where_tokens_are_only_verified(auth: dict[str, Any]) -> None:
    """Without a token endpoint, too, and only where a token can be verified at all."""
    world = World({"auth": auth}, verified=True)
    assert world.handle("/api/v1/users/me", TOKEN)[0] == 200
    assert world.handle("/api/v1/users/me")[0] == 401
    assert world.handle("/api/v1/auth/token", method="POST")[0] == 404
    assert World({}).handle("/api/v1/users/me")[0] == 404


def test_what_is_limited() -> None:
    """The endpoints where every question costs a password's hash."""
    world = World(KEY, verified=True, limits=limiting())
    assert [one.name for one in world.table.routes if one.limit is not None] == [
        "/api/v1/auth/token",
        "/api/v1/users/me",
    ]


@pytest.mark.parametrize("access", ["public", "checked", "known"])
def test_a_teams_endpoints(access: Access) -> None:
    """For everybody; for whom the endpoint lets in, a bad token being a bad token; for whom is known."""
    endpoint = Endpoint("/mine/{id}", frozenset({"GET"}), access, max_body=None)
    world = World(KEY, verified=True, endpoints=(endpoint,))
    statuses = {"public": [200, 200, 200], "checked": [200, 200, 401], "known": [401, 200, 401]}
    lines = ((), (TOKEN,), (BAD,))
    assert [world.handle("/mine/7", *some)[0] for some in lines] == statuses[access]
    assert world.table.match(request(b"/mine/7")).max_body == world.config.server.max_body


# The sections `admin`, `docs` and `metrics`


ROOT = b"Authorization: Bearer " + signed("root", scope="admin")
LISTEN = {"admin": {"listen": "127.0.0.1:8001"}}


def bearing(scope: str, **claims: Any) -> bytes:
    """The header of a token with this scope."""
    return b"Authorization: Bearer " + signed("somebody", scope=scope, **claims)


@pytest.mark.parametrize(
    ("area", "path", "method"),
    [
        ("registry", "/api/v1/services", "POST"),
        ("registry", "/api/v1/services/orders/a:80", "DELETE"),
        ("introspect", "/api/v1/auth/introspect", "POST"),
        ("metrics", "/metrics", "GET"),
    ],
)
def test_a_narrower_scope(area: str, path: str, method: str) -> None:
    """It opens its group of endpoints, and nothing else; admin goes on opening them all."""
    world = World({**KEY, "admin": {"scopes": {area: "narrow"}}}, verified=True)
    assert world.handle(path, bearing("narrow"), method=method)[0] == 200
    assert world.handle(path, ROOT, method=method)[0] == 200
    assert world.handle(path, bearing("read"), method=method)[0] == 403
    assert world.handle("/api/v1/circuits", bearing("narrow"))[0] == 403
    other = "/api/v1/services" if area != "registry" else "/api/v1/auth/introspect"
    assert world.handle(other, bearing("narrow"), method="POST")[0] == 403


def test_another_scope_for_all() -> None:
    """Then `admin` is a scope like any other."""
    world = World({**KEY, "admin": {"scope": "gateway"}}, verified=True)
    assert world.handle("/api/v1/circuits", bearing("gateway"))[0] == 200
    assert world.handle("/api/v1/circuits", ROOT)[0] == 403
    assert world.handle("/metrics", ROOT)[0] == 403


def test_role_and_issuer() -> None:
    """Both are asked for besides the scope."""
    admin = {"role": "operator", "issuer": "https://id.example"}
    world = World({**KEY, "admin": admin}, verified=True)
    good = bearing("admin", roles=["operator"], iss="https://id.example")
    assert world.handle("/api/v1/circuits", good)[0] == 200
    assert world.handle("/api/v1/circuits", bearing("admin", roles=["operator"]))[0] == 403
    assert world.handle("/api/v1/circuits", bearing("admin", iss="https://id.example"))[0] == 403


def test_from_where() -> None:
    """`admin.allow` holds for the endpoints that want admin, and for no other."""
    world = World({**KEY, "admin": {"allow": ["10.0.0.0/8"]}}, verified=True)
    assert world.handle("/api/v1/circuits", ROOT, client="10.0.0.7")[0] == 200
    assert world.handle("/api/v1/circuits", ROOT, client="192.0.2.1")[0] == 403
    proxied = (ROOT, b"X-Forwarded-For: 10.0.0.7")
    assert world.handle("/api/v1/circuits", *proxied, client="10.0.0.7")[0] == 403
    for path in ("/health", "/livez", "/docs", "/api/v1/users/me"):
        assert world.handle(path, TOKEN, client="192.0.2.1")[0] == 200
    assert world.handle("/api/v1/auth/token", method="POST", client="192.0.2.1")[0] == 200
    assert world.handle("/api/v1/auth/revoke", TOKEN, method="POST", client="192.0.2.1")[0] == 200


@pytest.mark.parametrize(
    ("docs", "statuses"),
    [("public", (200, 200, 200)), ("admin", (401, 403, 200)), ("off", (404,) * 3)],
)
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_documents(docs: str, statuses: tuple[int, ...], path: str) -> None:
    """For any client, for admins, or not at all."""
    world = World({**KEY, "docs": {"access": docs}}, verified=True)
    assert tuple(world.handle(path, *lines)[0] for lines in ((), (TOKEN,), (ROOT,))) == statuses


def tables(written: dict[str, Any]) -> dict[str, set[str]]:
    """The paths on each listener."""
    world = World({**KEY, **written}, verified=True)
    endpoints = builtin_endpoints(world.config.prefix, world.config.auth)
    compiled = compile_tables(world.config, Parts(world.own, STILL, endpoints=endpoints), {})
    return {
        listener: {route.name for route in table.routes} for listener, table in compiled.items()
    }


# By the names of their routes: those without a part that stands for a name.
ADMINS = {
    path
    for path, (_, access) in OWN.items()
    if access == "admin" and not {"a:80", "ann", "7"} & set(path.split("/"))
}
PUBLIC_ONES = {"/health", "/livez", "/readyz", "/api/v1/auth/token", "/api/v1/users/me"}
DOCS = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
REVOKE = "/api/v1/auth/revoke"


def test_a_listener_for_admins() -> None:
    """What wants admin is there and not on the public one; tokens of one's own are revoked on both."""
    found = tables(LISTEN)
    assert found.keys() == {"", "127.0.0.1:8001"}
    assert found["127.0.0.1:8001"] >= ADMINS | {"/metrics", REVOKE}
    assert found[""] == PUBLIC_ONES | DOCS | {REVOKE}
    assert not found["127.0.0.1:8001"] & (PUBLIC_ONES | DOCS)


def test_a_listener_for_metrics() -> None:
    """/metrics has its own; with the address of admin.listen both are on one."""
    apart = tables({**LISTEN, "metrics": {"listen": "0.0.0.0:9100"}})
    assert apart["0.0.0.0:9100"] == {"/metrics"}
    assert "/metrics" not in apart[""] | apart["127.0.0.1:8001"]
    alone = tables({"metrics": {"listen": "0.0.0.0:9100"}})
    assert alone["0.0.0.0:9100"] == {"/metrics"}
    assert alone[""] >= ADMINS
    together = tables({**LISTEN, "metrics": {"listen": "127.0.0.1:8001"}})
    assert together.keys() == {"", "127.0.0.1:8001"}
    assert together["127.0.0.1:8001"] >= ADMINS | {"/metrics"}


def test_documents_for_admins_are_on_their_listener() -> None:
    """They follow the endpoints that want admin."""
    assert tables({**LISTEN, "docs": {"access": "admin"}})["127.0.0.1:8001"] >= DOCS


def names_with(path: str) -> list[str]:
    """The names of all routes of a gateway that has one on this path."""
    world = World({**KEY, "routes": [{"path": path, "service": "orders"}]})
    return [route.name for route in world.table.routes]


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/users/{id}", "/api/v1/users/admins"])
def test_the_users_give_way(path: str) -> None:
    """A team's own users take the place of the gateway's; only `me` stays."""
    names = names_with(path)
    assert not [name for name in names if name.startswith("/api/v1/users/{name}")]
    assert names.count("/api/v1/users") == (path == "/api/v1/users")  # the team's own
    assert "/api/v1/users/me" in names


@pytest.mark.parametrize("path", ["/api/v1/users-of-ours", "/", "/api/v1"])
def test_the_users_stay(path: str) -> None:
    """A route beside them, or above them, moves nothing."""
    assert {"/api/v1/users", "/api/v1/users/{name}"} <= {*names_with(path)}
