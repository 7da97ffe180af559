"""From what was written to what runs: each key of a route does what it says, and nothing else."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from propylon.config.models.auth import TokenRateLimitConfig
from propylon.config.models.endpoints import Endpoint
from propylon.errors import AuthError, GatewayError, RateLimited
from propylon.proxy.authenticate import anonymous
from propylon.proxy.authenticate.bearer import Bearer
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.route import Route
from propylon.upstream.ports import Timeouts
from propylon.wire.headers import fields, values
from tests.compile.compiled import ALICE, BAD, PAGE, TOKEN, World, one
from tests.proxy.doubles import request, whole
from tests.proxy.limited import exchange, limiting

# What a route matches


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ()),
        ("/a", (b"a",)),
        ("/a/", (b"a",)),
        ("/a/{id}/b", (b"a", None, b"b")),
        ("/a%20b/c", (b"a%20b", b"c")),
        ("/A/b.c~d", (b"A", b"b.c~d")),
    ],
)
def test_path(path: str, segments: tuple[bytes | None, ...]) -> None:
    """By whole segments; a name stands for any one; a slash at the end says nothing more."""
    assert one({"path": path}).route.pattern.segments == segments


@pytest.mark.parametrize("path", ["/", "/a", "/a/b"])
def test_exact(path: str) -> None:
    """It matches the path itself, and nothing below it."""
    world = one({"path": path, "exact": True})
    assert world.handle(path)[0] == 200
    assert world.handle(path.rstrip("/") + "/x")[0] == 404


def test_hosts() -> None:
    """One route for each, under one name; a host is read in any case."""
    world = one({"name": "shop", "hosts": ["A.example.com", "b.example.com"]})
    assert [(route.name, route.pattern.host) for route in world.routes] == [
        ("shop", b"a.example.com"),
        ("shop", b"b.example.com"),
    ]
    assert [one().route.pattern.host] == [None]


def test_methods_and_priority() -> None:
    """None said: all of them, TRACE never."""
    pattern = one({"methods": ["GET", "POST"], "priority": 7}).route.pattern
    assert (pattern.methods, pattern.priority) == (frozenset({"GET", "POST"}), 7)
    world = one()
    assert world.route.pattern.methods is None
    assert [world.handle(method=method)[0] for method in ("GET", "PURGE", "TRACE")] == [
        200,
        200,
        405,
    ]


@pytest.mark.parametrize("name", ["", "shop"])
def test_name(name: str) -> None:
    """What was said, else the path as written."""
    written = {"path": "/a/{id}", **({"name": name} if name else {})}
    assert one(written).route.name == (name or "/a/{id}")


@pytest.mark.parametrize(
    ("rest", "target", "line"),
    [
        ({}, "/a/b%2Fc?x=%20&y", b"GET /a/b%2Fc?x=%20&y HTTP/1.1"),
        ({"strip_prefix": True}, "/a/b%2Fc?x", b"GET /b%2Fc?x HTTP/1.1"),
        ({"strip_prefix": True}, "/a", b"GET / HTTP/1.1"),
        ({"strip_prefix": True}, "/a?x", b"GET /?x HTTP/1.1"),
        ({"strip_prefix": True}, "/a/", b"GET / HTTP/1.1"),
        ({"rewrite": "/v2/a"}, "/a/b?x", b"GET /v2/a/b?x HTTP/1.1"),
        ({"rewrite": "/v2/"}, "/a/b", b"GET /v2/b HTTP/1.1"),
        ({"rewrite": "/"}, "/a", b"GET / HTTP/1.1"),
        ({"path": "/a/{id}", "strip_prefix": True}, "/a/7/b", b"GET /b HTTP/1.1"),
    ],
)
def test_what_is_asked_for(rest: dict[str, Any], target: str, line: bytes) -> None:
    """As sent; or less what matched; or with something else in its place."""
    world = one(rest)
    assert world.handle(target)[0] == 200
    assert world.up.got[0][0] == line


def test_a_base_path_is_kept() -> None:
    """It stands in front of whatever is asked for."""
    services = {"orders": {"url": "http://orders:8000/base/"}}
    for rest, line in (
        ({}, b"GET /base/a/b HTTP/1.1"),
        ({"strip_prefix": True}, b"GET /base/b HTTP/1.1"),
        ({"rewrite": "/v2"}, b"GET /base/v2/b HTTP/1.1"),
    ):
        world = one(rest, top={"services": services})
        world.handle("/a/b")
        assert world.up.got[0][0] == line


# Who may


@pytest.mark.parametrize(
    ("auth", "verified", "statuses"),
    [
        # no token, a good one, a bad one
        ("none", True, [200, 200, 200]),
        ("optional", True, [200, 200, 401]),
        ("required", True, [401, 200, 401]),
        ("none", False, [200, 200, 200]),
        ("optional", False, [200, 503, 503]),
        ("required", False, [503, 503, 503]),
    ],
)
def test_auth(auth: str, verified: bool, statuses: list[int]) -> None:
    """Whether a token is needed, looked at if there, or not looked at; and with nothing to verify it."""
    world = one({"auth": auth}, verified=verified)
    assert [world.handle("/a", *lines)[0] for lines in ((), (TOKEN,), (BAD,))] == statuses
    assert len(world.up.got) == statuses.count(200)


def test_auth_is_required_unless_it_is_said_otherwise() -> None:
    """Safe by default."""
    world = World({"routes": [{"path": "/a", "service": "orders"}]}, verified=True)
    assert isinstance(world.route.authenticate, Bearer)
    assert world.handle()[0] == 401


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ({"scopes": ["read"]}, 200),
        ({"scopes": ["read", "write"]}, 403),
        ({"roles": ["admin", "clerk"]}, 200),
        ({"roles": ["admin"]}, 403),
        ({"scopes": ["read"], "roles": ["admin"]}, 403),
    ],
)
def test_scopes_and_roles(rest: dict[str, Any], status: int) -> None:
    """All of the one, any of the other; who is not known is asked for a token."""
    world = one({"auth": "optional", **rest}, verified=True)
    assert world.handle("/a", TOKEN)[0] == status
    assert world.handle("/a")[0] == 401


def test_override() -> None:
    """In a test everybody is somebody, with the rights of that one; a token is not looked at."""
    for auth, status in (("required", 200), ("optional", 200), ("none", 200)):
        world = one({"auth": auth}, override=ALICE)
        assert world.handle("/a", BAD)[0] == status
        expected = [] if auth == "none" else [b"alice"]
        assert values(world.up.got[0][1], b"x-user-id") == expected
    assert one({"auth": "required", "scopes": ["write"]}, override=ALICE).handle()[0] == 403


def test_policies() -> None:
    """By the name of the route, or by its path where it has none; no other route has them."""
    asked: list[str] = []

    async def policy(some: Any, principal: Principal) -> None:
        asked.append(some.path.decode())

    routes = [
        {"path": "/a", "service": "orders", "auth": "none", "name": "orders"},
        {"path": "/b", "service": "orders", "auth": "none"},
        {"path": "/c", "service": "orders", "auth": "none"},
    ]
    world = World({"routes": routes}, policies={"orders": lambda _: policy, "/b": lambda _: policy})
    for target in ("/a/x", "/b", "/c", "/health"):
        world.handle(target)
    assert asked == ["/a/x", "/b"]


# Limits


def test_timeouts() -> None:
    """The route's, where it says something; else the service's; without any end where nothing is said."""
    timeouts = {"connect": "1s", "first_byte": "2s", "idle": "3s", "total": "4s"}
    services = {"orders": {"url": "http://orders:8000", "timeouts": timeouts}}
    never = float("inf")
    assert one(top={"services": services}).route.timeouts == Timeouts(1, 2, 3, 4, never)
    rest = {"timeouts": {"total": "9s", "max_duration": "1m"}}
    assert one(rest, top={"services": services}).route.timeouts == Timeouts(1, 2, 3, 9, 60)
    assert one().route.timeouts == Timeouts()


def test_max_body() -> None:
    """The route's, where it says something, 0 included; else the server's."""
    server = {"server": {"max_body": "2MB"}}
    assert one(top=server).route.max_body == 2_000_000
    assert one({"max_body": "1kB"}, top=server).route.max_body == 1000
    assert one({"max_body": 0}, top=server).route.max_body == 0


def test_circuit() -> None:
    """True unless it is said otherwise."""
    assert one().route.circuit
    assert not one({"circuit": False}).route.circuit


@pytest.mark.parametrize(
    ("written", "key", "together"),
    [
        ({"rate": "3/m", "burst": 3, "key": "ip"}, 3, False),
        ({"rate": "3/m", "burst": 3, "key": "route"}, 3, True),
        ({}, 10, False),
    ],
)
def test_the_limit_of_the_token_endpoint(written: dict[str, Any], key: int, together: bool) -> None:
    """So many at once for each address, or for all together; ten a minute unless it is said otherwise."""
    limit = limiting().of_tokens(TokenRateLimitConfig.model_validate(written))

    def passes(client: str) -> bool:
        try:
            assert limit(exchange(client), request(), ANONYMOUS) is None
        except RateLimited as error:
            seconds = 60 / (10 if not written else 3)
            assert error.headers == ((b"Retry-After", b"%d" % seconds),)
            return False
        return True

    assert [passes("192.0.2.1") for _ in range(key + 2)].count(True) == key
    assert passes("192.0.2.2") is not together


# Headers


def test_headers() -> None:
    """Removed in any case, set in place of what is there; both ways."""
    rules = {
        "request": {"set": {"X-A": "ours", "User-Agent": "x"}, "remove": ["Cookie"]},
        "response": {"set": {"X-B": "ours"}, "remove": ["x-theirs"]},
    }
    world = one({"headers": rules})
    block = world.sent(b"x-a: theirs", b"COOKIE: 1", b"USER-agent: y", b"X-C: 1", b"X-A: again")
    assert values(block, b"x-a") == [b"ours"]
    assert values(block, b"user-agent") == [b"x"]
    assert values(block, b"cookie") == []
    assert values(block, b"x-c") == [b"1"]
    _, answered = world.handle()
    assert values(answered, b"x-b") == [b"ours"]
    assert values(answered, b"x-theirs") == []


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Authorization",
        "X-User-Id",
        "X-Request-ID",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "traceparent",
        "X-Privacy-Level",
    ],
)
def test_what_is_set_stands_once(name: str) -> None:
    """In place of any that are there, the gateway's own included, or it is refused when it is written."""
    rules = {"request": {"set": {name: "ours"}}}
    try:
        world = one({"auth": "required", "headers": rules}, override=ALICE)
    except ValidationError:
        return
    # Two of them would be read in two ways.
    block = world.sent(TOKEN, b"X-Privacy-Level: strict")
    assert values(block, name.lower().encode()) == [b"ours"]


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Error-Source", "Access-Control-Allow-Origin"])
def test_what_is_set_in_an_answer_stands_once(name: str) -> None:
    """As in a request."""
    rules = {"response": {"set": {name: "ours"}}}
    try:
        world = one({"headers": rules}, top={"cors": {"origins": ["https://app.example.com"]}})
    except ValidationError:
        return
    world.up.script = [whole(404)]
    _, block = world.handle("/a", b"Origin: https://app.example.com")
    assert values(block, name.lower().encode()) == [b"ours"]


def test_no_header_stands_twice() -> None:
    """Of those that the gateway vouches for."""
    world = one({"auth": "required"}, override=ALICE)
    names = [name.lower() for name, _ in fields(world.sent(TOKEN, b"DNT: 1"))]
    assert len(set(names)) == len(names)


def test_forward_token() -> None:
    """`forward_token: false`: the service does not get it; who is asking it gets all the same."""
    for passes in (True, False):
        services = {"orders": {"url": "http://orders:8000", "forward_token": passes}}
        world = one({"auth": "required"}, top={"services": services}, verified=True)
        block = world.sent(TOKEN)
        assert (b"Bearer" in block) is passes
        assert values(block, b"x-user-id") == [b"alice"]


# Privacy


@pytest.mark.parametrize(
    ("rest", "line", "status", "passed"),
    [
        ({}, b"X-Privacy-Level: STRICT", 200, [b"strict"]),
        ({}, b"X-Privacy-Level: no", 400, []),
        ({}, b"X-A: 1", 200, []),
        ({"privacy": "required"}, b"X-A: 1", 400, []),
        ({"privacy": "required", "default_privacy": "standard"}, b"X-A: 1", 200, [b"standard"]),
        ({"default_privacy": "strict"}, b"X-A: 1", 200, [b"strict"]),
        ({"privacy": "ignored"}, b"X-Privacy-Level: No", 200, [b"No"]),
        ({"privacy": "ignored", "default_privacy": "strict"}, b"X-A: 1", 200, []),
    ],
)
def test_privacy(rest: dict[str, Any], line: bytes, status: int, passed: list[bytes]) -> None:
    """Checked if there, unless it is said otherwise."""
    world = one(rest)
    assert world.handle("/a", line)[0] == status
    if status == 200:
        assert values(world.up.got[0][1], b"x-privacy-level") == passed
    else:
        assert world.up.got == []


@pytest.mark.parametrize("path", ["/api/v1/users/me", "/mine"])
def test_the_gateways_own_endpoints_keep_a_wish(path: str) -> None:
    """Who asks for it is in no log line of theirs either."""
    endpoints = (Endpoint("/mine", access="public"),)
    top = {"auth": {"jwt": {"secret": "kV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w"}}}
    world = World(top, endpoints=endpoints)
    asked = request(path.encode(), b"X-Privacy-Level: strict")
    assert world.table.match(asked).privacy(asked).strict


# CORS


def test_cors() -> None:
    """Origins, those below one, methods, headers, for how long; nothing is on where no origin is named."""
    assert one().table.cors is None
    written = {
        "origins": ["https://APP.example.com:443", "https://*.dev.test:8443"],
        "methods": ["GET", "PUT"],
        "headers": ["X-A", "X-B"],
        "expose": ["X-C"],
        "credentials": True,
        "max_age": "1.9s",
    }
    cors = one(top={"cors": written}).table.cors
    assert cors is not None
    block = cors.block(request(b"/a", b"Origin: " + PAGE))
    assert values(block, b"access-control-allow-origin") == [PAGE]
    assert values(block, b"access-control-allow-credentials") == [b"true"]
    assert values(block, b"access-control-expose-headers") == [b"X-C"]
    below = request(
        b"/a",
        b"Origin: https://x.dev.test:8443",
        b"Access-Control-Request-Method: PUT",
        method=b"OPTIONS",
    )
    block = cors.preflight(below, b"DELETE").block
    assert values(block, b"access-control-allow-origin") == [b"https://x.dev.test:8443"]
    assert values(block, b"access-control-allow-methods") == [b"GET, PUT"]
    assert values(block, b"access-control-allow-headers") == [b"X-A, X-B"]
    assert values(block, b"access-control-max-age") == [b"1"]


def test_cors_for_all() -> None:
    """`*`."""
    cors = one(top={"cors": {"origins": "*"}}).table.cors
    assert cors is not None
    block = cors.block(request(b"/a", b"Origin: https://anybody.test"))
    assert values(block, b"access-control-allow-origin") == [b"*"]


def test_an_upstreams_cors_is_replaced() -> None:
    """Where the gateway answers for it, and nowhere else."""
    theirs = b"\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-T"
    for top, expected in (
        ({}, [b"*"]),
        ({"cors": {"origins": ["https://app.example.com"]}}, [PAGE]),
    ):
        world = one(top=top)
        world.up.script = [whole(200, b"", theirs)]
        _, block = world.handle("/a", b"Origin: " + PAGE)
        assert values(block, b"access-control-allow-origin") == expected
        assert values(block, b"access-control-expose-headers") == [b"X-T"]


# What is not used costs nothing


def test_what_a_route_does_not_use_is_shared() -> None:
    """A plain route carries nothing of what it does not use."""
    route = one().route
    assert (route.before, route.limit, route.replaced) == (None, None, 0)
    assert (route.request_remove, route.request_set) == ((), b"")
    assert (route.response_remove, route.response_set) == ((), b"")
    assert route.authenticate is anonymous
    assert route.authorize is one().route.authorize


def test_no_error_but_the_gateways() -> None:
    """Every refusal of the stages is one that the pipeline knows."""
    world = one({"auth": "required", "scopes": ["x"]}, verified=True)
    with pytest.raises(AuthError):
        asyncio.run(_authenticated(world.route))
    assert issubclass(AuthError, GatewayError)


async def _authenticated(route: Route) -> None:
    await route.authenticate(request())
