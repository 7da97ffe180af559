"""Header templates, changes of the query and names in `rewrite`: over real sockets, on both edges."""

from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.client import ask
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Upstream

TOLD = {
    "request": {
        "set": {
            "X-Tenant": "{claim.tenant}",
            "X-Who": "{user}@{host}",
            "X-Roles": "{claim.roles}",
            "X-Way": "{method} {scheme} {route} {service} {path}",
            "X-Ids": "{request_id}/{trace_id}",
            "X-Item": "{path.id}",
            "X-Page": "{query.page}",
            "X-Real-IP": "{client_ip}",
            "X-Json": '{{"a": "{header.X-A}"}}',
        },
        "add": {"Via": ["1.1 {host}", "1.1 inner"]},
    },
    "response": {
        "set": {"X-Tenant": "{claim.tenant}", "Vary": "{header.X-A}", "X-Plain": "{{}}"},
        "add": {"Link": ["<{path}>; rel=self", "</>; rel=home"]},
    },
}


def configuration(port: int) -> Config:
    """One upstream, by several routes."""
    return {
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "admin": {"scopes": {"explain": "explain"}},
        "services": {"app": {"url": f"http://127.0.0.1:{port}/base"}},
        "defaults": {"auth": "optional"},
        "routes": [
            {"name": "told", "path": "/told/{id}", "service": "app", "headers": TOLD},
            {"name": "other", "path": "/other", "service": "app", "auth": "none"},
            {"name": "asked", "path": "/asked", "service": "app", "strip_prefix": True,
             "query": {"set": {"tenant": "{claim.tenant}", "v": 2}, "add": {"tag": ["a b", "{header.X-A}"]},
                       "remove": ["debug"]}},
            {"name": "filled", "path": "/filled/{id}", "service": "app",
             "rewrite": "/t-{claim.tenant}/{id}/{header.X-A}"},
            {"name": "kept", "path": "/kept", "service": "app", "auth": "optional",
             "cache": {"ttl": "1h", "by": "everyone"},
             "headers": {"request": {"set": {"X-Tenant": "{claim.tenant}"}}}},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """The service behind all routes."""
    with Upstream(
        fallback=answers.plain(body=b"ok", headers=["Vary: A", "Link: </theirs>"])
    ) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def kept(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A gateway on each edge."""
    found = Kept(EDGES, tmp_path_factory.mktemp("transforms"), configuration(behind.port))
    yield found
    found.close()


@pytest.fixture
def gateway(edge: str, kept: Kept) -> Gateway:
    """The gateway on that edge."""
    return kept.at(edge)


def token(gateway: Gateway, **claims: object) -> list[tuple[str, str]]:
    """The header with a token of ann's."""
    return bearer(mint("ann", edge=gateway.edge, **claims))


def test_headers_have_the_values_of_the_request(gateway: Gateway, behind: Upstream) -> None:
    """Of the token, the path, the query, the headers and the gateway itself, each in its place, once."""
    held = token(gateway, tenant="acme", roles=["a", "b"], scope="read")
    lines = [*held, ("X-A", "v"), ("X_Tenant", "evil"), ("X-Who", "evil"), ("Via", "1.0 client")]
    answer = ask(gateway.port, target="/told/a%2Fb?x=1&page=2%203", headers=lines)
    got = behind.last
    expected = {
        "X-Tenant": "acme",
        "X-Roles": "a,b",
        "X-Way": "GET http told app /told/a%2Fb",
        "X-Item": "a%2Fb",
        "X-Page": "2%203",
        "X-Real-IP": "127.0.0.1",
        "X-Json": '{"a": "v"}',
    }
    assert {name: got.get(name) for name in expected} == expected
    assert (got.get("X-Who") or "").startswith("ann@")
    assert (got.get("X-Ids") or "").split("/")[0] == got.get("X-Request-ID")
    assert got.get("X_Tenant") is None
    assert [value.partition(b" ")[0] for value in got.all("via")] == [b"1.0", b"1.1", b"1.1"]
    assert (answer.get("X-Tenant"), answer.get("X-Plain")) == ("acme", "{}")
    assert answer.all("vary") == [b"v"]
    links = [b"</>; rel=home", b"</theirs>", b"</told/a%2Fb>; rel=self"]
    assert sorted(answer.all("link")) == links


@pytest.mark.parametrize(
    "tenant", [None, "a\r\nX-User-Id: root", "a\nb", {"a": 1}, ["a,b"], "x" * 2000, 1.5]
)
def test_what_is_no_line_is_left_out(gateway: Gateway, behind: Upstream, tenant: object) -> None:
    """A claim that could end its line is not sent, and neither is the client's header of that name."""
    lines = [*token(gateway, tenant=tenant), ("X-Tenant", "evil")]
    answer = ask(gateway.port, target="/told/1", headers=lines)
    assert (answer.status, answer.get("X-Tenant")) == (200, None)
    assert behind.last.get("X-Tenant") is None
    assert behind.last.get("X-User-Id") == "ann"


def test_no_route_takes_a_verified_header_from_a_client(gateway: Gateway, behind: Upstream) -> None:
    """A service that believes X-Tenant must not get it from a client by another route either."""
    ask(gateway.port, target="/other", headers=[("X-Tenant", "evil"), ("X-Item", "mine")])
    assert (behind.last.get("X-Tenant"), behind.last.get("X-Item")) == (None, "mine")


def test_a_query_is_set_added_and_removed(gateway: Gateway, behind: Upstream) -> None:
    """The service gets the operator's parameters; the others stay as they were sent."""
    lines = [*token(gateway, tenant="a&b"), ("X-A", "é".encode().decode("latin-1"))]
    ask(gateway.port, target="/asked/x?z=%2f&tenant=evil;%74enant=evil&debug=1", headers=lines)
    assert behind.last.target == b"/base/x?z=%2f&tenant=a%26b&v=2&tag=a%20b&tag=%C3%A9"
    ask(gateway.port, target="/asked?tenant=evil")
    assert behind.last.target == b"/base?v=2&tag=a%20b"


def test_a_path_is_filled_in(gateway: Gateway, behind: Upstream) -> None:
    """403 without the claim, 400 for a value that is no segment; a redirect leads back to the public path."""
    held = token(gateway, tenant="acme")
    target = b"/base/t-acme/7/v"
    behind.on(
        f"{target.decode()}/x", answers.plain("302 Found", [f"Location: {target.decode()}/y"])
    )
    answer = ask(gateway.port, target="/filled/7/x?q=1", headers=[*held, ("X-A", "v")])
    assert behind.last.target == target + b"/x?q=1"
    assert answer.get("Location") == "/filled/7/y"
    before = len(behind.requests)
    assert ask(gateway.port, target="/filled/7", headers=[("X-A", "v")]).status == 403
    for value in ("..", "a/b", "%2e%2e", ""):
        assert ask(gateway.port, target="/filled/7", headers=[*held, ("X-A", value)]).status == 400
    assert len(behind.requests) == before


def test_a_cache_knows_what_the_service_is_told(gateway: Gateway, behind: Upstream) -> None:
    """Though the answer is kept for everyone, one tenant does not get another's."""
    before = len(behind.requests)
    for tenant in ("a", "b", "a"):
        ask(gateway.port, target="/kept", headers=token(gateway, tenant=tenant))
    assert len(behind.requests) == before + 2


def test_an_explanation_hides_what_is_set(gateway: Gateway) -> None:
    """The parameters that the operator sets are named, and their values are not shown."""
    held = token(gateway, tenant="secret-tenant", scope="explain")
    lines = [*held, ("X-Propylon-Explain", "1"), ("X-A", "v")]
    answer = ask(gateway.port, target="/asked", headers=lines)
    told = answer.get("X-Propylon-Explain") or ""
    assert '"query":{"value":{"set":["tenant","v"],"add":["tag"],"remove":["debug"]}' in told
    assert "secret-tenant" not in told
    assert "tenant=(not shown)" in told
