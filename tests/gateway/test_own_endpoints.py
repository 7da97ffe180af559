"""The gateway's own endpoints: who may read them; and how it starts with a bad key, or none at all."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from propylon import Gateway as Propylon
from tests.gateway.test_auth import check_refused
from tests.support import answers
from tests.support.client import Answer, ask
from tests.support.gateway import EDGES, Config, Gateway, command, environment, free_port
from tests.support.guarded import Kept, propylon
from tests.support.secrecy import SECRECY
from tests.support.tokens import SECRET, authorized, bearer, ec_key, mint
from tests.support.topology import Upstreams
from tests.support.zygote import ZYGOTE

FAR = "203.0.113.9"


def from_afar(
    gateway: Gateway, target: str, headers: list[tuple[str, str]], method: str = "GET"
) -> Answer:
    """Ask as a client does whom a trusted proxy has let through."""
    return ask(gateway.port, method, target, [("X-Forwarded-For", FAR), *headers])


@pytest.mark.parametrize("target", ["/livez", "/readyz", "/health"])
@pytest.mark.parametrize(
    "headers", [[], bearer("no-such-token-2Wq"), [("Authorization", "Basic x")]]
)
def test_health_is_public(loose: Gateway, target: str, headers: list[tuple[str, str]]) -> None:
    """Health is for everybody, from anywhere, whatever token comes with it."""
    assert from_afar(loose, target, headers).status in (200, 503)
    assert ask(loose.port, target=target, headers=headers).status in (200, 503)


def test_metrics_from_here(guarded: Gateway, loose: Gateway) -> None:
    """From this machine /metrics needs no token."""
    for gateway in (guarded, loose):
        answer = ask(gateway.port, target="/metrics")
        assert answer.status == 200
        assert b"# TYPE" in answer.body


def test_metrics_from_afar(loose: Gateway) -> None:
    """From elsewhere it needs a token with the scope admin."""
    check_refused(from_afar(loose, "/metrics", []))
    check_refused(from_afar(loose, "/metrics", bearer("no-such-token-2Wq")))
    check_refused(
        from_afar(loose, "/metrics", authorized(scope="read write", roles=["admin"])), 403
    )
    assert from_afar(loose, "/metrics", authorized(scope="admin")).status == 200


@pytest.mark.parametrize("claimed", ["127.0.0.1", "::1", "localhost", "127.0.0.1, 127.0.0.2"])
def test_metrics_of_a_made_up_address(loose: Gateway, claimed: str) -> None:
    """A client does not become this machine by naming it in front of its own address."""
    headers = [
        ("X-Forwarded-For", f"{claimed}, {FAR}"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
    ]
    check_refused(ask(loose.port, target="/metrics", headers=headers))


@pytest.mark.parametrize(
    "target",
    [
        "/metrics/",
        "//metrics",
        "/metrics;x",
        "/%6detrics",
        "/METRICS",
        "/metrics%2f",
        "/livez/../metrics",
        "/metrics?x",
    ],
)
def test_metrics_by_another_spelling(loose: Gateway, target: str) -> None:
    """No spelling of its path gets past the question."""
    assert from_afar(loose, target, []).status in (400, 401, 404)


@pytest.mark.parametrize("target", ["/api/v1/services", "/api/v1/circuits"])
def test_state_is_for_admins(loose: Gateway, target: str) -> None:
    """What tells of services, addresses and breakers is for admins only, from here and from afar."""
    for asked in (
        from_afar,
        lambda gateway, target, headers: ask(gateway.port, "GET", target, headers),
    ):
        check_refused(asked(loose, target, []))
        check_refused(asked(loose, target, authorized(scope="read write", roles=["admin"])), 403)
        assert asked(loose, target, authorized(scope="admin")).status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/api/v1/services"),
        ("PUT", "/api/v1/services/main/127.0.0.1:80/heartbeat"),
        ("DELETE", "/api/v1/services/main/127.0.0.1:80"),
        ("POST", "/api/v1/auth/introspect"),
    ],
)
def test_changes_are_for_admins(loose: Gateway, method: str, target: str) -> None:
    """What changes the gateway is refused before its body is looked at."""
    check_refused(ask(loose.port, method, target))
    check_refused(
        ask(loose.port, method, target, authorized(scope="read write", roles=["admin"])), 403
    )
    assert ask(loose.port, method, target, authorized(scope="admin")).status not in (401, 403, 500)


@pytest.mark.parametrize("target", ["/users/me", "/services", "/circuits"])
def test_head_is_answered_where_get_is(loose: Gateway, target: str) -> None:
    """The same verdict and the same head without a body; `Allow` says so, too."""
    target = f"/api/v1{target}"
    check_refused(ask(loose.port, target=target))
    refused = ask(loose.port, "HEAD", target)
    assert (refused.status, refused.body, refused.get("www-authenticate")) == (401, b"", "Bearer")
    headers = authorized(scope="admin read")
    got = ask(loose.port, "GET", target, headers)
    answer = ask(loose.port, "HEAD", target, headers)
    assert (answer.status, answer.body) == (got.status, b"") == (200, b"")
    assert answer.get("content-type") == got.get("content-type") == "application/json"
    assert "HEAD" in (ask(loose.port, "LINK", target, headers).get("allow") or "")


def test_defaults_do_not_open_them(loose: Gateway) -> None:
    """`defaults: {auth: none}` opens routes that say nothing else; the gateway's own stay shut."""
    assert ask(loose.port, target="/lax").status == 200
    check_refused(ask(loose.port, target="/api/v1/users/me"))
    check_refused(from_afar(loose, "/metrics", []))


# With a key that signs nothing

KEY = ec_key("a")
VERIFYING: dict[str, tuple[dict[str, Any], Callable[..., str]]] = {
    "a public key": ({"jwt": {"public_key": KEY.pem}}, KEY.mint),
    "a secret": ({"jwt": {"secret": SECRET}, "tokens": {"enabled": False}}, mint),
}


@pytest.mark.parametrize("kind", VERIFYING)
def test_who_is_asking_where_no_tokens_are_given_out(tmp_path: Path, kind: str) -> None:
    """Whoever has a good token hears what it says, whoever issued it; no database is made for that."""
    auth, sign = VERIFYING[kind]
    database = tmp_path / "users.db"
    auth = {**auth, "tokens": {**auth.get("tokens", {}), "database": f"sqlite:///{database}"}}
    file = tmp_path / "propylon.yaml"
    file.write_text(yaml.safe_dump({"auth": auth}))
    said = {"scope": "read list", "roles": ["clerk"], "email": "ann@a.test"}

    async def asked() -> list[httpx.Response]:
        gateway = Propylon.from_file(file, {})
        transport = httpx.ASGITransport(gateway.asgi)
        async with (
            gateway.lifespan(),
            httpx.AsyncClient(transport=transport, base_url="http://gw.test") as client,
        ):
            return [
                await client.get("/api/v1/users/me", headers=dict(headers))
                for headers in (bearer(sign("ann", **said)), bearer(sign("ann", scope="list")), [])
            ]

    answers = asyncio.run(asked())
    assert [answer.status_code for answer in answers] == [200, 403, 401]
    assert answers[0].json() == {
        "username": "ann",
        "email": "ann@a.test",
        "full_name": None,
        "disabled": False,
        "scopes": ["list", "read"],
        "roles": ["clerk"],
    }
    assert not database.exists()


# Without a key


@pytest.fixture(scope="module")
def keyless_ones(
    guarded_upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """Gateways with nothing to verify tokens with, that say so in plain text."""
    config: Config = {
        "services": {"main": {"url": f"http://127.0.0.1:{guarded_upstreams.main.port}"}},
        "routes": [
            {"path": "/open", "service": "main", "auth": "none"},
            {"path": "/maybe", "service": "main", "auth": "optional"},
            {"path": "/locked", "service": "main"},
            {"path": "/read", "service": "main", "scopes": ["read"]},
        ],
        "log": {"format": "text"},
    }
    running = Kept(EDGES, tmp_path_factory.mktemp("keyless"), config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def keyless(edge: str, keyless_ones: Kept) -> Gateway:
    """The one on the edge in turn."""
    return keyless_ones.at(edge)


def test_without_a_key_public_routes_work(keyless: Gateway, guarded_upstreams: Upstreams) -> None:
    """Nothing to verify with: what is public is served, with and without a token."""
    assert ask(keyless.port, target="/open").status == 200
    assert ask(keyless.port, target="/open", headers=authorized()).status == 200
    assert ask(keyless.port, target="/livez").status == 200


@pytest.mark.parametrize("target", ["/locked", "/read"])
def test_without_a_key_protected_routes_do_not(
    keyless: Gateway, guarded_upstreams: Upstreams, target: str
) -> None:
    """Protected routes are 503, whatever token comes; nothing reaches the upstream."""
    guarded_upstreams.reset()
    for headers in (authorized(scope="read"), bearer(mint(secret="")), bearer("no-such-token-9Ty")):
        answer = ask(keyless.port, target=target, headers=headers)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.get("retry-after")
    assert ask(keyless.port, target=target).status in (401, 503)
    assert ask(keyless.port, target="/maybe", headers=authorized()).status in (401, 503)
    assert guarded_upstreams.main.raw == b""


def test_without_a_key_the_log_says_why(keyless: Gateway) -> None:
    """The operator reads at the start what is missing, and where to write it."""
    assert "auth.jwt" in keyless.said()
    assert "503" in keyless.said() or "verif" in keyless.said()


def test_without_a_key_there_are_no_tokens(keyless: Gateway) -> None:
    """There is no token endpoint where nothing could sign."""
    body = b"username=alice&password=none-Zx81kd02"
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    assert ask(keyless.port, "POST", "/api/v1/auth/token", form, body).status in (404, 503)


def test_without_cors_the_upstream_decides(keyless: Gateway, guarded_upstreams: Upstreams) -> None:
    """Where CORS is off, preflights and answers pass as they are."""
    guarded_upstreams.reset()
    said = ["Access-Control-Allow-Origin: https://its-own.example", "Vary: Accept"]
    guarded_upstreams.main.on("/open/cors", answers.plain(headers=said))
    headers = [("Origin", "https://page.example"), ("Access-Control-Request-Method", "GET")]
    for method in ("GET", "OPTIONS"):
        answer = ask(keyless.port, method, "/open/cors", headers)
        assert answer.get("access-control-allow-origin") == "https://its-own.example"
        assert answer.get("vary") == "Accept"
    assert [arrived.method for arrived in guarded_upstreams.main.requests] == ["GET", "OPTIONS"]
    assert ask(keyless.port, "OPTIONS", "/locked", headers).status in (401, 503)


# Files that start nothing


def start_in_vain(edge: str, folder: Path, config: Config) -> tuple[int, str]:
    """Start a gateway that must not start; return its status and what it said."""
    file, port = folder / "propylon.yaml", free_port()
    file.write_text(yaml.safe_dump({"server": {"port": port}, **config}))
    done = ZYGOTE.run(command(edge, file, port), cwd=folder, env=environment(file))
    said = done.stdout + done.stderr
    SECRECY.hear(f"a start in vain on {edge}", said)
    return done.returncode, said


ROUTES: dict[str, Any] = {
    "services": {"main": {"url": "http://127.0.0.1:9"}},
    "routes": [{"path": "/x", "service": "main"}],
}


def test_published_secret_starts_nothing(edge: str, tmp_path: Path) -> None:
    """A secret that everybody can read up: refused, how to make one is said, the secret is not."""
    secret = "your-256-bit-secret"
    status, said = start_in_vain(edge, tmp_path, {**ROUTES, "auth": {"jwt": {"secret": secret}}})
    assert status == 2 if edge == "fast" else status != 0
    assert "auth.jwt.secret" in said
    assert "secrets.token_urlsafe" in said
    assert secret not in said


def check(folder: Path, config: Config, **environ: str) -> tuple[int, str]:
    """What `propylon check` says of a file."""
    file = folder / "propylon.yaml"
    file.write_text(yaml.safe_dump({**ROUTES, **config}))
    return propylon(file, "check", **environ)


UNSAFE_ROUTES: list[dict[str, Any]] = [
    {"auth": "none", "scopes": ["read"]},
    {"auth": "none", "roles": ["clerk"]},
    {"auth": "off"},
    {"scopes": ["a b"]},
    {"privacy": "sometimes"},
    {"default_privacy": "secret"},
]
UNSAFE_ORIGINS = ["null", "https://a.example/", "a.example", "https://a.example/path", "https://*"]


def test_whatever_guards_nothing_is_a_problem(tmp_path: Path) -> None:
    """Rules that nobody would check, origins that are none: exit 2, each with its place."""
    paths = [{"path": f"/r{number}", "service": "main"} for number in range(len(UNSAFE_ROUTES))]
    routes = [{**path, **route} for path, route in zip(paths, UNSAFE_ROUTES, strict=True)]
    config = {
        "auth": {"jwt": {"secret": SECRET}},
        "routes": routes,
        "cors": {"origins": UNSAFE_ORIGINS},
    }
    status, said = check(tmp_path, config)
    assert status == 2
    places = [f"routes[{number}]" for number in range(len(routes))]
    places += [f"cors.origins[{number}]" for number in range(len(UNSAFE_ORIGINS))]
    assert [place for place in places if place not in said] == [], said


def test_unsafe_as_a_whole_is_a_problem(tmp_path: Path) -> None:
    """Each part is fine by itself: every page and cookies; a secret and its length; a path and ours."""
    weak = "kV3-short-but-random"
    cors = {"origins": ["*"], "credentials": True}
    routes = [{"path": path, "service": "main"} for path in ("/metrics", "/api/v1/auth/token")]
    config = {"auth": {"jwt": {"secret": weak}}, "cors": cors, "routes": routes}
    status, said = check(tmp_path, config)
    assert status == 2
    places = ("auth.jwt.secret", "cors.", "routes[0]", "routes[1]")
    assert [place for place in places if place not in said] == [], said
    assert weak not in said


@pytest.mark.parametrize("debug", [False, True])
def test_published_secret_of_the_environment(tmp_path: Path, debug: bool) -> None:
    """JWT_SECRET_KEY is judged like the file; for trying out, debug accepts it."""
    status, said = check(tmp_path, {"debug": debug}, JWT_SECRET_KEY="supersecretkey")
    assert status == (0 if debug else 2), said
    assert "supersecretkey" not in said


def test_start_with_a_secret_says_nothing_of_it(guarded: Gateway, loose: Gateway) -> None:
    """Neither at info nor at debug does a start tell the keys that it starts with."""
    for gateway in (guarded, loose):
        assert SECRET not in gateway.said()


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--format", "json"],
        ["routes", "--format", "json"],
        ["explain", "GET", "/locked", "--token", "{token}"],
        ["explain", "GET", "/locked", "--token", "{token}", "--format", "json"],
        ["explain", "GET", "/locked", "--header", "Authorization: Bearer {token}"],
        ["explain", "GET", "/open", "--header", "Cookie: session={token}"],
        ["explain", "GET", "/locked", "--token", "{token}x"],
    ],
    ids=" ".join,
)
def test_commands_say_nothing_of_secrets(guarded: Gateway, command: list[str]) -> None:
    """What shows the configuration or a request's way shows no key and no token."""
    token = mint("explained")
    status, said = propylon(guarded.file, *[part.format(token=token) for part in command])
    assert status in (0, 1), said
    assert SECRET not in said
    assert [part for part in token.split(".")[1:] if part in said] == []
