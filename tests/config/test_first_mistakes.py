"""Mistakes of the first hour: each has a message that says what to write instead."""

from pathlib import Path

import pytest

from propylon.config.reading.load import load
from tests.config.texts import SECRET, SERVICES, doubts, loaded, problems, route

REGEX = (
    "looks like a regular expression, and a route has none; write the path that the requests begin with,"
    " and {name} for a segment that varies"
)
BELOW = "to match everything below it, and %2A for a star"
PATTERNS = {
    "/a/*": f'"/a/*" matches a literal "*"; write "/a" {BELOW}',
    "/a/**": f'"/a/**" matches a literal "*"; write "/a" {BELOW}',
    "/*": f'"/*" matches a literal "*"; write "/" {BELOW}',
    "/a/*/b": '"/a/*/b" matches a literal "*"; write {name} for one whole segment, and %2A for a star',
    "/a/b*": '"/a/b*" matches a literal "*"; write {name} for one whole segment, and %2A for a star',
    "/a/:id": '":id" is literal here; write {id} for a segment that varies: "/a/{id}"',
    "/a/:id/b": '":id" is literal here; write {id} for a segment that varies: "/a/{id}/b"',
    "/a/<id>": '"<id>" is literal here; write {id} for a segment that varies: "/a/{id}"',
    "/a/<int:id>": '"<int:id>" is literal here; write {id} for a segment that varies: "/a/{id}"',
    "/~^/a": f'"/~^/a" {REGEX}',
    "~^/a$": f'"~^/a$" {REGEX}',
    "/~/a(b|c)": f'"/~/a(b|c)" {REGEX}',
}


@pytest.mark.parametrize(("path", "expected"), PATTERNS.items())
def test_a_pattern_of_another_gateway_is_refused(path: str, expected: str) -> None:
    """It would be a literal path that no client asks for."""
    assert problems(route(f"path: '{path}'")) == [f"propylon.yaml:3 routes[0].path: {expected}"]


@pytest.mark.parametrize("path", ["/~alice", "/x:cancel", "/a/%2A", "/a:b/c~", "/a$", "/a(b)"])
def test_what_only_looks_like_a_pattern_is_literal(path: str) -> None:
    """A home page with a tilde, an action behind a colon, a star that is encoded."""
    (only,) = loaded(route(f"path: '{path}'")).config.routes
    assert only.path == path


BRACES = {
    "services:\n  a: {url: ${A_URL}}": '2: not valid YAML: a value with braces inside { } needs quotes: "${A_URL}"',
    "services: {a: {url: http://${HOST}:80/b}}": "1: not valid YAML: a value with braces inside { } needs quotes:"
    ' "http://${HOST}:80/b"',
    "routes:\n- {path: /a/{id}/b, service: a}": "2: not valid YAML: a value with braces inside { } needs quotes:"
    ' "/a/{id}/b"',
    "services: {a: {instances: [${A}, ${B:-x}]}}": "1: not valid YAML: a value with braces inside { } needs quotes:"
    ' "${A}"',
    # There is no such value in these.
    "services: {a: {url: http://a, b }": "2: not valid YAML: while parsing a flow mapping, did not find expected ','"
    " or '}'",
    "services: {a: [b}": "1: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'",
}


@pytest.mark.parametrize(("text", "expected"), BRACES.items())
def test_braces_inside_braces(text: str, expected: str) -> None:
    """YAML itself says something about flow mappings, which helps few."""
    assert problems(text, {"A": "http://a", "A_URL": "http://a"}) == [f"propylon.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "name"), [("$FOO", "FOO"), ("a-$FOO_2/b", "FOO_2"), ("$$$FOO", "FOO")]
)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_variable_without_braces_is_doubted(text: str, name: str, quote: str) -> None:
    """A shell would expand it; here it stays as it is."""
    key = f"path: /a, auth: none, headers: {{request: {{set: {{X-A: {quote}{text}{quote}}}}}}}"
    (warning,) = loaded(route(key)).warnings
    said = (
        f"holds ${name} as it stands; write ${{{name}}} for the variable, or $${name} for this text"
    )
    assert str(warning) == f"propylon.yaml:3 routes[0].headers.request.set.X-A: {said}"


def test_the_same_in_json_is_doubted() -> None:
    """JSON is read by another reader."""
    text = '{"services": {"a": {"url": "http://a"}}, "routes": [{"path": "/a", "service": "a", "auth": "none",'
    text += ' "headers": {"request": {"set": {"X-A": "$FOO"}}}}]}'
    (warning,) = loaded(text).warnings
    assert warning.where == "routes[0].headers.request.set.X-A"


@pytest.mark.parametrize("text", ["$$FOO", "$1", "$ref", "a$", "$F"])
def test_a_dollar_that_no_shell_would_expand_so_is_not_doubted(text: str) -> None:
    """Escaped, a number, lower case, a lone letter: likely meant as it stands."""
    key = f"path: /a, auth: none, headers: {{request: {{set: {{X-A: '{text}'}}}}}}"
    assert not loaded(route(key)).warnings


def test_no_part_of_a_secret_is_shown() -> None:
    """A secret may hold a dollar and capitals."""
    secret = SECRET[:20] + "$ABCDEFG" + SECRET[20:]
    warnings = loaded(f"auth: {{jwt: {{secret: '{secret}'}}}}").warnings
    assert not any("ABCDEFG" in str(warning) for warning in warnings)


def test_keys_of_the_operator_hold_anchors() -> None:
    """Compose and OpenAPI have them: what begins with x- is nobody else's."""
    text = (
        "x-open: &open {auth: none}\n"
        + SERVICES
        + "routes: [{path: /a, service: orders, <<: *open}]"
    )
    read = loaded(text)
    assert read.config.routes[0].auth == "none"
    assert not read.warnings


def test_a_number_is_no_secret() -> None:
    """YAML reads digits as a number."""
    expected = "propylon.yaml:1 auth.jwt.secret: must be text, not a number; put it in quotes"
    assert problems("auth: {jwt: {secret: 12345678}}") == [expected]


STRAYS = {
    "PROPYLON_SERVER_PORT": "; write PROPYLON_SERVER__PORT",
    "PROPYLON_PORT": "; write PORT",
    "PROPYLON_LOG_LEVEL": "; write LOG_LEVEL",
    "PROPYLON_PREFIX": "; write API_V1_PREFIX",
    "PROPYLON_ROUTES": "; routes stands in the file only",
    "PROPYLON_AUTH_JWT_SECRTE": "; did you mean PROPYLON_AUTH__JWT__SECRET?",
    "PROPYLON_SERVICES_A_URL": "; two underscores stand between keys, as in PROPYLON_SERVICES__KEY",
    "PROPYLON_QUUX": "",
}


@pytest.mark.parametrize(("name", "meant"), STRAYS.items())
def test_a_variable_that_sets_nothing_is_doubted(name: str, meant: str) -> None:
    """With the nearest that would set something."""
    (warning,) = doubts(loaded("", {name: "9000"}))
    assert warning == f"{name}: is no variable of Propylon, and sets nothing{meant}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROPYLON_SERVICE_HOST", "10.0.0.1"),
        ("PROPYLON_SERVICE_PORT", "80"),
        ("PROPYLON_SERVICE_PORT_HTTP", "80"),
        ("PROPYLON_PORT", "tcp://10.0.0.1:80"),
        ("PROPYLON_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("PROPYLON_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PROPYLON_STATE_DIR", "/tmp"),
    ],
)
def test_what_kubernetes_sets_is_not_doubted(name: str, text: str) -> None:
    """Beside a service that is called propylon it sets these in every pod."""
    assert not doubts(loaded("", {name: text}))


@pytest.mark.parametrize("text", ["RS256,ES256", "RS256, ES256", "[RS256, ES256]"])
def test_lists_in_variables_are_split_at_commas(text: str) -> None:
    """Every list, not only the origins of CORS."""
    environ = {
        "PROPYLON_AUTH__JWT__ALGORITHMS": text,
        "PROPYLON_AUTH__JWT__JWKS_URL": "https://id.example/keys",
        "PROPYLON_AUTH__JWT__AUDIENCE": "one,two",
        "PROPYLON_SERVER__TRUSTED_PROXIES": "10.0.0.0/8,127.0.0.1",
    }
    config = loaded("", environ).config
    assert config.auth.jwt.algorithms == ("RS256", "ES256")
    assert config.auth.jwt.audience == ("one", "two")
    assert len(config.server.trusted_proxies) == 2


def test_a_secret_keeps_its_commas() -> None:
    """It is one text, whatever is in it."""
    secret = SECRET[:20] + "," + SECRET[20:]
    signing = loaded("", {"JWT_SECRET_KEY": secret}).config.auth.jwt.signing_secret
    assert signing == secret.encode()


def test_variables_of_a_file_expand(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file, and those of the environment."""
    monkeypatch.setenv("OUTER", "outer")
    (directory / ".env").write_text("A=inner\nA_SERVICE_URL=http://${A}.${OUTER}:80\n")
    config = load(None, {}).config
    assert config.services["a"].url == "http://inner.outer:80"


def test_lines_of_a_file_that_set_nothing_are_named(directory: Path) -> None:
    """By file and line; the others count all the same."""
    (directory / ".env").write_text("DEBUG=true\nwhat is this\n\nPORT\nAPI_V1_PREFIX=/v9\n")
    read = load(None, {})
    said = "is no assignment and is ignored; write NAME=value"
    assert doubts(read) == [f".env:2: {said}", f".env:4: {said}"]
    assert (read.config.debug, read.config.prefix) == (True, "/v9")


NOTHING = "there are none, so every path but the gateway's own is 404; write a route for each path that leads to a service"
IDLE = {
    "": f"1 routes: {NOTHING}",
    "services: {a: {url: 'http://a'}}": f"1 routes: {NOTHING}",
    SERVICES + "routes: []": f"2 routes: {NOTHING}",
    "services:\n  a: {url: 'http://a'}\n  b: {url: 'http://b'}\nroutes: [{path: /a, service: a, auth: none}]": "3 services.b:"
    " no route leads to it; write one, or take it out",
    "services: {a: {}}\nroutes: [{path: /a, service: a, auth: none}]": "1 services.a: has no instance, and registry.allow"
    " lets none register, so its routes answer 503; write url or instances",
}


@pytest.mark.parametrize(("text", "expected"), IDLE.items())
def test_what_has_no_work_is_doubted(text: str, expected: str) -> None:
    """A wrong file, or half of one, looks fine otherwise."""
    assert [str(one) for one in loaded(text).warnings] == [f"propylon.yaml:{expected}"]


@pytest.mark.parametrize("allow", ["[10.0.0.0/8]", "{a: [10.0.0.0/8]}"])
def test_a_service_whose_instances_register_has_work(allow: str) -> None:
    """It need not have any yet."""
    text = f"services: {{a: {{}}}}\nregistry: {{allow: {allow}}}\nroutes: [{{path: /a, service: a, auth: none}}]"
    assert not loaded(text).warnings


def test_a_directory_without_a_file_is_named(directory: Path) -> None:
    """With what to do; not where variables name the services."""
    (said,) = map(str, load(None, {}).warnings)
    assert said.startswith(
        f"there is no propylon.yaml in {directory}, and no NAME_SERVICE_URL is set, so"
    )
    assert not load(None, {"A_SERVICE_URL": "http://a", "JWT_SECRET_KEY": SECRET}).warnings


def test_a_file_that_is_not_text_is_a_problem(directory: Path) -> None:
    """With its line."""
    (directory / ".env").write_bytes(b"A=1\nB=\xff\n")
    assert problems("", {}) == [".env:2: is not UTF-8"]


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "127.0.0.2", "localhost", " 10.0.0.1 "])
def test_an_address_in_host_is_read(text: str) -> None:
    """Platforms set HOST beside PORT; a key of ours wins."""
    assert loaded("", {"HOST": text}).config.server.host == text.strip()
    assert loaded("", {"HOST": text, "PROPYLON_SERVER__HOST": "::1"}).config.server.host == "::1"
    assert not loaded("", {"HOST": text}).notes


@pytest.mark.parametrize(
    "text", ["my-mac.local", "x86_64-conda-linux-gnu", "0.0.0.0:80", "300.1.1.1"]
)
def test_another_host_is_for_others(text: str) -> None:
    """Shells and conda export it: it is ignored with a line at the start, and is no doubt."""
    read = loaded("server: {host: 127.0.0.3}", {"HOST": text})
    assert (read.config.server.host, doubts(read)[1:]) == ("127.0.0.3", [])
    assert read.notes == ("HOST is not read: it holds neither an IP address nor localhost",)


def test_host_is_passed_over_beside_a_list_of_listeners() -> None:
    """As PORT is: a platform sets both in any case."""
    text = "server: {listen: ['127.0.0.1:1']}"
    assert loaded(text, {"HOST": "0.0.0.0", "PORT": "9"}).config.server.listen is not None


def test_mistakes_of_a_file_name_its_lines(directory: Path) -> None:
    """Whatever is wrong with a variable is said at its line, unless the environment has another value for it."""
    (directory / ".env").write_text("A=1\nPORT=abc\nPROPYLON_PROT=1\n")
    assert problems("", {}) == [".env:2 PORT server.port: must be a whole number"]
    assert problems("", {"PORT": "x"}) == ["PORT server.port: must be a whole number"]
    stray = [said for said in doubts(loaded("", {"PORT": "1"})) if "PROT" in said]
    assert stray == [".env:3 PROPYLON_PROT: is no variable of Propylon, and sets nothing"]


def test_an_unset_variable_of_a_file_is_doubted(directory: Path) -> None:
    """It would be replaced by nothing; one with a default, or of the environment, is not."""
    (directory / ".env").write_text("A=${B}-${C:-c}-${D}\nPORT=1\n")
    said = "B is not set, so ${B} is empty here; set it above this line, or write ${B:-default}"
    assert f".env:1 A: {said}" in doubts(loaded("", {"D": "d"}))
    assert len([one for one in doubts(loaded("", {"D": "d"})) if "is not set" in one]) == 1


def test_the_variable_that_names_the_file_may_be_misspelt() -> None:
    """It is no key, but it is known."""
    said = "PROPYLON_CONFIGS: is no variable of Propylon, and sets nothing; did you mean PROPYLON_CONFIG?"
    assert said in doubts(loaded("", {"PROPYLON_CONFIGS": "a.yaml"}))


NAMES = {
    "routes: [{path: /a, upstream: a}]": "upstream: unknown key; here it is called service",
    "upstreams: {}": "upstreams: unknown key; here it is called services",
    "server: {ssl_certfile: a}": "server.ssl_certfile: unknown key; here it is called tls.certificate",
    "server: {forwarded_allow_ips: a}": "server.forwarded_allow_ips: unknown key; here it is called trusted_proxies",
    "cors: {expose_headers: [a]}": "cors.expose_headers: unknown key; here it is called expose",
}


@pytest.mark.parametrize(("text", "expected"), NAMES.items())
def test_names_of_fastapi_and_of_other_gateways(text: str, expected: str) -> None:
    """No spelling is near enough to guess them, or the nearest one means something else."""
    assert any(problem.endswith(expected) for problem in problems(text))


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("port: 8000", "http://localhost:8000"),
        ("port: 80, host: 0.0.0.0", "http://127.0.0.1"),
        ("host: '::', port: 9000", "http://[::1]:9000/base"),
        ("listen: ['10.1.2.3:81', 'unix:/run/a/p.sock']", "http://10.1.2.3:81"),
    ],
)
def test_a_service_at_the_address_of_the_gateway(server: str, url: str) -> None:
    """The default port of uvicorn is the gateway's, too; one request would take all connections."""
    text = f"server: {{{server}}}\nservices: {{a: {{url: '{url}'}}}}\nroutes: [{{path: /a, service: a, auth: none}}]"
    (said,) = doubts(loaded(text))
    assert "2 services.a.url: is the gateway's own address" in said


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("port: 8000", "http://localhost:8001"),
        ("port: 8000", "http://orders:8000"),
        ("port: 8000, host: 10.0.0.1", "http://127.0.0.1:8000"),
        ("listen: ['unix:/run/a/p.sock']", "unix:/run/a/q.sock"),
    ],
)
def test_a_service_at_another_address(server: str, url: str) -> None:
    """The same port on another machine, or on another address of this one, is another program's."""
    text = f"server: {{{server}}}\nservices: {{a: {{url: '{url}'}}}}\nroutes: [{{path: /a, service: a, auth: none}}]"
    assert doubts(loaded(text)) == []
