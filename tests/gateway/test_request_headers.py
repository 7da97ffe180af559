"""What the upstream is told about a request, and what it never hears of."""

import re

import pytest

from tests.support import answers
from tests.support.client import RawClient, ask, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

NEW_ID = re.compile(r"[A-Za-z0-9._~+/=-]{16,128}")
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def test_forwarding_headers_are_the_gateways(gateway: Gateway, up: Upstream) -> None:
    """Host is the upstream's own; who asked, how and for whom stands in X-Forwarded-*."""
    ask(gateway.port, host="shop.example:8080")
    assert up.last.get("host") == f"127.0.0.1:{up.port}"
    assert up.last.get("x-forwarded-for") == "127.0.0.1"
    assert up.last.get("x-forwarded-proto") == "http"
    assert up.last.get("x-forwarded-host") == "shop.example:8080"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
def test_untrusted_forwarded_headers_are_replaced(
    gateway: Gateway, up: Upstream, name: str
) -> None:
    """A client may say what it likes in X-Forwarded-*: it is replaced, not appended to."""
    lies = [
        (name, "6.6.6.6"),
        (name, "7.7.7.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.net"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/evil"),
    ]
    ask(gateway.port, headers=lies)
    assert up.last.get("x-forwarded-for") == "127.0.0.1"
    assert up.last.get("x-forwarded-proto") == "http"
    assert up.last.get("x-forwarded-host") == "gw.test"
    assert b"6.6.6.6" not in up.raw
    assert b"evil" not in up.raw


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-User-Id",
        "x-user-id",
        "X-USER-ROLES",
        "X-User-Scopes",
        "X-User-Email",
        "X_User_Id",
        "X-User_Id",
        "X-Client-Cert-Subject",
        "x-client-cert-anything",
        "X_Client_Cert_Subject",
        "X-Client_Cert-Issuer",
        "X_Forwarded_For",
        "X_Real_IP",
        "X_Request_ID",
        "Content_Length",
        "Transfer_Encoding",
        "X_Forwarded_Host",
        "X_HTTP_Method_Override",
        "Transfer---Encoding",
        "Content.Length",
        "x.user.id",
        "XUserId",
        "X-User--Id",
        "X~Forwarded~For",
        "Trans-fer-Encoding",
    ],
)
def test_identity_of_a_clients_own_making_is_removed(
    gateway: Gateway, up: Upstream, name: str
) -> None:
    """Headers that only the gateway may set are removed, in any case and with any other characters between the letters."""
    status = ask(gateway.port, headers=[(name, "root666")]).status
    assert status == 200
    assert b"root666" not in up.raw


def test_hop_by_hop_headers_stay_here(gateway: Gateway, up: Upstream) -> None:
    """Hop-by-hop headers, and whatever Connection names, do not reach the upstream."""
    hop = [
        ("Connection", "x-foo, keep-alive"),
        ("X-Foo", "named"),
        ("Connection", "X-Bar"),
        ("x-bar", "named"),
        ("TE", "trailers, gzip"),
        ("Trailer", "X-T"),
        ("Keep-Alive", "timeout=9"),
        ("Proxy-Authorization", "Basic named"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Kept", "yes"),
    ]
    assert ask(gateway.port, headers=hop).status == 200
    gone = {
        "x-foo",
        "x-bar",
        "te",
        "trailer",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
    }
    assert up.last.names & gone == set()
    assert b"named" not in up.raw
    assert up.last.get("x-kept") == "yes"


@pytest.mark.parametrize("value", ["websocket", "h2c", "foo", "TLS/1.0", "h2c, websocket"])
def test_upgrade_is_not_forwarded(gateway: Gateway, up: Upstream, value: str) -> None:
    """Upgrade and what belongs to it never reach an upstream of an ordinary route."""
    headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", value),
        ("HTTP2-Settings", "AAMAAABk"),
    ]
    answer = ask(gateway.port, headers=headers)
    assert answer.status != 101
    assert b"pgrade" not in up.raw
    assert b"HTTP2" not in up.raw


@pytest.mark.parametrize(
    "named",
    [
        "X-Request-ID",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Host",
        "traceparent",
        "X-Set",
    ],
)
def test_connection_cannot_remove_what_the_gateway_sets(
    gateway: Gateway, up: Upstream, named: str
) -> None:
    """Naming the gateway's own headers in Connection does not keep them from the upstream."""
    up.on("/rules", answers.plain())
    assert (
        ask(gateway.port, target="/rules", headers=[("Connection", f"{named}, close")]).status
        == 200
    )
    assert up.last.get(named)


@pytest.mark.parametrize(
    "named", ["Authorization", "Cookie", "Content-Length", "Transfer-Encoding"]
)
def test_connection_cannot_unframe_a_request(gateway: Gateway, up: Upstream, named: str) -> None:
    """Naming a framing header in Connection leaves the body framed; secrets may go, or not."""
    headers = [("Connection", named), ("Authorization", "Bearer t"), ("Cookie", "a=b")]
    answer = ask(gateway.port, "POST", "/up/x", headers, b"body")
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert bytes(up.last.body) == b"body"


def test_repeated_header_stays_repeated(gateway: Gateway, up: Upstream) -> None:
    """Two headers of one name arrive as two, in their order."""
    ask(gateway.port, headers=[("X-A", "1"), ("X-B", "b"), ("X-A", "2"), ("x-a", "3, 4")])
    assert up.last.all("x-a") == [b"1", b"2", b"3, 4"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Cookie", "a=b; c=d"),
        ("Accept", "text/html;q=0.9, */*"),
        ("Accept-Encoding", "gzip, br"),
        ("Authorization", "Bearer abc"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", '"x"'),
        ("Content-Type", "text/plain"),
        ("Origin", "https://a.example"),
        ("X-Empty", ""),
        ("X-Long", "v" * 4000),
        ("X-Latin", "caf\xe9"),
        ("X-Tab", "a\tb"),
        ("X_custom", "kept"),
    ],
)
def test_other_header_passes_as_it_is(
    gateway: Gateway, up: Upstream, name: str, value: str
) -> None:
    """Everything without a meaning for a gateway passes, its value byte for byte."""
    ask(gateway.port, headers=[(name, value)])
    assert up.last.all(name) == [value.encode("latin-1")]


def test_names_keep_their_spelling(gateway: Gateway, up: Upstream) -> None:
    """A header's name reaches the upstream as the client spelled it."""
    ask(gateway.port, headers=[("X-ODD-Case", "1")])
    names = [name for name, _ in up.last.headers]
    if excused(gateway.edge, "spelling"):
        names = [name.lower() for name in names]
        assert b"x-odd-case" in names
    else:
        assert b"X-ODD-Case" in names


def test_route_sets_and_removes_headers(gateway: Gateway, up: Upstream) -> None:
    """A route's header rules hold both ways, whatever was sent."""
    sent = ["X-Answer-Set: upstream", "X-Answer-Gone: 1", "X-Answer-Kept: 1"]
    up.on("/rules/x", answers.plain(headers=sent))
    answer = ask(gateway.port, target="/rules/x", headers=[("X-Set", "client"), ("X-Gone", "1")])
    assert (up.last.get("x-set"), up.last.get("x-gone")) == ("by-gateway", None)
    assert (answer.get("x-answer-set"), answer.get("x-answer-gone")) == ("by-gateway", None)
    assert answer.get("x-answer-kept") == "1"


def test_forward_token_false_keeps_the_token_here(gateway: Gateway, up: Upstream) -> None:
    """A service with forward_token: false never sees Authorization."""
    assert (
        ask(gateway.port, target="/tokenless", headers=[("Authorization", "Bearer s3cr3t")]).status
        == 200
    )
    assert b"s3cr3t" not in up.raw


def test_request_id_is_made(gateway: Gateway, up: Upstream) -> None:
    """Without X-Request-ID a fresh one reaches client and upstream, another for each request."""
    ids = []
    for _ in range(3):
        answer = ask(gateway.port)
        ids.append(answer.get("x-request-id") or "")
        assert up.last.get("x-request-id") == ids[-1]
    assert all(NEW_ID.fullmatch(made) for made in ids)
    assert len(set(ids)) == 3


@pytest.mark.parametrize("identity", ["abc-123", "a", "A.b_c~d+e/f=-", "x" * 128])
def test_request_id_of_the_client_is_kept(gateway: Gateway, up: Upstream, identity: str) -> None:
    """A sane X-Request-ID is the same in the answer, at the upstream and in the log."""
    answer = ask(gateway.port, headers=[("X-Request-ID", identity)])
    assert answer.get("x-request-id") == identity
    assert up.last.get("x-request-id") == identity
    assert gateway.records(identity)


@pytest.mark.parametrize(
    "identity", ["x" * 129, "a b", "caf\xe9", "", "a,b", "<script>", 'a"b', "a;b", "{x}", "a\tb"]
)
def test_odd_request_id_is_replaced(gateway: Gateway, up: Upstream, identity: str) -> None:
    """An X-Request-ID that is too long or holds other characters is replaced."""
    answer = ask(gateway.port, headers=[("X-Request-ID", identity)])
    made = answer.get("x-request-id") or ""
    assert made != identity
    assert NEW_ID.fullmatch(made)
    assert up.last.get("x-request-id") == made


def test_two_request_ids_are_one(gateway: Gateway, up: Upstream) -> None:
    """Of two X-Request-ID headers at most one survives, the same one everywhere."""
    answer = ask(gateway.port, headers=[("X-Request-ID", "one"), ("x-request-id", "two")])
    assert up.last.get("x-request-id") == answer.get("x-request-id")


def test_request_id_cannot_break_the_head(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """CR or LF inside a request id never become a header of their own."""
    client.send(b"GET /up/x HTTP/1.1\r\nHost: gw.test\r\nX-Request-ID: a\rX-Evil: 1\r\n\r\n")
    assert client.read().status == 400
    assert b"Evil" not in up.raw


def test_trace_is_begun(gateway: Gateway, up: Upstream) -> None:
    """Without a traceparent the upstream gets a new one."""
    ask(gateway.port)
    assert TRACEPARENT.fullmatch(up.last.get("traceparent") or "")


def test_trace_is_continued(gateway: Gateway, up: Upstream) -> None:
    """A client's trace goes on, with a span of ours, and tracestate with it."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    ask(gateway.port, headers=[("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "a=b")])
    sent = (up.last.get("traceparent") or "").split("-")
    assert (sent[0], sent[1], sent[3]) == ("00", trace, "01")
    assert sent[2] != span
    assert up.last.get("tracestate") == "a=b"


@pytest.mark.parametrize(
    "value",
    [
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "garbage",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ],
)
def test_invalid_trace_is_replaced(gateway: Gateway, up: Upstream, value: str) -> None:
    """A traceparent that is none is replaced by a new trace."""
    ask(gateway.port, headers=[("traceparent", value)])
    sent = up.last.get("traceparent") or ""
    assert TRACEPARENT.fullmatch(sent)
    assert sent[3:35] not in (value[3:35].lower(), "0" * 32)


def test_cookies_of_one_client_never_reach_another(gateway: Gateway, up: Upstream) -> None:
    """A cookie that an upstream sets for one client is not sent for another one."""
    up.on("/login", answers.plain(headers=["Set-Cookie: session=alice"]))
    first = ask(gateway.port, target="/up/login")
    assert first.get("set-cookie") == "session=alice"
    ask(gateway.port, target="/up/other")
    assert "cookie" not in up.last.names


def test_http_1_0_request_without_host_is_served(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """HTTP/1.0 knows no Host: such a request is served, closed after, and is 1.1 upstream."""
    answer = client.send(b"GET /up/x HTTP/1.0\r\n\r\n").read()
    assert answer.status == 200
    assert not answer.chunked
    assert client.is_closed()
    assert up.last.head.startswith(b"GET /x HTTP/1.1\r\n")
    assert up.last.get("host") == f"127.0.0.1:{up.port}"


def test_connection_close_is_obeyed(gateway: Gateway, up: Upstream, client: RawClient) -> None:
    """`Connection: close` ends the client's connection and not the upstream's."""
    answer = client.send(request(headers=[("Connection", "close")])).read()
    assert answer.status == 200
    assert "close" in (answer.get("connection") or "close").lower()
    assert client.is_closed()
    assert (up.last.get("connection") or "").lower() != "close"
