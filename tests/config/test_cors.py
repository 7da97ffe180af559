"""Which origins may be written, and as what they are understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.config.models.origins import check_origin
from propylon.config.models.schema import CorsConfig
from tests.config.texts import loaded, problems


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.Example.com:8443", "https://*.example.com:8443"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("*", "*"),
    ],
)
def test_an_origin_is_understood_as_browsers_send_it(written: str, sent: str) -> None:
    """In lower case, and without the port that goes without saying."""
    assert loaded(f"cors: {{origins: ['{written}']}}").config.cors.origins == (sent,)


PASSWORD = "must be an origin without a user and a password"
NULL = '"null" is the origin of all sandboxed pages, an attacker\'s too; write real origins'
NONE = "must be an origin, a scheme and a host: https://app.example.com"
WEBSOCKET = "WEBSOCKET cannot stand here: CORS does not apply to WebSockets; take it out"
STAR = ": a * stands alone for every origin, or as the first label of a host: https://*.example.com"
ONE_PROBLEM = {
    "https://a.example/": "must be an origin, without a path: write https://a.example",
    "https://A.example:443/x?y": "must be an origin, without a path: write https://a.example",
    "null": NULL,
    "NULL": NULL,
    "a.example": NONE,
    "//a.example": NONE,
    "https://": NONE,
    "file:///etc": NONE,
    "https://*.com": "*.com is a whole top-level domain; write one label more: *.example.com",
    "https://*": '"*"' + STAR,
    "https://a.*.example": '"a.*.example"' + STAR,
    "https://*a.example": '"*a.example"' + STAR,
    "https://*.*.example": '"*.example"' + STAR,
    "http://localhost:*": 'must have a number as its port, or no port; "*" is not supported there',
    "http://localhost:": '"" is no port: a number from 1 to 65535',
    "http://localhost:99999": '"99999" is no port: a number from 1 to 65535',
    "https://u:p@a.example": PASSWORD,
    "https://u@a.example/x": PASSWORD,
    "u:p@a.example": PASSWORD,
    "https://bücher.example": '"bücher.example" must be written as browsers send it, in ASCII'
    " (xn--...)",
    "https://a b": '"a b" is no host name',
}


@pytest.mark.parametrize(("origin", "message"), ONE_PROBLEM.items())
def test_what_is_no_origin(origin: str, message: str) -> None:
    """Each mistake is told with what to write instead, at its place in the list."""
    text = f"cors:\n  origins:\n    - https://fine.example\n    - '{origin}'\n"
    assert [f"propylon.yaml:4 cors.origins[1]: {message}"] == problems(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "origins: '*', credentials: true",
            "origins: '*' and `credentials: true` exclude each other: list the origins one by one",
        ),
        (
            "origins: ['*', 'https://a.example']",
            "origins: '*' is every origin; leave the others out, or take it out",
        ),
        (
            "expose: ['*'], credentials: true",
            "expose: with `credentials: true` '*' means nothing: list the headers one by one",
        ),
        ("methods: [get]", "methods[0]: methods are written in upper case: GET"),
        ("methods: [TRACE]", "methods[0]: TRACE is never forwarded"),
        (
            "methods: [WEBSOCKET]",
            f"methods[0]: {WEBSOCKET}",
        ),
        ("headers: ['X A']", 'headers[0]: "X A" is no name of a header'),
        ("headers: X-A", "headers: must be a list, not text; put it in [ ]"),
        ("expose: [1]", "expose[0]: must be text, not a number; put it in quotes"),
        (
            "max_age: -1",
            "max_age: must be a duration of zero or more, and at most a century",
        ),
        ("origin: '*'", 'origin: unknown key; did you mean "origins"?'),
    ],
)
def test_what_would_not_do(written: str, expected: str) -> None:
    """Each mistake is one problem."""
    assert [f"propylon.yaml:1 cors.{expected}"] == problems(f"cors: {{{written}}}")


def test_all_methods_and_headers_may_be_a_star() -> None:
    """What other frameworks call "*" is what not saying it means here; of methods, the answer then names one."""
    written = "cors: {origins: [https://a.example], methods: ['*'], headers: '*', expose: [X-A]}"
    assert loaded(written).config.cors == CorsConfig(
        origins=("https://a.example",), methods=("*",), expose=("X-A",)
    )
    assert CorsConfig(headers=("X-A", "*")) == CorsConfig()


def test_nothing_said_is_no_cors() -> None:
    """No origins, no credentials, ten minutes."""
    cors = loaded("").config.cors
    assert (cors.origins, cors.methods, cors.headers, cors.expose) == ((), (), (), ())
    assert (cors.credentials, cors.max_age) == (False, 600.0)


@given(st.text(max_size=30) | st.from_regex(r"[a-z]{1,5}://[a-zA-Z0-9.:/*@\[\]-]{0,20}"))
def test_any_text_is_an_origin_or_a_sentence(text: str) -> None:
    """Whatever is written, what is accepted is accepted again as it is understood."""
    try:
        origin = check_origin(text)
    except ValueError as error:
        assert str(error)
    else:
        assert check_origin(origin) == origin
        assert origin == origin.lower().strip()


def test_preflights_that_the_gateway_answers_cannot_pass() -> None:
    """With origins, the gateway answers all of them; without, a route may let them pass."""
    route = "services: {a: {url: http://a}}\nroutes: [{path: /a, service: a, auth: none, preflight: pass}]"
    assert loaded(route).config.routes[0].preflight == "pass"
    (problem,) = problems(f"cors: {{origins: [https://a.example]}}\n{route}")
    assert "routes[0].preflight: no preflight can pass" in problem


ROUTE = "services: {a: {url: http://a}}\nroutes: [{path: /a, service: a, auth: none, cors: %s}]"
OWN = {
    "{max_age: 1h}": "3 routes[0].cors: needs origins: it replaces the whole of the gateway's cors; write none for a route"
    " without CORS",
    "{origins: []}": "3 routes[0].cors: needs origins",
    "{origins: ['*'], credentials: true}": "3 routes[0].cors.origins: '*' and `credentials: true`",
    "{origins: [x]}": "3 routes[0].cors.origins[0]: must be an origin",
    "true": "3 routes[0].cors: must be a mapping of keys to values",
    "maybe": "3 routes[0].cors: must be a mapping of keys to values",
}


@pytest.mark.parametrize(("written", "said"), OWN.items())
def test_the_cors_of_a_route_is_checked(written: str, said: str) -> None:
    """As the section is; and it must say which origins."""
    (problem,) = problems("cors: {origins: ['https://a.example']}\n" + ROUTE % written)
    assert problem.startswith(f"propylon.yaml:{said}"), problem


@pytest.mark.parametrize("written", ["none", "off", "false"])
def test_a_route_without_cors(written: str) -> None:
    """It is no mapping, and no origins are in it."""
    (route,) = loaded("cors: {origins: ['https://a.example']}\n" + ROUTE % written).config.routes
    assert route.cors is not None
    assert route.cors.origins == ()
    (usual,) = loaded(ROUTE % "").config.routes
    assert usual.cors is None


@pytest.mark.parametrize(
    ("everywhere", "own", "fine"),
    [("https://a.example", "none", True), ("", "{origins: ['https://b.example']}", False)],
)
def test_preflights_pass_where_the_route_has_no_cors(
    everywhere: str, own: str, *, fine: bool
) -> None:
    """What holds on the route decides, and not what is written for the others."""
    text = f"cors: {{origins: [{everywhere}]}}\n" + ROUTE % f"{own}, preflight: pass"
    if fine:
        assert loaded(text).config.routes[0].preflight == "pass"
    else:
        assert "no preflight can pass: with cors the gateway answers" in problems(text)[0]


def test_cors_is_no_default() -> None:
    """The section holds for all routes already."""
    text = "defaults: {cors: {origins: ['https://a.example']}}\n" + ROUTE % ""
    assert problems(text) == [
        "propylon.yaml:1 defaults.cors: belongs to one route, and has no default"
    ]


@pytest.mark.parametrize("written", ["'*'", "['*']", "[GET, '*']"])
def test_any_method(written: str) -> None:
    """A star is every method, and needs no others."""
    assert loaded(f"cors: {{methods: {written}}}").config.cors.methods == ("*",)
