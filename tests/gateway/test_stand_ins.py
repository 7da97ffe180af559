"""`maintenance`: over real sockets, on both edges."""

from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.client import ask
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Upstream

INNER = "10.1.2.3"
PAGE = "<p>Back at eight.</p>"


def configuration(main: int) -> Config:
    """Routes whose service is out of order, each in its way."""
    return {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "cors": {"origins": ["https://app.example"]},
        "services": {"main": {"url": f"http://127.0.0.1:{main}", "retry": {"attempts": 1}}},
        "defaults": {"auth": "none"},
        "routes": [
            {"name": "closed", "path": "/closed", "service": "main", "auth": "required",
             "rate_limit": {"rate": "1/h", "burst": 1}, "maintenance": True,
             "clients": {"deny": ["10.9.0.0/16"]}},
            {"name": "page", "path": "/page", "service": "main", "methods": ["GET", "HEAD", "WEBSOCKET"],
             "maintenance": {"retry_after": "10m", "status": 502, "body": PAGE,
                             "content_type": "text/html", "allow": ["10.0.0.0/8"]}},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def main() -> Iterator[Upstream]:
    """The service behind the routes."""
    with Upstream(fallback=answers.plain(body=b"ok"), identified=True) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def kept(main: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    found = Kept(EDGES, tmp_path_factory.mktemp("stand-ins"), configuration(main.port))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept, main: Upstream) -> Gateway:
    """The gateway on that edge."""
    main.reset()
    return kept.at(edge)


def test_a_route_under_maintenance(gateway: Gateway, main: Upstream) -> None:
    """503 before the token is looked at, with CORS and Retry-After; nothing is asked, and no limit counts."""
    for _ in range(2):
        got = ask(gateway.port, target="/closed/7", headers=[("Origin", "https://app.example")])
        assert (got.status, got.get("Retry-After")) == (503, "60")
        assert got.json()["error"]["code"] == "MAINTENANCE"
        assert got.get("X-Error-Source") == "gateway"
        assert got.get("Access-Control-Allow-Origin") == "https://app.example"
    record = gateway.record(got)
    assert (record["level"], record["route"], record["attempts"]) == ("warning", "closed", 0)
    assert record["error"].startswith("MAINTENANCE")
    refused = ask(gateway.port, target="/closed", headers=[("X-Forwarded-For", "10.9.0.1")])
    assert refused.status == 403
    assert main.requests == []


def test_the_page_of_a_maintenance(gateway: Gateway, main: Upstream) -> None:
    """Status, page and type are the operator's; a HEAD has none of the page, and a handshake gets it, too."""
    got = ask(gateway.port, target="/page")
    assert (got.status, got.body, got.get("Retry-After")) == (502, PAGE.encode(), "600")
    assert (got.get("Content-Type"), got.get("Cache-Control")) == ("text/html", "no-store")
    head = ask(gateway.port, "HEAD", "/page")
    assert (head.status, head.body, head.get("Content-Length")) == (502, b"", str(len(PAGE)))
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    assert ask(gateway.port, target="/page", headers=upgrade).status == 502
    assert main.requests == []


def test_who_does_the_work_reaches_the_service(gateway: Gateway, main: Upstream) -> None:
    """By the address that a trusted proxy says; one that it does not name is refused."""
    got = ask(gateway.port, target="/page", headers=[("X-Forwarded-For", INNER)])
    assert (got.status, got.body) == (200, b"ok")
    assert main.of(got).target == b"/page"
    assert (
        ask(gateway.port, target="/page", headers=[("X-Forwarded-For", "192.0.2.1")]).status == 502
    )


def test_maintenance_is_explained(gateway: Gateway) -> None:
    """The stage stands among the others, with the line of the file."""
    asks = [("X-Propylon-Explain", "1"), *bearer(mint("ann", scope="explain", edge=gateway.edge))]
    got = ask(gateway.port, target="/closed", headers=asks)
    stages = {one["stage"]: one for one in got.json()["error"]["details"]["explain"]["stages"]}
    assert stages["clients"]["passed"] is True
    assert stages["maintenance"]["passed"] is False
    assert "503 MAINTENANCE" in stages["maintenance"]["text"]
    assert stages["maintenance"]["values"]["maintenance"]["from"].startswith("propylon.yaml:")
    assert stages["authenticate"]["passed"] is None
