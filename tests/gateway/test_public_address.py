"""The address that clients use: the Host that a service gets, what it is told, and what its answers say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.servers import run_python
from tests.support.sockets import Socket
from tests.support.topology import Upstreams
from tests.support.upstream import Upstream

PUBLIC = "https://api.example.com"


def configuration(port: int, **server: Any) -> Config:
    """A service for each key, and a route to each."""
    url = f"http://127.0.0.1:{port}"
    services: dict[str, Any] = {
        "main": {"url": url},
        "based": {"url": f"{url}/base/v1"},
        "client": {"url": url, "host": "client"},
        "kong": {"url": url, "preserve_host": True},
        "named": {"url": url, "host": "shop.internal:81"},
        "passing": {"url": url, "redirects": "pass"},
        "cookies": {"url": url, "cookies": {"path": "rewrite", "domain": "rewrite"}},
        "domain": {"url": url, "cookies": {"domain": "example.com"}},
    }
    strip = {"strip_prefix": True}
    routes: list[dict[str, Any]] = [
        {"path": "/", "service": "main", "rewrite": "/root"},
        {"path": "/shop", "service": "main", **strip},
        {"path": "/plain", "service": "main"},
        {"path": "/based", "service": "based", **strip},
        {"path": "/whole", "service": "based"},
        {"path": "/host/client", "service": "client", **strip},
        {"path": "/host/kong", "service": "kong", **strip},
        {"path": "/host/named", "service": "named", **strip},
        {"path": "/pass", "service": "passing", **strip},
        {"path": "/cookies", "service": "cookies", **strip},
        {"path": "/domain", "service": "domain", **strip},
        {"path": "/hosted", "service": "main", "hosts": ["api.example.com"], **strip},
        {"path": "/f", "service": "main", "rewrite": "/fancy/path/"},
        {"path": "/g", "service": "main", "rewrite": "/v2"},
        {"path": "/tenants/{tenant}/orders", "service": "main", "rewrite": "/orders/{tenant}"},
        {"path": "/set", "service": "main", **strip,
         "headers": {"request": {"set": {"X-Forwarded-Prefix": "/mine"}}}},
    ]  # fmt: skip
    return {
        "server": server,
        "services": services,
        "defaults": {"auth": "none"},
        "routes": routes,
    }


# The gateway of each kind: what `server` has.
KINDS: dict[str, dict[str, Any]] = {
    "usual": {},
    "public": {"public_url": PUBLIC},
    "trusting": {"trusted_proxies": ["127.0.0.1"]},
    "rfc7239": {"trusted_proxies": ["127.0.0.1"], "forwarded": "rfc7239"},
    "both": {"forwarded": "both"},
}


@pytest.fixture(scope="module")
def kinds(
    upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Kept]]:
    """Gateways of each kind, started when they are first asked for."""
    kept = {
        kind: Kept(
            EDGES, tmp_path_factory.mktemp(kind), configuration(upstreams.main.port, **server)
        )
        for kind, server in KINDS.items()
    }
    yield kept
    for each in kept.values():
        each.close()


@pytest.fixture
def up(upstreams: Upstreams) -> Iterator[Upstream]:
    """The upstream, with an empty record."""
    upstreams.reset()
    usual = upstreams.main.fallback
    yield upstreams.main
    upstreams.main.fallback = usual
    assert upstreams.faults == []


@pytest.fixture
def usual(edge: str, kinds: dict[str, Kept]) -> Gateway:
    """The gateway without more ado."""
    return kinds["usual"].at(edge)


def redirected(
    gateway: Gateway, up: Upstream, target: str, location: str, **more: Any
) -> str | None:
    """The Location that a client gets where the upstream sends that one."""
    up.fallback = answers.plain(
        "307 Temporary Redirect", headers=[f"Location: {location.format(port=up.port)}"]
    )
    return ask(gateway.port, target=target, **more).get("location")


@pytest.mark.parametrize(
    ("target", "location", "public"),
    [
        ("/shop/items?a=1", "http://127.0.0.1:{port}/items/?a=1", "/shop/items/?a=1"),
        ("/shop/items", "/items/", "/shop/items/"),
        ("/shop/items", "/shop/items/", "/shop/items/"),
        ("/shop/items", "https://login.example/x", "https://login.example/x"),
        ("/shop/items", "//evil.example/x", "//evil.example/x"),
        ("/shop/items", "items/", "items/"),
        ("/based/items", "http://127.0.0.1:{port}/base/v1/items/", "/based/items/"),
        ("/based/items", "/base/v1/items/", "/based/items/"),
        ("/whole/items", "http://127.0.0.1:{port}/base/v1/whole/items/", "/whole/items/"),
        ("/plain/items", "http://127.0.0.1:{port}/plain/items/", "/plain/items/"),
        ("/f/x", "http://127.0.0.1:{port}/fancy/path/x/", "/f/x/"),
        ("/tenants/7/orders", "/orders/7/next", "/tenants/7/orders/next"),
        ("/x", "http://127.0.0.1:{port}/root/x/", "/x/"),
        ("/host/client/items", "http://gw.test/items/", "/host/client/items/"),
        ("/host/named/items", "http://shop.internal:81/items/", "/host/named/items/"),
        ("/pass/items", "http://127.0.0.1:1/items/", "http://127.0.0.1:1/items/"),
    ],
)
def test_location(usual: Gateway, up: Upstream, target: str, location: str, public: str) -> None:
    """A redirect to the instance itself becomes a public path with the prefix; others are left."""
    assert redirected(usual, up, target, location) == public


def test_redirects_may_pass(usual: Gateway, up: Upstream) -> None:
    """With `redirects: pass` the client gets what the upstream sent."""
    own = f"http://127.0.0.1:{up.port}/items/"
    assert redirected(usual, up, "/pass/items", own) == own


def test_the_clients_host_is_never_written(usual: Gateway, up: Upstream) -> None:
    """A Host that a client made up stands in no redirect: a cache would keep it for others."""
    location = "http://127.0.0.1:{port}/items/"
    assert redirected(usual, up, "/shop/items", location, host="evil.example") == "/shop/items/"


def test_a_route_for_hosts_writes_its_host(usual: Gateway, up: Upstream) -> None:
    """Where the route names `hosts`, the host is one of them, and is written with the scheme."""
    found = redirected(
        usual, up, "/hosted/items", "http://127.0.0.1:{port}/items/", host="api.example.com"
    )
    assert found == "http://api.example.com/hosted/items/"


def test_the_public_url_is_written(edge: str, kinds: dict[str, Kept], up: Upstream) -> None:
    """Where `server.public_url` is set, redirects begin with it, whatever Host the client sent."""
    gateway = kinds["public"].at(edge)
    found = redirected(
        gateway, up, "/shop/items", "http://127.0.0.1:{port}/items/", host="evil.example"
    )
    assert found == f"{PUBLIC}/shop/items/"


def test_other_headers_with_addresses(usual: Gateway, up: Upstream) -> None:
    """Content-Location, Refresh and Link are changed, too, each in its grammar."""
    own = f"http://127.0.0.1:{up.port}"
    lines = [
        f"Content-Location: {own}/a",
        f"Refresh: 5; url={own}/b",
        f'Link: <{own}/c>; rel="next", </d>; rel=prev',
        f"X-Other: {own}/e",
    ]
    up.fallback = answers.plain(headers=lines)
    answer = ask(usual.port, target="/shop/x")
    assert answer.get("content-location") == "/shop/a"
    assert answer.get("refresh") == "5; url=/shop/b"
    assert answer.get("link") == '</shop/c>; rel="next", </shop/d>; rel=prev'
    assert answer.get("x-other") == f"{own}/e"


@pytest.mark.parametrize(
    ("target", "sent", "cookies"),
    [
        ("/cookies/x", ["a=1; Path=/; HttpOnly", "b=2; Path=/items; Domain=127.0.0.1"],
         [b"a=1; Path=/cookies; HttpOnly", b"b=2; Path=/cookies/items"]),
        ("/cookies/x", ["__Host-a=1; Path=/; Secure"], [b"__Host-a=1; Path=/; Secure"]),
        ("/domain/x", ["a=1; Path=/; Domain=internal", "b=2"],
         [b"a=1; Path=/; Domain=example.com", b"b=2"]),
        ("/shop/x", ["a=1; Path=/; Domain=internal"], [b"a=1; Path=/; Domain=internal"]),
    ],
)  # fmt: skip
def test_cookies(
    usual: Gateway, up: Upstream, target: str, sent: list[str], cookies: list[bytes]
) -> None:
    """`cookies` maps path and domain of each Set-Cookie, and without it they pass as sent."""
    up.fallback = answers.plain(headers=[f"Set-Cookie: {each}" for each in sent])
    assert ask(usual.port, target=target).all("set-cookie") == cookies


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/shop", ""),
        ("/host/client/x", "shop.example:8080"),
        ("/host/kong/x", "shop.example:8080"),
        ("/host/named/x", "shop.internal:81"),
    ],
)
def test_the_host_that_a_service_gets(usual: Gateway, up: Upstream, target: str, host: str) -> None:
    """`host` of the service: the instance's own, the client's, or a name; X-Forwarded-Host is the client's always."""
    ask(usual.port, target=target, host="shop.example:8080")
    assert up.last.get("host") == (host or f"127.0.0.1:{up.port}")
    assert up.last.get("x-forwarded-host") == "shop.example:8080"


def test_a_client_without_a_host(usual: Gateway, up: Upstream) -> None:
    """HTTP/1.0 knows no Host: then the service gets that of the instance."""
    with RawClient(usual.port) as client:
        assert client.send(b"GET /host/client/x HTTP/1.0\r\n\r\n").read().status == 200
    assert up.last.get("host") == f"127.0.0.1:{up.port}"


@pytest.mark.parametrize(
    ("target", "gets"),
    [
        ("/f", "/fancy/path/"),
        ("/f/", "/fancy/path/"),
        ("/f/x", "/fancy/path/x"),
        ("/f?q", "/fancy/path/?q"),
        ("/g", "/v2"),
        ("/g/", "/v2/"),
        ("/", "/root"),
        ("/x/y?q", "/root/x/y?q"),
        ("/tenants/a%20b/orders/7", "/orders/a%20b/7"),
        ("/shop//evil.example/x", "/evil.example/x"),
        ("/shop/%2fx", "/%2fx"),
        ("/based//x", "/base/v1//x"),
    ],
)
def test_the_path_that_a_service_gets(usual: Gateway, up: Upstream, target: str, gets: str) -> None:
    """`rewrite` on `/`, a final slash that the operator wrote, names, and no path of another host."""
    assert ask(usual.port, target=target).status == 200
    assert up.last.target == gets.encode()


def test_prefix_and_port_are_told(usual: Gateway, up: Upstream) -> None:
    """X-Forwarded-Prefix where a prefix is stripped, and the port that the client asked for."""
    ask(usual.port, target="/shop/x", host="shop.example:8080")
    assert (up.last.get("x-forwarded-prefix"), up.last.get("x-forwarded-port")) == ("/shop", "8080")
    ask(usual.port, target="/plain/x", host="shop.example")
    assert (up.last.get("x-forwarded-prefix"), up.last.get("x-forwarded-port")) == (None, "80")
    ask(usual.port, target="/f/x")
    assert up.last.get("x-forwarded-prefix") is None
    ask(usual.port, target="/set/x")
    assert up.last.get("x-forwarded-prefix") == "/mine"


@pytest.mark.parametrize("target", ["/shop/x", "/plain/x", "/host/client/x"])
@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-Prefix", "x-forwarded-port", "X-Forwarded-Server", "X_Forwarded_Prefix", "X-Forwarded_Port",
     "X-Forwarded-Anything", "Forwarded"],
)  # fmt: skip
def test_what_an_untrusted_peer_says_is_removed(
    usual: Gateway, up: Upstream, name: str, target: str
) -> None:
    """Every X-Forwarded-* of a peer that is not trusted is removed, in any spelling, before ours is written."""
    ask(usual.port, target=target, headers=[(name, "/evil666"), (name, "host=evil666")])
    assert b"evil666" not in up.raw


def test_a_trusted_proxys_prefix_stands_in_front(
    edge: str, kinds: dict[str, Kept], up: Upstream
) -> None:
    """A trusted proxy has taken off a prefix of its own: the service gets both, and the proxy's port."""
    gateway = kinds["trusting"].at(edge)
    said = [
        ("X-Forwarded-Prefix", "/outer/"),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Proto", "https"),
    ]
    ask(gateway.port, target="/shop/x", headers=said)
    assert up.last.all("x-forwarded-prefix") == [b"/outer/shop"]
    assert up.last.all("x-forwarded-port") == [b"8443"]
    ask(gateway.port, target="/plain/x", headers=said)
    assert up.last.all("x-forwarded-prefix") == [b"/outer/"]


def test_the_client_host_of_a_trusted_proxy(
    edge: str, kinds: dict[str, Kept], up: Upstream
) -> None:
    """With `host: client` the service gets the Host that the client asked the trusted proxy for."""
    gateway = kinds["trusting"].at(edge)
    ask(gateway.port, target="/host/client/x", headers=[("X-Forwarded-Host", "shop.example")])
    assert up.last.get("host") == "shop.example"


def forwarded(edge: str, kinds: dict[str, Kept], kind: str, *said: tuple[str, str]) -> Answer:
    """Ask the gateway of that kind."""
    return ask(
        kinds[kind].at(edge).port, target="/plain/x", headers=list(said), host="shop.example"
    )


def test_forwarded_alone(edge: str, kinds: dict[str, Kept], up: Upstream) -> None:
    """With `forwarded: rfc7239` the upstream gets Forwarded and no X-Forwarded-For; a trusted proxy's goes on."""
    forwarded(edge, kinds, "rfc7239", ("X-Forwarded-For", "6.6.6.6"))
    assert up.last.get("forwarded") == "for=127.0.0.1;host=shop.example;proto=http"
    assert not {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"} & up.last.names
    answer = forwarded(
        edge, kinds, "rfc7239", ("Forwarded", "for=192.0.2.7;proto=https;host=a.example")
    )
    assert up.last.get("forwarded") == (
        "for=192.0.2.7;proto=https;host=a.example, for=127.0.0.1;host=a.example;proto=https"
    )
    assert kinds["rfc7239"].at(edge).record(answer)["client_ip"] == "192.0.2.7"


def test_forwarded_beside_the_other(edge: str, kinds: dict[str, Kept], up: Upstream) -> None:
    """With `forwarded: both` the upstream gets both, and an untrusted peer's own are removed."""
    forwarded(edge, kinds, "both", ("Forwarded", "for=6.6.6.6"))
    assert up.last.get("forwarded") == "for=127.0.0.1;host=shop.example;proto=http"
    assert up.last.get("x-forwarded-for") == "127.0.0.1"


def test_a_pipelined_redirect_is_changed_each_time(usual: Gateway, up: Upstream) -> None:
    """An answer that the upstream repeats byte for byte is changed for each route that it goes through."""
    up.fallback = answers.plain("302 Found", headers=["Location: /a"])
    with RawClient(usual.port) as client:
        found = [client.send(request(target=target)).read().get("location") for target in
                 ("/shop/x", "/set/x", "/plain/x", "/shop/x")]  # fmt: skip
    assert found == ["/shop/a", "/set/a", "/a", "/shop/a"]


FASTAPI = """
import sys
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get(sys.argv[2] + "/items/")
def items(a: int = 0): return {"items": a}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


@pytest.mark.parametrize("host", ["upstream", "client", "shop.internal"])
@pytest.mark.parametrize("base", ["", "/base/v1"])
def test_a_fastapi_service_redirects_to_the_public_path(
    edge: str, base: str, host: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The redirect /items → /items/ of a real FastAPI service leads a client through the gateway to its answer."""
    with run_python(FASTAPI, tmp_path, base) as port:
        service = {"url": f"http://127.0.0.1:{port}{base}", "host": host}
        config = {"services": {"shop": service}, "defaults": {"auth": "none"},
                  "routes": [{"path": "/shop", "service": "shop", "strip_prefix": True}]}  # fmt: skip
        gateway = Gateway(edge, config, tmp_path_factory.mktemp("fastapi"))
        try:
            gateway.wait_ready()
            first = ask(gateway.port, target="/shop/items?a=1")
            assert (first.status, first.get("location")) == (307, "/shop/items/?a=1")
            second = ask(gateway.port, target=first.get("location") or "")
            assert (second.status, second.json()) == (200, {"items": 1})
        finally:
            gateway.kill()


MOUNTED = """
import sys
import uvicorn
from fastapi import FastAPI
from propylon import Gateway
gateway = Gateway.from_file(sys.argv[2])
app = FastAPI(lifespan=lambda _: gateway.lifespan())
app.mount("/mount", gateway.asgi)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", proxy_headers=False)
"""


def test_a_mounted_gateway_puts_its_mount_back(up: Upstream, tmp_path: Path) -> None:
    """Where an application mounts the gateway, the public path begins with the mount."""
    file = tmp_path / "propylon.yaml"
    file.write_text(yaml.safe_dump(configuration(up.port)))
    up.fallback = answers.plain("302 Found", headers=["Location: /items/"])
    with run_python(MOUNTED, tmp_path, str(file)) as port:
        assert ask(port, target="/mount/shop/items").get("location") == "/mount/shop/items/"
        assert up.last.get("x-forwarded-prefix") == "/mount/shop"
        assert ask(port, target="/mount/plain/items").get("location") == "/mount/items/"
        assert up.last.get("x-forwarded-prefix") == "/mount"


UNDER_UVICORN = """
import sys
import uvicorn
from propylon import Gateway
uvicorn.run(Gateway.from_file(sys.argv[2]).asgi, port=int(sys.argv[1]), log_level="error")
"""


def test_uvicorn_cannot_be_told_another_address(tmp_path: Path) -> None:
    """Whereas uvicorn believes X-Forwarded-* of this machine by default; the gateway believes `server.trusted_proxies`."""
    file = tmp_path / "propylon.yaml"
    forged = [("X-Forwarded-For", "6.6.6.6:1234"), ("X-Forwarded-Proto", "https")]
    with Upstream(upgrades=True) as up:
        file.write_text(yaml.safe_dump(configuration(up.port)))
        _check_address_is_true(up, file, forged)


def _check_address_is_true(up: Upstream, file: Path, forged: list[tuple[str, str]]) -> None:
    with run_python(UNDER_UVICORN, file.parent, str(file)) as port:
        assert ask(port, target="/shop/items", headers=forged).status == 200
        assert up.last.all("x-forwarded-for") == [b"127.0.0.1"]
        assert up.last.all("x-forwarded-proto") == [b"http"]
        with RawClient(port) as client:
            Socket(client).shake("/shop/socket", forged)
        assert up.last.target == b"/socket"
        assert up.last.all("x-forwarded-for") == [b"127.0.0.1"]
        assert up.last.all("x-forwarded-proto") == [b"http"]
