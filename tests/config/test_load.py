"""The file, the environment and the command line, and every problem of theirs at once."""

import os
from pathlib import Path

import pytest

from propylon.config.models.schema import EdgeTimeoutsConfig, GatewayConfig
from propylon.config.reading.load import load
from propylon.config.reading.problems import ConfigError
from tests.config.texts import SERVICES, loaded, problems, route

ONE_PROBLEM = {
    # Keys and kinds.
    "server: {prot: 80}": '1 server.prot: unknown key; did you mean "port"?',
    "\n\nsevrer: {}": '3 sevrer: unknown key; did you mean "server"?',
    "zzz: 1": "1 zzz: unknown key",
    "server:\n  port: http": "2 server.port: must be a whole number",
    "server:\n  port: true": "2 server.port: must be a whole number",
    "server:\n  port: 70000": "2 server.port: must be at most 65535",
    "server:\n  port: -1": "2 server.port: must be at least 0",
    "server:\n  workers: 1.5": "2 server.workers: must be a whole number",
    "server:\n  state_dir: run/x": "2 server.state_dir: must be an absolute path, such as /run/propylon",
    'server:\n  state_dir: "/x\\0"': "2 server.state_dir: must be an absolute path, such as /run/propylon",
    "server: 5": "1 server: must be a mapping of keys to values, not a number",
    "routes: {}": "1 routes: must be a list, not a mapping",
    "routes: [7]": "1 routes[0]: must be a mapping of keys to values, not a number",
    "debug: maybe": "1 debug: must be true or false",
    "server: {host: 5}": "1 server.host: must be text, not a number; put it in quotes",
    "log: {level: inof}": "1 log.level: must be one of debug, info, warning, error, critical;"
    ' did you mean "info"?',
    "server: {drain: -1}": "1 server.drain: must be a duration of zero or more,"
    " and at most a century",
    "server: {timeouts: {idle: 0}}": "1 server.timeouts.idle: must be a duration longer than zero",
    "server: {max_body: 1.5}": '1 server.max_body: must be a size: bytes, or text such as "10MB",'
    ' "1MiB", "64KiB"',
    "server: {max_header: 1B}": "1 server.max_header: must be at least 1024",
    "- a": "1: must be a mapping of keys to values, such as `server:` and `routes:`",
    "just text": "1: must be a mapping of keys to values, such as `server:` and `routes:`",
    # YAML itself.
    "debug: false\nlog: {}\ndebug: true": '3 debug: "debug" is written twice: on line 1,'
    " and again on line 3",
    "a: b: c": "1: not valid YAML: mapping values are not allowed in this context",
    "log:\n\tlevel: info": "2: not valid YAML: while scanning for the next token,"
    " found character that cannot start any token (a tab? YAML is indented with spaces)",
    "debug: *nothing": "1: not valid YAML: found undefined alias",
    "debug: false\n---\ndebug: true": "2: not valid YAML: expected a single document in the stream,"
    " found another document",
    "debug: false\nlog: \x01": "2: the character U+0001 cannot stand in YAML",
    "debug: !secret x": "1 debug: a value that begins with ! must stand in quotes",
    "debug: !!python/name:os.system x": "1 debug: the tag !!python/name:os.system is not supported",
    "? [a]\n: b": "1 ?: a key must be plain text",
    "&a [*a]": "1: an alias that contains itself",
    "[" * 100_000: "1: nested more than 32 levels deep",
    # Networks, TLS, services.
    "server: {trusted_proxies: [10.0.0.1/8]}": '1 server.trusted_proxies[0]: "10.0.0.1/8" has bits'
    " set beyond its prefix; did you mean 10.0.0.0/8?",
    "server: {trusted_proxies: [all]}": '1 server.trusted_proxies[0]: "all" is no network:'
    " write 10.0.0.0/8, or one address",
    "tls: {certificate: a.pem}": "1 tls.key: certificate and key go together: key is missing",
    "tls: {key: a.pem}": "1 tls.key: certificate and key go together: certificate is missing",
    "services: {a: {url: 'http://a', instances: ['http://b']}}": "1 services.a.instances:"
    " a service has a url or instances, not both",
    "services: {'a b': {}}": "1 services.a b: must be a name of letters, digits, and any of . _ -"
    " after the first",
    "services: {a: {url: a}}": "1 services.a.url: must be a URL that starts with http:// or https://",
    "services: {a: {url: 'ftp://a'}}": "1 services.a.url: must be a URL that starts with http:// or"
    " https://",
    "services: {a: {url: 'http://'}}": "1 services.a.url: must be a URL with a host",
    "services: {a: {url: 'http://u:secret@a'}}": "1 services.a.url: must be a URL without a user"
    " and a password",
    "services: {a: {url: 'http://a?x'}}": "1 services.a.url: must be a URL without a query and"
    " without a fragment",
    "services: {a: {url: 'http://a:0'}}": '1 services.a.url: "0" is no port: a number from 1 to'
    " 65535",
    "services: {a: {url: 'http://a:٨٠'}}": '1 services.a.url: "٨٠" is no port: a number from 1 to'
    " 65535",
    "services: {a: {url: 'http://a b'}}": '1 services.a.url: "a b" is no host name',
    "services: {a: {url: 'http://[::g]'}}": '1 services.a.url: "[::g]" is no IPv6 address',
    "services: {a: {url: 'http://a/b/../c'}}": "1 services.a.url: the path of the URL has the"
    ' segment "..", which no request may have',
    # Routes.
    route("path: orders"): '3 routes[0].path: the path must start with "/"',
    route("path: /a/../b"): '3 routes[0].path: the path has the segment "..",'
    " which no request may have",
    route("path: /a/%2e%2E/b"): '3 routes[0].path: the path has the segment "%2e%2E",'
    " which no request may have",
    route("path: /a?b"): '3 routes[0].path: the path has "?", which cannot stand there as it is',
    route("path: '/a#b'"): '3 routes[0].path: the path has "#", which cannot stand there as it is',
    route('path: "/a\\tb"'): "3 routes[0].path: the path has the character U+0009,"
    " which cannot stand there as it is",
    route("path: /a%zz"): '3 routes[0].path: the path has "%" without two hexadecimal digits'
    " after it, which cannot stand there as it is",
    route("path: /a//b"): "3 routes[0].path: the path has an empty segment (two slashes)",
    route('path: "/a/x{id}"'): '3 routes[0].path: the path has "x{id}": write {name} for one whole'
    " segment",
    route(
        'path: "/a/{}"'
    ): '3 routes[0].path: the path has "{}": write {name} for one whole segment',
    route("name: x"): "3 routes[0].path: is missing",
    route("path: /a, methods: []"): "3 routes[0].methods: is empty; leave the key out to match all",
    route("path: /a, methods: GET"): "3 routes[0].methods: must be a list, not text; put it in [ ]",
    route("path: /a, methods: [get]"): "3 routes[0].methods[0]: methods are written in upper case:"
    " GET",
    route("path: /a, methods: [TRACE]"): "3 routes[0].methods[0]: TRACE is never forwarded",
    route("path: /a, methods: ['G T']"): '3 routes[0].methods[0]: "G T" is no method',
    route("path: /a, hosts: ['a:80']"): "3 routes[0].hosts[0]: must be a host name without a port",
    route("path: /a, strip_prefix: true, rewrite: /b"): "3 routes[0].rewrite: a route has"
    " strip_prefix or rewrite, not both",
    route("path: /a, headers: {request: {set: {Content-Length: '5'}}}"): "3"
    " routes[0].headers.request.set.Content-Length: Content-Length is the gateway's own and cannot"
    " be set or removed",
    route('path: /a, headers: {response: {set: {X: "a\\r\\nB: c"}}}'): "3"
    " routes[0].headers.response.set.X: must be a value of visible ASCII characters,"
    " without spaces around it",
    "defaults: {path: /a}": "1 defaults.path: belongs to one route, and has no default",
    route("path: /health"): "3 routes[0].path: /health is the path of one of the gateway's own"
    " endpoints",
    "prefix: /v9\n" + route("path: /v9/auth/token"): "4 routes[0].path: /v9/auth/token is the path"
    " of one of the gateway's own endpoints",
    route("path: /a").replace("service: orders", "service: oders"): "3 routes[0].service:"
    ' no service "oders"; did you mean "orders"?',
    # A wrong default is one problem, however many routes it reaches.
    "defaults: {auth: no}\n" + route("path: /a"): "1 defaults.auth: must be one of required,"
    " optional, none; write none",
    # Variables.
    "log: {}\nprefix: ${NOWHERE}": "2 prefix: the environment variable NOWHERE is not set and has"
    " no default",
    "prefix: /a${": "1 prefix: write ${NAME} or ${NAME:-default} for a variable,"
    " and $$ for a dollar",
}


@pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM.items())
def test_each_problem_has_its_line_its_key_and_a_sentence(text: str, expected: str) -> None:
    """A file with one mistake gives one problem, at its line, in plain words."""
    assert problems(text) == [f"propylon.yaml:{expected}"]


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    """A file with eight mistakes gives eight problems, the first line first."""
    text = """\
log: {level: loud}
server:
  prot: 1
  timeouts: {header: soon}
routes:
  - path: /a/{x}
    service: oders
  - {service: orders, path: '/a/{y}'}
  - service: orders
    path: b
    name: ${NOWHERE}
services:
  orders: {url: orders}
"""
    lines = [problem.split(" ")[0] for problem in problems(text)]
    assert lines == [f"propylon.yaml:{line}" for line in (1, 3, 4, 7, 8, 10, 11, 13)]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("path: /a", "path: /a", "duplicate"),
        ("path: /a", "path: /a/", "duplicate"),
        ("path: '/a/{x}'", "path: '/a/{y}'", "duplicate"),
        ("path: /a, methods: [GET, PUT]", "path: /a, methods: [PUT]", "duplicate"),
        ("path: /a, hosts: [a.b, c.d]", "path: /a, hosts: [C.D]", "duplicate"),
        ("path: /a, priority: 1", "path: /a", "unreachable"),
        ("path: /a", "path: /a, priority: 1, methods: [GET]", None),
        ("path: /a, methods: [GET]", "path: /a, methods: [PUT]", None),
        ("path: /a, exact: true", "path: /a", None),
        ("path: /a, hosts: [a.b]", "path: /a", None),
        ("path: /a, name: x", "path: /b, name: x", 'the name "x" is taken by routes[0]'),
        ("path: /a", "path: /b, name: /a", 'the name "/a" is taken by routes[0]'),
    ],
)
def test_routes_that_nobody_could_tell_apart(first: str, second: str, message: str | None) -> None:
    """Two routes that match the same, or share a name, are a problem of the second one."""
    rules = (f"  - {{service: orders, {rule}}}\n" for rule in (first, second))
    text = SERVICES + "routes:\n" + "".join(rules)
    if message is None:
        assert len(loaded(text).config.routes) == 2
    else:
        (problem,) = problems(text)
        assert problem.startswith("propylon.yaml:4 routes[1].")
        assert message in problem


def test_a_bomb_of_aliases_is_refused() -> None:
    """Nine lines that stand for a billion values cost nothing."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (problem,) = problems("\n".join(lines))
    assert problem.endswith(": aliases that stand for more than 10,000 values")


def test_anchors_and_merge_keys_work() -> None:
    """What YAML offers against repetition may be used; what is written beside it wins."""
    text = """\
services:
  a: &a {url: 'http://a', max_connections: 7, timeouts: {total: 1s}}
  b: {<<: *a, url: 'http://b'}
"""
    config = loaded(text).config
    assert config.services["b"].url == "http://b"
    assert config.services["b"].max_connections == 7
    assert config.services["b"].timeouts.total == 1.0


def test_a_valid_file_is_read_with_its_lines() -> None:
    """Values have their kinds, names their defaults, and positions their lines."""
    text = SERVICES + "routes:\n  - path: /a\n    service: orders\n    timeouts: {total: 500ms}\n"
    read = loaded(text)
    (only,) = read.config.routes
    assert (only.name, only.auth, only.timeouts.total) == ("/a", "required", 0.5)
    assert read.positions["routes", 0, "service"] == 4
    assert read.places.of(("routes", 0, "service")) == "propylon.yaml:4"
    assert read.path == Path("propylon.yaml")


def test_defaults_reach_the_routes_that_do_not_say_otherwise() -> None:
    """A route's own key wins, sections merge, strip_prefix and rewrite replace each other."""
    text = (
        SERVICES + "defaults: {auth: none, strip_prefix: true, timeouts: {total: 1, idle: 2}}\n"
        "routes:\n  - {path: /a, service: orders, timeouts: {idle: 3}, auth: }\n"
        "  - {path: /b, service: orders, auth: optional, rewrite: /c}\n"
    )
    a, b = loaded(text).config.routes
    assert (a.auth, a.strip_prefix, a.timeouts.total, a.timeouts.idle) == ("none", True, 1.0, 3.0)
    assert (b.auth, b.strip_prefix, b.rewrite) == ("optional", False, "/c")


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "\ufeffdebug: false\n", "server:\ntls: {key: }\n"]
)
def test_what_is_not_written_is_the_default(text: str) -> None:
    """An empty file, a byte order mark and keys without values all mean the defaults."""
    assert loaded(text).config == GatewayConfig()


@pytest.mark.parametrize("url", ["https://a", "http://a/base", "http://a:1/b/", "http://[::1]:80"])
def test_urls_of_many_forms_work(url: str) -> None:
    """With https, without a port, with a base path."""
    config = load(None, {"MY_USERS_SERVICE_URL": url}).config
    assert config.services["my-users"].urls == (url,)


def test_variables_fill_values_and_cannot_inject_yaml() -> None:
    """A value stays one value, a lone variable may be a number, and $$ is a dollar."""
    text = (
        "server: {port: '${P}', workers: \"${W:-3}\"}\nprefix: /${V:-a}$$\n"
        "services:\n  a:\n    url: ${U:-}\n    max_connections: ${M:-9}\n"
    )
    config = loaded(text, {"P": "81", "V": ""}).config
    assert (config.server.port, config.server.workers, config.prefix) == (81, 3, "/a$")
    assert (config.services["a"].url, config.services["a"].max_connections) == (None, 9)
    switched = loaded(route("path: /a, exact: '${E}', circuit: '${C:-no}'"), {"E": "True"}).config
    assert (switched.routes[0].exact, switched.routes[0].circuit) == (True, False)
    injected = problems("server:\n  host: a\n  port: ${P}\n", {"P": "1\n  workers: 9"})
    assert injected == [
        "propylon.yaml:3 server.port: must be a whole number (the value is that of P)"
    ]


def test_sources_stand_in_their_order(directory: Path) -> None:
    """Command line over process environment over .env over file over default."""
    (directory / ".env").write_text("PORT=2\nPROPYLON_SERVER__WORKERS=2\nLOG_LEVEL=ERROR\n")
    text = "server: {port: 1, workers: 1, drain: 1s}\nlog: {level: debug}\n"
    read = loaded(text, {"PORT": "3", "WEB_CONCURRENCY": "3"}, **{"server.port": 4})
    server = read.config.server
    assert (server.port, server.workers, server.drain) == (4, 3, 1.0)
    assert server.timeouts == EdgeTimeoutsConfig()
    assert read.config.log.level == "error"
    assert read.places.of(("server", "port")) == "command line"
    assert read.places.of(("server", "workers")) == "WEB_CONCURRENCY"


def test_where_workers_share_can_be_said_in_the_environment(directory: Path) -> None:
    """By its plain name, by its key, or in the file; nothing said is nothing."""
    text = "server: {state_dir: /file}\n"
    for environ, found in (
        ({}, "/file"),
        ({"PROPYLON_STATE_DIR": "/plain"}, "/plain"),
        ({"PROPYLON_STATE_DIR": "/plain", "PROPYLON_SERVER__STATE_DIR": "/key"}, "/key"),
        ({"PROPYLON_STATE_DIR": ""}, "/file"),
    ):
        assert loaded(text, environ).config.server.state_dir == found
    for text in ("", "server:\n  state_dir: ${UNSET:-}\n", 'server: {state_dir: "  "}\n'):
        assert loaded(text).config.server.state_dir is None


def test_any_key_can_be_set_by_a_variable() -> None:
    """Names with two underscores are keys; hyphens are found, lists are written in brackets."""
    text = SERVICES.replace("orders:", "my-orders:", 1) + (
        "routes: [{path: /a, service: my-orders}]\nprefix: ${UNSET}\n"
    )
    environ = {
        "PROPYLON_SERVICES__MY_ORDERS__URL": "http://b",
        "PROPYLON_SERVER__TRUSTED_PROXIES": "[10.0.0.0/8]",
        "PROPYLON_ROUTES__0__AUTH": "none",
        "PROPYLON_PORT": "tcp://10.0.0.1:80",
        "API_V1_PREFIX": "/v9/",
        "JWT_SECRET_KEY": "x",
        "DEBUG": "1",
    }
    config = loaded(text, environ).config
    assert config.services["my-orders"].url == "http://b"
    assert config.server.trusted_proxies == ("10.0.0.0/8",)
    assert config.routes[0].auth == "none"
    assert (config.prefix, config.debug) == ("/v9", True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PROPYLON_SERVER__PROT", "1", 'server.prot: unknown key; did you mean "port"?'),
        ("PORT", "tcp://10.0.0.1:80", "server.port: must be a whole number"),
        ("PROPYLON_ROUTES__7__AUTH", "none", "routes.7.auth: there is no routes.7.auth to set"),
        (
            "A_SERVICE_URL",
            "a",
            "services.a.url: must be a URL that starts with http:// or https://",
        ),
    ],
)
def test_problems_of_variables_name_them(name: str, value: str, message: str) -> None:
    """The place of what a variable says is its name."""
    with pytest.raises(ConfigError) as caught:
        load(None, {name: value, "PROPYLON_SERVER__DRAIN": "1s"})
    assert [str(problem) for problem in caught.value.problems] == [f"{name} {message}"]


def test_the_environment_alone_is_enough() -> None:
    """Without a file each NAME_SERVICE_URL is a service and a stripped route that wants a token."""
    environ = {"B_X_SERVICE_URL": "http://b", "A_SERVICE_URL": "http://a", "API_V1_PREFIX": "/v9"}
    read = load(None, environ)
    routes = [(r.name, r.path, r.service, r.strip_prefix, r.auth) for r in read.config.routes]
    assert routes == [
        ("a", "/v9/a", "a", True, "required"),
        ("b-x", "/v9/b-x", "b-x", True, "required"),
    ]
    assert read.path is None
    assert load(None, {}).config == GatewayConfig()


def test_a_file_leaves_service_variables_alone() -> None:
    """With a file the services are the file's."""
    assert loaded("debug: false", {"A_SERVICE_URL": "http://a"}).config.services == {}


def test_a_variable_names_the_file(directory: Path) -> None:
    """PROPYLON_CONFIG is read, from .env too."""
    (directory / "other.yaml").write_text("debug: true\n")
    (directory / ".env").write_text("PROPYLON_CONFIG=other.yaml\n")
    assert load(None, {}).config.debug is True


def test_files_that_cannot_be_read(directory: Path) -> None:
    """A missing file, a directory, a large one and a binary one: one sentence each."""
    (directory / "large").write_bytes(b"#" * (1024 * 1024 + 1))
    (directory / "binary").write_bytes(b"a: 1\n\xff")
    reasons = {
        "missing": "no such file or directory",
        "/": "it is a directory",
        "large": "it is larger than 1 MiB",
        "binary": "line 2 is not UTF-8",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigError) as caught:
            load(Path(name), {})
        assert str(caught.value) == f"{name}: cannot be read: {reason}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(directory: Path) -> None:
    """A file that we may not read is one sentence."""
    (directory / "secret").touch(mode=0)
    with pytest.raises(ConfigError, match="permission denied"):
        load(Path("secret"), {})


def test_ten_thousand_routes_load() -> None:
    """A large table is no bomb."""
    rows = "".join(f"  - {{path: /r/{n}, service: orders}}\n" for n in range(10_000))
    assert len(loaded(f"{SERVICES}routes:\n{rows}").config.routes) == 10_000


def test_a_higher_source_mends_a_lower_one() -> None:
    """A lower source's mistake no longer matters once a higher one has set the key."""
    text = "server: {port: '${NOWHERE}'}\n"
    assert loaded(text, {"PORT": "5"}).config.server.port == 5
    assert len(problems(text)) == 1
