"""Header templates, changes of query and path, and compression: over real sockets, on both edges."""

import random
import threading
from collections.abc import Iterator

import pytest

from tests.proxy.coding.unpacked import PACK, UNPACK, reader
from tests.support import answers
from tests.support.client import RawClient, ask, chunked, post_chunked
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.guarded import Kept
from tests.support.tokens import SECRET, bearer, mint
from tests.support.upstream import Arrived, Peer, Upstream

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
            {"name": "packed", "path": "/packed", "service": "app", "auth": "none",
             "compress": ["br", "zstd", "gzip"]},
            {"name": "stored", "path": "/stored", "service": "app", "auth": "none",
             "compress": ["br", "gzip"], "cache": {"ttl": "1h"}},
            {"name": "unpacked", "path": "/unpacked", "service": "app", "auth": "none", "max_body": "600KB",
             "decompress": {"max_size": "500KB"}},
            {"name": "own", "path": "/own", "auth": "none", "compress": {"level": 9},
             "respond": {"body": "own " * 1000}},
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


def came(behind: Upstream, target: str) -> int:
    """How many requests for this the service has got; others may still come in from the case before."""
    wanted = f"/base{target}".encode()
    return sum(one.target.startswith(wanted) for one in behind.requests)


def token(gateway: Gateway, **claims: object) -> list[tuple[str, str]]:
    """The header with a token of ann's."""
    return bearer(mint("ann", edge=gateway.edge, **claims))


def test_headers_have_the_values_of_the_request(gateway: Gateway, behind: Upstream) -> None:
    """Of the token, the path, the query, the headers and the gateway itself, each in its place, once."""
    held = token(gateway, tenant="acme", roles=["a", "b"], scope="read")
    lines = [*held, ("X-A", "v"), ("X_Tenant", "evil"), ("X-Who", "evil"), ("Via", "1.0 client")]
    answer = ask(gateway.port, target="/told/a%2Fb?x=1&page=2%203", headers=lines)
    got = behind.of(answer)
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
    assert behind.of(answer).get("X-Tenant") is None
    assert behind.of(answer).get("X-User-Id") == "ann"


def test_no_route_takes_a_verified_header_from_a_client(gateway: Gateway, behind: Upstream) -> None:
    """A service that believes X-Tenant must not get it from a client by another route either."""
    answer = ask(gateway.port, target="/other", headers=[("X-Tenant", "evil"), ("X-Item", "mine")])
    assert (behind.of(answer).get("X-Tenant"), behind.of(answer).get("X-Item")) == (None, "mine")


def test_a_query_is_set_added_and_removed(gateway: Gateway, behind: Upstream) -> None:
    """The service gets the operator's parameters; the others stay as they were sent."""
    lines = [*token(gateway, tenant="a&b"), ("X-A", "é".encode().decode("latin-1"))]
    answer = ask(
        gateway.port, target="/asked/x?z=%2f&tenant=evil;%74enant=evil&debug=1", headers=lines
    )
    assert behind.of(answer).target == b"/base/x?z=%2f&tenant=a%26b&v=2&tag=a%20b&tag=%C3%A9"
    answer = ask(gateway.port, target="/asked?tenant=evil")
    assert behind.of(answer).target == b"/base?v=2&tag=a%20b"


def test_a_path_is_filled_in(gateway: Gateway, behind: Upstream) -> None:
    """403 without the claim, 400 for a value that is no segment; a redirect leads back to the public path."""
    held = token(gateway, tenant="acme")
    target = b"/base/t-acme/7/v"
    behind.on(
        f"{target.decode()}/x", answers.plain("302 Found", [f"Location: {target.decode()}/y"])
    )
    answer = ask(gateway.port, target="/filled/7/x?q=1", headers=[*held, ("X-A", "v")])
    assert behind.of(answer).target == target + b"/x?q=1"
    assert answer.get("Location") == "/filled/7/y"
    before = came(behind, "/t-")
    assert ask(gateway.port, target="/filled/7", headers=[("X-A", "v")]).status == 403
    for value in ("..", "a/b", "%2e%2e", ""):
        assert ask(gateway.port, target="/filled/7", headers=[*held, ("X-A", value)]).status == 400
    assert came(behind, "/t-") == before


def test_a_cache_knows_what_the_service_is_told(gateway: Gateway, behind: Upstream) -> None:
    """Though the answer is kept for everyone, one tenant does not get another's."""
    before = came(behind, "/kept")
    for tenant in ("a", "b", "a"):
        ask(gateway.port, target="/kept", headers=token(gateway, tenant=tenant))
    assert came(behind, "/kept") == before + 2


def test_an_explanation_hides_what_is_set(gateway: Gateway) -> None:
    """The parameters that the operator sets are named, and their values are not shown."""
    held = token(gateway, tenant="secret-tenant", scope="explain")
    lines = [*held, ("X-Propylon-Explain", "1"), ("X-A", "v")]
    answer = ask(gateway.port, target="/asked", headers=lines)
    told = answer.get("X-Propylon-Explain") or ""
    assert '"query":{"value":{"set":["tenant","v"],"add":["tag"],"remove":["debug"]}' in told
    assert "secret-tenant" not in told
    assert "tenant=(not shown)" in told


JSON = "Content-Type: application/json"
BODY = b'{"id": 17, "name": "gateway"}, ' * 100


def wanting(*codings: str) -> list[tuple[str, str]]:
    """The header of a client that wants these."""
    return [("Accept-Encoding", ", ".join(codings))]


@pytest.mark.parametrize(
    ("wants", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1, br;q=0.1", "gzip"),
        ("zstd, identity;q=0", "zstd"),
        ("deflate", None),
    ],
)
def test_an_answer_is_compressed(
    gateway: Gateway, behind: Upstream, wants: str, coding: str | None
) -> None:
    """In the coding that the client wants most; the tag is another one, and all say that it varies."""
    behind.on(
        "/base/packed", answers.plain("200 OK", [JSON, 'ETag: "v7"', "Accept-Ranges: bytes"], BODY)
    )
    answer = ask(gateway.port, target="/packed", headers=wanting(wants))
    assert (answer.get("Content-Encoding"), answer.get("Vary")) == (coding, "Accept-Encoding")
    assert (UNPACK[coding](answer.body) if coding else answer.body) == BODY
    assert answer.get("ETag") == (f'"v7~{coding}"' if coding else '"v7"')
    assert answer.get("Content-Length") == str(len(answer.body))
    assert "compressed" in (gateway.record(answer).get("flags") or []) or coding is None
    head = ask(gateway.port, "HEAD", "/packed", headers=wanting(wants))
    assert (head.get("Content-Encoding"), head.get("ETag"), head.body) == (
        coding,
        answer.get("ETag"),
        b"",
    )


def test_conditions_hold(gateway: Gateway, behind: Upstream) -> None:
    """The service sees its own tag, the client the one that it has; a PUT under If-Match works."""
    behind.on("/base/packed/1", answers.raw(b'HTTP/1.1 304 Not Modified\r\nETag: "v7"\r\n\r\n'))
    lines = [*wanting("gzip"), ("If-None-Match", '"v7~gzip"')]
    answer = ask(gateway.port, target="/packed/1", headers=lines)
    assert behind.of(answer).get("If-None-Match") == '"v7"'
    assert (answer.status, answer.get("ETag"), answer.get("Vary")) == (
        304,
        '"v7~gzip"',
        "Accept-Encoding",
    )
    answer = ask(gateway.port, "PUT", "/packed/2", headers=[("If-Match", '"v7~gzip"')], body=b"{}")
    assert behind.of(answer).get("If-Match") == '"v7"'


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: text/event-stream"],
        [JSON, "Content-Encoding: br"],
        [JSON, "Cache-Control: no-transform"],
        ["Content-Type: image/png"],
    ],
)
def test_what_must_not_be_compressed_is_not(
    gateway: Gateway, behind: Upstream, lines: list[str]
) -> None:
    """The bytes pass as they are."""
    behind.on("/base/packed/3", answers.plain("200 OK", lines, BODY))
    answer = ask(gateway.port, target="/packed/3", headers=wanting("gzip", "br"))
    assert (answer.body, answer.get("Vary")) == (BODY, None)


def test_a_range_is_the_plain_one(gateway: Gateway, behind: Upstream) -> None:
    """Of a part nothing is compressed."""
    part = [JSON, "Content-Range: bytes 0-1999/3000", 'ETag: "v7"']
    behind.on("/base/packed/4", answers.plain("206 Partial Content", part, BODY[:2000]))
    lines = [*wanting("gzip"), ("Range", "bytes=0-1999"), ("If-Range", '"v7~gzip"')]
    answer = ask(gateway.port, target="/packed/4", headers=lines)
    assert (answer.body, answer.get("Content-Encoding")) == (BODY[:2000], None)
    assert behind.of(answer).get("If-Range") == '"v7~gzip"'


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_a_slow_answer_comes_as_it_is_sent(gateway: Gateway, behind: Upstream, coding: str) -> None:
    """The service sends the second half when the client has read the first one."""
    read = threading.Event()

    def script(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n" % JSON.encode())
        peer.send(b"6\r\nfirst \r\n")
        assert read.wait(20)
        peer.send(b"6\r\nsecond\r\n0\r\n\r\n")

    behind.on("/base/packed/5", script)
    unpack, got, raw = reader(coding), b"", b""
    with RawClient(gateway.port) as client:
        wants = f"Accept-Encoding: {coding}\r\nConnection: close"
        client.send(f"GET /packed/5 HTTP/1.1\r\nHost: a\r\n{wants}\r\n\r\n".encode())
        while b"\r\n\r\n" not in raw:
            raw += client.receive()
        head, _, raw = raw.partition(b"\r\n\r\n")
        assert b"content-encoding: " + coding.encode() in head.lower()
        while got != b"first ":
            pieces, raw = chunks(raw)
            got += b"".join(map(unpack, pieces))
            raw += client.receive() if got != b"first " else b""
        read.set()
        pieces, _ = chunks(raw + client.rest())
        got += b"".join(map(unpack, pieces))
    assert got == b"first second"


def chunks(raw: bytes) -> tuple[list[bytes], bytes]:
    """The whole chunks, and what is left."""
    found = []
    while b"\r\n" in raw:
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        if len(rest) < length + 2 or not length:
            break
        found.append(rest[:length])
        raw = rest[length + 2 :]
    return found, raw


def test_a_long_answer_is_whole(gateway: Gateway, behind: Upstream) -> None:
    """Some megabytes, in chunks to a client of HTTP/1.1; what breaks off looks so."""
    body = bytes(range(256)) * 8192
    behind.on("/base/packed/6", answers.plain("200 OK", [JSON], body))
    answer = ask(gateway.port, target="/packed/6", headers=wanting("zstd"))
    assert UNPACK["zstd"](answer.body) == body
    assert answer.complete
    cut = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 100000\r\n\r\n" % JSON.encode()
    behind.on("/base/packed/7", answers.raw(cut, body[:70_000], end=answers.close))
    assert not ask(gateway.port, target="/packed/7", headers=wanting("gzip")).complete


def test_the_cache_keeps_the_plain_answer(gateway: Gateway, behind: Upstream) -> None:
    """One request of the service's serves all codings, and the conditions of each."""
    target = f"/stored/{gateway.edge}"
    behind.on(
        f"/base{target}",
        answers.plain("200 OK", [JSON, 'ETag: "v7"', "Cache-Control: max-age=60"], BODY),
    )
    before = came(behind, target)
    for coding in ("br", "gzip", "gzip"):
        answer = ask(gateway.port, target=target, headers=wanting(coding))
        assert UNPACK[coding](answer.body) == BODY
        lines = [*wanting(coding), ("If-None-Match", f'"v7~{coding}"')]
        again = ask(gateway.port, target=target, headers=lines)
        assert (again.status, again.get("ETag")) == (304, f'"v7~{coding}"')
    assert ask(gateway.port, target=target).body == BODY
    assert came(behind, target) == before + 1


def test_a_fixed_answer_is_compressed(gateway: Gateway) -> None:
    """A route that answers by itself."""
    answer = ask(gateway.port, target="/own", headers=wanting("gzip"))
    assert UNPACK["gzip"](answer.body) == b"own " * 1000


NOISE = random.Random(1).randbytes(450_000)


def packed(*codings: str) -> list[tuple[str, str]]:
    """The headers of a body that was packed by these, in this order."""
    return [("Content-Type", "application/json"), ("Content-Encoding", ", ".join(codings))]


@pytest.mark.parametrize(
    "codings", [("gzip",), ("X-GZip",), ("br",), ("zstd", "identity"), ("br", "gzip")]
)
def test_a_request_is_unpacked(
    gateway: Gateway, behind: Upstream, codings: tuple[str, ...]
) -> None:
    """The service gets the plain body with its length, and no word of the coding."""
    body = BODY
    for coding in codings:
        body = body if coding == "identity" else PACK[coding.lower().removeprefix("x-")](body)
    lines = [*packed(*codings), ("Content-MD5", "x"), ("Content-Digest", "sha-256=:x:")]
    answer = ask(gateway.port, "POST", "/unpacked", lines, body)
    got = behind.of(answer)
    assert (answer.status, bytes(got.body)) == (200, BODY)
    assert got.get("Content-Length") == str(len(BODY))
    assert not got.names & {"content-encoding", "content-md5", "content-digest"}
    assert (gateway.record(answer)["flags"], gateway.record(answer)["bytes_in"]) == (
        ["unpacked"],
        len(body),
    )


def test_a_large_request_streams(gateway: Gateway, behind: Upstream) -> None:
    """In chunks, since nobody knows its length; the client waits for the word to send it."""
    body = NOISE
    coded = PACK["gzip"](body)
    pieces = chunked(coded[:10], coded[10:5000], coded[5000:])
    with RawClient(gateway.port) as client:
        answer = client.send(post_chunked("/unpacked/large", pieces, packed("gzip"))).read()
    assert (answer.status, bytes(behind.of(answer).body)) == (200, body)
    assert behind.of(answer).get("Transfer-Encoding") == "chunked"
    plain = ask(gateway.port, "POST", "/unpacked/plain", [], body)
    assert (plain.status, bytes(behind.of(plain).body)) == (200, body)


@pytest.mark.parametrize(
    ("codings", "body", "status"),
    [
        (("gzip",), PACK["gzip"](bytes(501_000)), 413),
        (("gzip",), PACK["gzip"](bytes(480_000)), 413),  # more than a hundred times as long
        (("br",), PACK["br"](bytes(10_000_000)), 413),
        (("gzip", "gzip"), PACK["gzip"](PACK["gzip"](bytes(5_000_000))), 413),
        (("gzip",), PACK["gzip"](BODY)[:-9], 400),
        (("gzip",), b"plain", 400),
        (("zstd",), PACK["zstd"](BODY) + b"more", 400),
        (("compress",), BODY, 415),
        (("gzip",) * 3, BODY, 415),
    ],
)
def test_a_bad_request_never_reaches_the_service(
    gateway: Gateway, behind: Upstream, codings: tuple[str, ...], body: bytes, status: int
) -> None:
    """A bomb, a cut body, another coding: the service is not asked."""
    before = came(behind, "/unpacked/bad")
    answer = ask(gateway.port, "POST", "/unpacked/bad", packed(*codings), body)
    assert answer.status == status
    assert answer.get("Accept-Encoding") == ("gzip, deflate, br, zstd" if status == 415 else None)
    assert came(behind, "/unpacked/bad") == before


def test_a_long_body_that_goes_wrong_is_no_whole_one(gateway: Gateway, behind: Upstream) -> None:
    """The service has got a part by then; it sees that the rest is missing."""
    body = PACK["gzip"](NOISE)
    wrong = body[:-2000] + bytes(1000)
    answer = ask(gateway.port, "POST", "/unpacked/wrong", packed("gzip"), wrong)
    assert answer.status == 400
    assert all(one.target != b"/base/unpacked/wrong" or not one.complete for one in behind.requests)


def test_other_routes_pass_a_coding_on(gateway: Gateway, behind: Upstream) -> None:
    """As it is; and so does a request without a body."""
    coded = PACK["gzip"](BODY)
    answer = ask(gateway.port, "POST", "/other", packed("gzip"), coded)
    assert (bytes(behind.of(answer).body), behind.of(answer).get("Content-Encoding")) == (
        coded,
        "gzip",
    )
    assert ask(gateway.port, target="/unpacked", headers=packed("compress")).status == 200
