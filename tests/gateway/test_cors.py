"""CORS: pages of allowed origins may read the answers, errors too; nobody else's may, and no upstream decides."""

import pytest

from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.guarded import LOCAL, OFFICE, SHOP
from tests.support.tokens import authorized
from tests.support.topology import SMALL_BODY
from tests.support.upstream import Upstream

ALLOW = "access-control-allow-"


def words(answer: Answer, name: str) -> set[str]:
    """The comma-separated words of a header, in lower case."""
    values = b",".join(answer.all(name)).decode("latin-1")
    return {word.strip().lower() for word in values.split(",") if word.strip()}


def preflight(
    gateway: Gateway,
    target: str,
    origin: str = SHOP,
    method: str = "GET",
    headers: str = "authorization",
) -> Answer:
    """Ask as a browser does before it sends what is not simple: without a token."""
    sent = [("Origin", origin), ("Access-Control-Request-Method", method)]
    if headers:
        sent.append(("Access-Control-Request-Headers", headers))
    return ask(gateway.port, "OPTIONS", target, sent)


def check_allowed(answer: Answer, origin: str = SHOP) -> None:
    """Assert that a page of that origin may read the answer, with its cookies."""
    assert answer.get(ALLOW + "origin") == origin, answer.head
    assert answer.get(ALLOW + "credentials") == "true"
    assert "origin" in words(answer, "vary")


def check_not_allowed(answer: Answer) -> None:
    """Assert that no page may read it."""
    names = [name.lower() for name, _ in answer.headers]
    assert [name for name in names if name.startswith(ALLOW.encode())] == []


@pytest.mark.parametrize("origin", [SHOP, OFFICE, LOCAL])
@pytest.mark.parametrize("target", ["/open", "/locked", "/livez", "/health"])
def test_allowed_origin(guarded: Gateway, behind: Upstream, target: str, origin: str) -> None:
    """Each allowed origin gets itself back, on proxied routes and on the gateway's own endpoints."""
    answer = ask(guarded.port, target=target, headers=[("Origin", origin), *authorized()])
    assert answer.status == 200
    check_allowed(answer, origin)
    assert words(answer, "access-control-expose-headers") == {"x-total"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.test",
        "https://shop.example.evil.test",
        "https://evilshop.example",
        "https://evil.test/https://shop.example",
        "https://shopxexample",
        "https://shop.example:443",
        "https://shop.example:8443",
        "https://shop.example/",
        "https://shop.example/x",
        "https://shop.example?x",
        "https://shop.example.",
        "https://shop.example@evil.test",
        "https://user@shop.example",
        "https://shop.example%2eevil.test",
        "https://shop.example%00",
        "https://shop.example, https://evil.test",
        "https://evil.test, https://shop.example",
        "https://shop.example https://evil.test",
        "https://a.shop.example",
        "http://shop.example",
        "shop.example",
        "//shop.example",
        "https://office.example",
        "https://office.example:84433",
        "http://localhost",
        "http://localhost:3001",
        "http://localhost:30000",
        "http://localhost:3000.evil.test",
        "null",
        "",
        "*",
        "file://",
        "data:",
    ],
)
def test_other_origin(guarded: Gateway, behind: Upstream, origin: str) -> None:
    """Any other origin, however like an allowed one, is answered as ever, and may not read it."""
    answer = ask(guarded.port, target="/open", headers=[("Origin", origin)])
    assert answer.status == 200
    check_not_allowed(answer)
    assert "origin" in words(answer, "vary")
    check_not_allowed(preflight(guarded, "/locked", origin))
    assert len(behind.requests) == 1


@pytest.mark.parametrize("origin", ["HTTPS://SHOP.EXAMPLE", "https://Shop.Example"])
def test_origin_in_capitals_is_not_echoed(guarded: Gateway, behind: Upstream, origin: str) -> None:
    """No browser spells an origin so; what is sent back is an origin of the file, or nothing."""
    answer = ask(guarded.port, target="/open", headers=[("Origin", origin)])
    assert answer.get(ALLOW + "origin") in (None, SHOP)


@pytest.mark.parametrize(
    "origins", [(SHOP, "https://evil.test"), ("https://evil.test", SHOP), (SHOP, SHOP), (SHOP, "")]
)
def test_two_origins_are_none(guarded: Gateway, behind: Upstream, origins: tuple[str, str]) -> None:
    """A request with two Origin headers belongs to no page."""
    sent = [("Origin", origin) for origin in origins]
    check_not_allowed(ask(guarded.port, target="/open", headers=sent))
    sent.append(("Access-Control-Request-Method", "GET"))
    check_not_allowed(ask(guarded.port, "OPTIONS", "/locked", sent))


def test_without_origin_nothing_is_allowed(guarded: Gateway, behind: Upstream) -> None:
    """A request without an Origin gets no CORS headers, and caches learn what the answer hangs on."""
    answer = ask(guarded.port, target="/open")
    check_not_allowed(answer)
    assert "origin" in words(answer, "vary")


@pytest.mark.parametrize("target", ["/locked", "/read", "/clerks", "/open", "/api/v1/users/me"])
def test_preflight_needs_no_token(guarded: Gateway, behind: Upstream, target: str) -> None:
    """A preflight of an allowed origin is answered here, without a token, and not forwarded."""
    answer = preflight(guarded, target, headers="authorization, x-custom")
    assert answer.status in (200, 204)
    assert answer.body == b""
    check_allowed(answer)
    assert "get" in words(answer, ALLOW + "methods")
    assert {"authorization", "x-custom"} <= words(answer, ALLOW + "headers")
    assert answer.get("access-control-max-age") == "600"
    assert behind.raw == b""


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PROPFIND"])
def test_preflight_allows_what_the_route_allows(
    guarded: Gateway, behind: Upstream, method: str
) -> None:
    """And what was asked for: the page then reads the 405, and no "CORS error"."""
    answer = preflight(guarded, "/few", method=method)
    assert answer.status == 204
    assert words(answer, ALLOW + "methods") == {"get", "post", method.lower()}
    assert behind.raw == b""
    headers = [("Origin", SHOP), *authorized()]
    sent = ask(guarded.port, method, "/few", headers)
    assert sent.status == (200 if method in {"GET", "POST"} else 405)
    check_allowed(sent)


def test_preflight_joins_the_routes_of_a_path(guarded: Gateway, behind: Upstream) -> None:
    """Where several routes share a path, a preflight allows what any of them serves."""
    assert {"get", "post", "put"} <= words(preflight(guarded, "/table"), ALLOW + "methods")
    assert "delete" not in words(preflight(guarded, "/table"), ALLOW + "methods")


@pytest.mark.parametrize("target", ["/nowhere", "/", "/lockedx"])
def test_preflight_of_no_path(guarded: Gateway, behind: Upstream, target: str) -> None:
    """A preflight for a path of nobody reaches nobody; the page then reads the 404."""
    answer = preflight(guarded, target)
    assert answer.status == 204
    check_allowed(answer)
    sent = ask(guarded.port, target=target, headers=[("Origin", SHOP)])
    assert sent.status == 404
    check_allowed(sent)
    assert behind.raw == b""


@pytest.mark.parametrize(
    "headers",
    ["", " ", ",", "x-a,,x-b", "x y", 'a"b', "<script>", "x-a\tx-b", "*", "x" * 3000, "\xe9"],
)
def test_preflight_with_odd_headers(guarded: Gateway, behind: Upstream, headers: str) -> None:
    """Whatever names are asked for, what is sent back is a list of names."""
    answer = preflight(guarded, "/locked", headers=headers)
    assert answer.status in (200, 204, 400)
    token = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
    assert all(set(word) <= token for word in words(answer, ALLOW + "headers"))
    assert behind.raw == b""


def test_options_that_is_no_preflight_needs_a_token(guarded: Gateway, behind: Upstream) -> None:
    """OPTIONS without Origin or without the method it asks for is a request like any other."""
    for headers in (
        [],
        [("Origin", SHOP)],
        [("Access-Control-Request-Method", "GET")],
        [("Origin", ""), ("Access-Control-Request-Method", "GET")],
    ):
        answer = ask(guarded.port, "OPTIONS", "/locked", headers)
        # What begins like a preflight of nobody may be answered here, too; it opens nothing.
        assert answer.status in ((401,) if len(headers) < 2 else (200, 204, 401, 403))
    assert behind.raw == b""
    answer = ask(guarded.port, "OPTIONS", "/locked", [("Origin", SHOP), *authorized()])
    assert (answer.status, behind.last.method) == (200, "OPTIONS")
    check_allowed(answer)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_only_options_is_a_preflight(guarded: Gateway, behind: Upstream, method: str) -> None:
    """Another method does not get past without a token by looking like a preflight."""
    headers = [("Origin", SHOP), ("Access-Control-Request-Method", "GET")]
    answer = ask(guarded.port, method, "/locked", headers)
    assert answer.status == 401
    check_allowed(answer)
    assert behind.raw == b""


ERRORS = [
    ("GET", "/locked", 401),
    ("GET", "/read", 403),
    ("GET", "/nowhere", 404),
    ("DELETE", "/few", 405),
    ("POST", "/small", 413),
    ("GET", "/closed", 502),
    ("GET", "/nohost", 502),
    ("GET", "/empty", 503),
    ("GET", "/hasty", 504),
]


@pytest.mark.parametrize(("method", "target", "status"), ERRORS)
def test_page_may_read_errors(
    guarded: Gateway, behind: Upstream, method: str, target: str, status: int
) -> None:
    """Errors of the gateway bear the CORS headers too: a page must see 401 to ask for a login."""
    behind.on("/hasty", answers.hang)
    headers = [("Origin", SHOP), *(authorized() if status == 403 else [])]
    body = b"x" * (SMALL_BODY + 1) if status == 413 else b""
    answer = ask(guarded.port, method, target, headers, body)
    assert answer.status == status
    check_allowed(answer)
    if status in (404, 401):
        check_not_allowed(ask(guarded.port, method, target, [("Origin", "https://evil.test")]))


SAID = [
    "Access-Control-Allow-Origin: *",
    "access-control-allow-credentials: true",
    "Access-Control-Allow-Methods: DELETE",
    "Access-Control-Allow-Headers: X-Upstream",
    "Access-Control-Expose-Headers: X-Upstream",
    "Access-Control-Max-Age: 99999",
    "Vary: Accept-Encoding",
    "X-Kept: 1",
]


@pytest.mark.parametrize("origin", [SHOP, "https://evil.test", ""])
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oops"])
def test_upstream_does_not_decide(
    guarded: Gateway, behind: Upstream, origin: str, status: str
) -> None:
    """What an upstream says of CORS is replaced by what the file says, or removed; the rest stays."""
    behind.on("/open/cors", answers.plain(status, headers=SAID))
    headers = [("Origin", origin)] if origin else []
    answer = ask(guarded.port, target="/open/cors", headers=headers)
    if origin == SHOP:
        check_allowed(answer)
        assert words(answer, "access-control-expose-headers") == {"x-total"}
    else:
        check_not_allowed(answer)
        assert answer.all("access-control-expose-headers") == []
    assert words(answer, "vary") == {"accept-encoding", "origin"}
    assert answer.get("x-kept") == "1"


def test_upstream_sees_the_origin(guarded: Gateway, behind: Upstream) -> None:
    """Origin passes: an upstream may have its own reasons to look at it."""
    ask(guarded.port, target="/open", headers=[("Origin", SHOP)])
    assert behind.last.get("origin") == SHOP


def test_answers_on_one_connection_differ(guarded: Gateway, behind: Upstream) -> None:
    """Every answer is for the origin of its own request, not for one that came before."""
    said = []
    with RawClient(guarded.port) as client:
        for origin in (SHOP, "https://evil.test", OFFICE, None, SHOP):
            headers = [] if origin is None else [("Origin", origin)]
            answer = client.send(request(target="/open", headers=headers)).read()
            said.append(answer.get(ALLOW + "origin"))
    assert said == [SHOP, None, OFFICE, None, SHOP]


@pytest.mark.parametrize("origin", ["https://anything.example", "null", SHOP])
def test_every_origin(loose: Gateway, origin: str) -> None:
    """With `*` every page may read the answers, none of them with its cookies."""
    answer = ask(loose.port, target="/open", headers=[("Origin", origin)])
    assert answer.get(ALLOW + "origin") == "*"
    assert answer.get(ALLOW + "credentials") is None
    refused = ask(loose.port, target="/locked", headers=[("Origin", origin)])
    assert (refused.status, refused.get(ALLOW + "origin")) == (401, "*")


def test_lists_of_the_file(loose: Gateway) -> None:
    """Methods and headers that the file lists are the ones that a preflight allows."""
    answer = preflight(loose, "/locked", "https://any.example", "POST", "x-known, x-other")
    assert answer.status in (200, 204)
    assert words(answer, ALLOW + "methods") == {"get", "post"}
    assert words(answer, ALLOW + "headers") == {"x-known"}
    assert answer.get("access-control-max-age") == "60"
    assert answer.get(ALLOW + "origin") == "*"
