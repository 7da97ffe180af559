"""Which web pages may read an answer, and what their browsers are told beforehand (Fetch, 3.2)."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import AuthError, InvalidRequest
from propylon.proxy.cors import REPLACED, Cors, is_preflight
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.proxy.route import Route
from propylon.wire.headers import fields, tokens, values
from propylon.wire.message import Request
from tests.proxy.doubles import ENTROPY, Asked, Client, Counting, request, route, run, service

PAGE = b"https://app.example.com"
LISTED = Cors(frozenset({PAGE, b"http://localhost:3000"}))
BELOW = Cors(
    frozenset(), wildcards=((b"https://", b".example.com"), (b"http://", b".dev.test:8080"))
)
ANYBODY = Cors(frozenset(), any_origin=True)
ALLOW = b"access-control-allow-"
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110, 5.6.2


def asking(*origins: bytes, method: bytes = b"GET", lines: tuple[bytes, ...] = ()) -> Request:
    """A request from these origins."""
    return request(b"/a", *(b"Origin: " + origin for origin in origins), *lines, method=method)


def preflight(
    *origins: bytes, asked: tuple[bytes, ...] = (b"PUT",), headers: tuple[bytes, ...] = ()
) -> Request:
    """A browser's question whether it may."""
    lines = [b"Access-Control-Request-Method: " + method for method in asked]
    lines += [b"Access-Control-Request-Headers: " + names for names in headers]
    return asking(*(origins or (PAGE,)), method=b"OPTIONS", lines=tuple(lines))


def said(block: bytes) -> dict[bytes, bytes]:
    """The lines of a block; none of them twice."""
    found = [(name.lower(), value) for name, value in fields(block)]
    assert len(dict(found)) == len(found)
    return dict(found)


def allowed(cors: Cors, *origins: bytes) -> bytes | None:
    """Which origin may read the answer."""
    return said(cors.block(asking(*origins))).get(ALLOW + b"origin")


# Any answer


@pytest.mark.parametrize("origin", [PAGE, b"http://localhost:3000"])
def test_a_listed_origin(origin: bytes) -> None:
    """It is told itself, and caches are told that others are told something else."""
    assert said(LISTED.block(asking(origin))) == {ALLOW + b"origin": origin, b"vary": b"Origin"}


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.test",
        b"http://app.example.com",
        b"https://app.example.com:443",
        b"https://app.example.com:8443",
        b"https://app.example.com.evil.test",
        b"https://evilapp.example.com",
        b"https://example.com",
        b"https://app.example.com/",
        b"https://app.example.com ,https://evil.test",
        b"https://APP.example.com",
        b"HTTPS://app.example.com",
        b"https://app.example.co",
        b"http://localhost",
        b"null",
        b"*",
        b"",
    ],
)
@pytest.mark.parametrize("cors", [LISTED, Cors(LISTED.origins, credentials=True, exposed=b"X-A")])
def test_any_other_origin(cors: Cors, origin: bytes) -> None:
    """Nothing is allowed, and caches are told."""
    assert said(cors.block(asking(origin))) == {b"vary": b"Origin"}


@pytest.mark.parametrize(
    "origin",
    [b"https://a.example.com", b"https://a.b.example.com", b"http://x.dev.test:8080"],
)
def test_an_origin_below(origin: bytes) -> None:
    """`https://*.example.com`: any host below, by that scheme and on that port, told as itself."""
    assert allowed(BELOW, origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        b"https://example.com",
        b"https://.example.com",
        b"https://evilexample.com",
        b"https://example.com.evil.test",
        b"https://a.example.com.evil.test",
        b"https://a.example.com:8443",
        b"http://a.example.com",
        b"https://evil.test/.example.com",
        b"https://evil.test?.example.com",
        b"https://evil.test#.example.com",
        b"https://evil.test\\.example.com",
        b"https://user@evil.example.com",
        b"https://https://a.example.com",
        b"https://a.example.com, https://b.example.com",
        b"https://a.example.com https://b.example.com",
        b"https://a.example.com.",
        b"ftp://a.example.com",
        b"http://abc.example.com",
        b"xxxxxxxxabc.example.com",
        b"httpsx://a.example.com",
        b"http://x.dev.test",
        b"https://x.dev.test:8080",
        b"null",
        b".example.com",
        b"",
    ],
)
def test_not_below(origin: bytes) -> None:
    """Whatever only looks like it is somebody else's."""
    assert allowed(BELOW, origin) is None


@given(st.text("https:/.examplcov@#?\\ ,-\x7f", max_size=30))
def test_only_hosts_are_below(middle: str) -> None:
    """What stands in the place of the `*` is the beginning of a host's name, and nothing else."""
    origin = f"https://{middle}.example.com".encode()
    made = asking(PAGE)
    made.special[b"origin"] = [origin]
    if ALLOW + b"origin" in said(BELOW.block(made)):
        assert not set(middle) & set("/@#?\\ ,")
        assert middle
        assert not middle.startswith(".")


def test_two_origins_are_nobodys() -> None:
    """No browser sends them; whoever is the first of them is not told that it may."""
    for cors in (LISTED, BELOW):
        assert allowed(cors, PAGE, PAGE) is None
        assert allowed(cors, PAGE, b"https://evil.test") is None
        assert allowed(cors, b"https://evil.test", PAGE) is None


def test_no_origin() -> None:
    """A request that is no page's: nothing is allowed; caches are told that it hangs on the origin."""
    assert said(LISTED.block(asking())) == {b"vary": b"Origin"}


@pytest.mark.parametrize("origin", [PAGE, b"null", b"https://evil.test", b"anything"])
def test_anybody(origin: bytes) -> None:
    """`*` is the same for all, and never with credentials."""
    assert allowed(ANYBODY, origin) == b"*"
    assert ALLOW + b"credentials" not in said(ANYBODY.block(asking(origin)))


def test_caches_serve_everybody_alike() -> None:
    """What is kept from a request without an origin must do for a page (Fetch, 3.2.5): `*`, or Vary."""
    block = said(ANYBODY.block(asking()))
    assert block.get(ALLOW + b"origin") == b"*" or b"origin" in block.get(b"vary", b"").lower()


def test_null_where_it_is_listed() -> None:
    """Sandboxed pages and files are `null`, if somebody wants them."""
    assert allowed(Cors(frozenset({b"null"})), b"null") == b"null"


def test_credentials_and_exposed_headers() -> None:
    """Only for those who may read the answer."""
    cors = Cors(frozenset({PAGE}), credentials=True, exposed=b"X-Request-ID, X-Total")
    assert said(cors.block(asking(PAGE))) == {
        ALLOW + b"origin": PAGE,
        ALLOW + b"credentials": b"true",
        b"access-control-expose-headers": b"X-Request-ID, X-Total",
        b"vary": b"Origin",
    }


def test_what_an_upstream_says_is_replaced() -> None:
    """All of it where the gateway answers for it; what may be exposed is the upstream's to say, if not ours."""
    assert all(name == name.lower() for name in REPLACED)
    answers = {b"origin", b"credentials", b"methods", b"headers", b"private-network"}
    assert {ALLOW + name for name in answers} | {b"access-control-max-age"} == set(REPLACED)
    assert LISTED.replaced == REPLACED
    exposing = Cors(frozenset({PAGE}), exposed=b"X-A")
    assert set(exposing.replaced) - set(REPLACED) == {b"access-control-expose-headers"}


# Preflights


def test_what_a_preflight_is() -> None:
    """OPTIONS with an origin and the method that is asked for; all three."""
    method = b"Access-Control-Request-Method: GET"
    assert is_preflight(preflight())
    assert is_preflight(preflight(b"https://evil.test"))
    assert not is_preflight(asking(PAGE, method=b"OPTIONS"))
    assert not is_preflight(request(b"/a", method, method=b"OPTIONS"))
    for other in (b"GET", b"POST", b"HEAD"):
        assert not is_preflight(asking(PAGE, method=other, lines=(method,)))
    underscore = b"Access_Control_Request_Method: GET"
    assert not is_preflight(asking(PAGE, method=b"OPTIONS", lines=(underscore,)))


def test_a_preflight_of_a_listed_origin() -> None:
    """The methods of the route, the headers that were asked for, for as long as is written."""
    head = LISTED.preflight(preflight(headers=(b"x-a, X-B", b"authorization")), b"GET, PUT")
    assert head.status == 204
    block = said(head.block)
    # Browsers send and compare them in lower case.
    assert tokens([block.pop(ALLOW + b"headers")]) == [b"x-a", b"x-b", b"authorization"]
    assert block == {
        ALLOW + b"origin": PAGE,
        ALLOW + b"methods": b"GET, PUT",
        b"access-control-max-age": b"600",
        b"vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_a_preflight_of_what_is_written() -> None:
    """Methods and headers of the file stand above the route's and the browser's."""
    cors = Cors(frozenset({PAGE}), methods=b"GET", headers=b"X-Known", credentials=True, max_age=5)
    block = said(cors.preflight(preflight(headers=(b"x-other",)), b"GET, PUT").block)
    assert (block[ALLOW + b"methods"], block[ALLOW + b"headers"]) == (b"GET", b"X-Known")
    assert (block[ALLOW + b"credentials"], block[b"access-control-max-age"]) == (b"true", b"5")


def test_a_preflight_that_asks_for_no_header() -> None:
    """Nothing is said of headers."""
    assert ALLOW + b"headers" not in said(LISTED.preflight(preflight(), b"GET").block)


def test_a_preflight_of_any_other_origin() -> None:
    """204 that allows nothing: a browser goes no further, and nobody learns which origins may."""
    for origin in (b"https://evil.test", b"null", b""):
        head = LISTED.preflight(preflight(origin, headers=(b"x-a",)), b"GET")
        assert head.status == 204
        assert set(said(head.block)) == {b"vary"}


@pytest.mark.parametrize(
    "asked",
    [
        preflight(PAGE, PAGE),
        preflight(PAGE, b"https://evil.test"),
        preflight(asked=(b"GET", b"PUT")),
    ],
)
def test_a_preflight_that_asks_twice(asked: Request) -> None:
    """400: no browser does."""
    with pytest.raises(InvalidRequest):
        LISTED.preflight(asked, b"GET")


@given(st.lists(st.text("abcXYZ-, \t\"'<>()=;*\x80\xff", max_size=20), max_size=3))
def test_what_was_asked_for_makes_no_other_line(names: list[str]) -> None:
    """The names that come back are those that were sent, as far as they are names, in one line."""
    headers = tuple(name.encode("latin-1") for name in names)
    block = said(LISTED.preflight(preflight(headers=headers), b"GET").block)
    told = tokens([block.get(ALLOW + b"headers", b"")])
    assert told == [name for name in tokens(headers) if NAME.fullmatch(name)]


# In the life of a request


def handle(asked: Request, *routes: Route, cors: Cors | None = LISTED) -> tuple[Client, Exchange]:
    """Carry one request through a pipeline over these routes."""
    seen: list[Exchange] = []
    client = Client()
    pipeline = Pipeline(
        Table(routes, (), cors),
        (seen.append,),
        clock=Counting(),
        chance=lambda bits: ENTROPY,
    )
    run(pipeline.handle(asked, client))
    [exchange] = seen
    return client, exchange


def answer(client: Client) -> tuple[int, dict[bytes, bytes], bytes]:
    """The one answer: status, its header lines, body."""
    [(_, head, block, body)] = client.events
    return head.status, said(block), body


async def nobody(asked: Request, client: str) -> Principal:
    """A stage that lets nobody in."""
    raise AuthError("who?", headers=((b"WWW-Authenticate", b"Bearer"),))


def test_a_preflight_is_nobody_elses_business() -> None:
    """No token is asked for, no upstream is asked, no limit is touched; the record has its route."""
    up = Asked()

    async def limited(*_: Any) -> None:
        raise AssertionError

    to = route(of=service(up), authenticate=nobody, limit=limited, methods=frozenset({"PUT"}))
    client, exchange = handle(preflight(), to)
    status, block, body = answer(client)
    assert (status, body, up.got) == (204, b"", [])
    assert block[ALLOW + b"methods"] == b"PUT"
    assert block[b"x-request-id"] == exchange.request_id
    assert (exchange.route, exchange.status, exchange.flags) == (to, 204, ("preflight",))
    assert (exchange.error, exchange.attempts, exchange.permit) == (None, 0, None)


def test_a_preflight_for_all_routes_of_a_path() -> None:
    """What one of them serves is allowed; a WebSocket is no method of a page's request."""
    routes = (route(methods=frozenset({"PUT"})), route(methods=frozenset({"GET", "WEBSOCKET"})))
    block = answer(handle(preflight(asked=(b"DELETE",)), *routes)[0])[1]
    assert block[ALLOW + b"methods"] == b"GET, PUT, DELETE"  # the page will read the 405


@pytest.mark.parametrize("method", [b"GET", b"PROPFIND", b"patch"])
def test_a_preflight_for_no_path(method: bytes) -> None:
    """204: the browser sends the request then, and the page reads the 404."""
    client, exchange = handle(preflight(asked=(method,)), route("/other"))
    status, block, body = answer(client)
    assert (status, body, exchange.route) == (204, b"", None)
    assert block[ALLOW + b"origin"] == PAGE
    assert block[ALLOW + b"methods"] == method


def test_a_preflight_of_another_page_for_no_path() -> None:
    """404, and no permission."""
    status, block, body = answer(handle(preflight(b"https://evil.test"), route("/other"))[0])
    assert status == 404
    assert orjson.loads(body)["error"]["code"] == "NOT_FOUND"
    assert ALLOW + b"origin" not in block


def test_methods_of_the_file_limit_what_may_be_asked_for() -> None:
    """Then the operator has decided."""
    cors = Cors(frozenset({PAGE}), methods=b"GET, POST")
    for routes in ((route("/other"),), (route(),)):
        block = answer(handle(preflight(asked=(b"DELETE",)), *routes, cors=cors)[0])[1]
        assert block[ALLOW + b"methods"] == b"GET, POST"


@pytest.mark.parametrize("asked", [b"", b"GET PUT", b"G\xc3\x89T", b"GET,PUT"])
def test_what_is_no_method_is_not_repeated(asked: bytes) -> None:
    """It comes from the client."""
    block = said(LISTED.preflight(preflight(asked=(asked,)), b"").block)
    assert ALLOW + b"methods" not in block


def test_a_preflight_tells_what_may_be_read() -> None:
    """As the answers do (Kubernetes' conformance cases ask it of a preflight, too)."""
    cors = Cors(frozenset({PAGE}), exposed=b"X-A, X-B")
    block = said(cors.preflight(preflight(), b"GET").block)
    assert block[b"access-control-expose-headers"] == b"X-A, X-B"


@pytest.mark.parametrize(
    ("allowed", "sent", "expected"),
    [(True, b"true", True), (True, b"yes", False), (False, b"true", False), (True, b"", False)],
)
def test_a_private_network(allowed: bool, sent: bytes, expected: bool) -> None:
    """Only where the operator allows it, and only if the browser asks."""
    cors = Cors(frozenset({PAGE}), private_network=allowed)
    line = b"Access-Control-Request-Private-Network: " + sent
    asked = asking(
        PAGE,
        method=b"OPTIONS",
        lines=(b"Access-Control-Request-Method: GET", *((line,) if sent else ())),
    )
    block = said(cors.preflight(asked, b"GET").block)
    assert (block.get(ALLOW + b"private-network") == b"true") is expected


def test_a_refused_preflight() -> None:
    """Two origins: 400 that allows neither of them."""
    status, block, _ = answer(handle(preflight(PAGE, PAGE), route())[0])
    assert status == 400
    assert ALLOW + b"origin" not in block


def test_without_cors_a_preflight_is_a_request() -> None:
    """It is asked for its token, and reaches the upstream that answers for itself."""
    up = Asked()
    client, exchange = handle(preflight(), route(of=service(up), authenticate=nobody), cors=None)
    assert (answer(client)[0], up.got) == (401, [])
    client, exchange = handle(preflight(), route(of=service(up)), cors=None)
    assert (answer(client)[0], len(up.got), exchange.flags) == (200, 1, ())
    assert values(up.got[0][1], b"origin") == [PAGE]
    assert values(up.got[0][1], b"access-control-request-method") == [b"PUT"]


def test_a_page_may_read_answers_and_errors() -> None:
    """The lines stand on both, once, beside everything else."""
    status, block, _ = answer(handle(asking(PAGE), route())[0])
    assert (status, block[ALLOW + b"origin"], block[b"vary"]) == (200, PAGE, b"Origin")
    status, block, _ = answer(handle(asking(PAGE), route(authenticate=nobody))[0])
    assert (status, block[ALLOW + b"origin"]) == (401, PAGE)
    assert block[b"www-authenticate"] == b"Bearer"
    status, block, _ = answer(handle(asking(b"https://evil.test"), route(authenticate=nobody))[0])
    assert (status, ALLOW + b"origin" in block) == (401, False)


def test_a_body_that_could_not_be_read() -> None:
    """Its refusal is one that the page may read; a head that could not be read is nobody's."""
    for asked, expected in ((asking(PAGE), PAGE), (None, None)):
        client = Client()
        table = Table((), (), LISTED)
        pipeline = Pipeline(table, (), clock=Counting(), chance=lambda bits: ENTROPY)
        pipeline.reject(InvalidRequest("bad"), client, asked)
        assert answer(client)[1].get(ALLOW + b"origin") == expected


def test_the_upstream_sees_the_origin() -> None:
    """It may have its own reasons to look at it."""
    up = Asked()
    handle(asking(PAGE), route(of=service(up)))
    assert values(up.got[0][1], b"origin") == [PAGE]
