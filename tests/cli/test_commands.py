"""check, routes, init and schema: what they print, and the status they end with."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import propylon
from propylon.cli.main import app
from propylon.commands.tables import broken, flowing, print_table
from propylon.config.models.auth import AuthConfig
from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.json_schema import json_schema
from propylon.config.models.route import RouteConfig
from propylon.wire import native
from tests.support.gateway import free_port
from tests.support.zygote import ROOT, ZYGOTE, environment

GOOD = """\
services:
  orders: {instances: ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]}
  users: {url: http://127.0.0.1:9003, timeouts: {total: 9s}}
defaults: {auth: none}
routes:
  - {name: all, path: /api, service: users, strip_prefix: true}
  - {name: orders, path: /api/orders, service: orders, methods: [GET, POST], max_body: 1MB}
  - {name: one, path: "/api/orders/{id}", service: orders, exact: true, auth: required}
  - {name: export, path: /api/orders/export, service: orders, rewrite: /v2/export, timeouts: {total: 5s}}
  - {name: hosted, path: /, service: users, hosts: [api.example.com]}
"""
RULES = """\
services: {orders: {url: http://127.0.0.1:9001}}
routes:
  - {path: /a, service: orders, scopes: [read], roles: [clerk, boss], privacy: required, circuit: false}
"""
BROKEN = """\
services:
  orders: {url: http://127.0.0.1:9001, timeot: 5s}
server:
  port: 99999
routes:
  - {path: /orders, service: oders}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PROPYLON"):
            monkeypatch.delenv(name)
    return tmp_path


def call(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, list(arguments))


def written(text: str) -> Path:
    """The text as propylon.yaml."""
    file = Path("propylon.yaml")
    file.write_text(text)
    return file


def test_check_says_what_a_valid_file_holds() -> None:
    """A valid file: status 0, and how many services and routes are in it."""
    written(GOOD)
    done = call("check")
    assert (done.exit_code, done.stdout) == (0, "propylon.yaml: valid, 2 services, 5 routes\n")


def test_check_counts_one_as_one() -> None:
    """One service and one route are not two."""
    written("services: {a: {url: http://127.0.0.1:1}}\nroutes: [{path: /a, service: a}]\n")
    assert call("check").stdout == "propylon.yaml: valid, 1 service, 1 route\n"


@pytest.mark.parametrize("command", [["check"], ["routes"], ["explain", "GET", "/"], ["run"]])
def test_broken_file_is_told_whole(command: list[str]) -> None:
    """Every command: status 2, every problem with its line on stderr, nothing else, no traceback."""
    written(BROKEN)
    done = call(*command)
    assert done.exit_code == 2
    assert done.stdout == ""
    places = [line.split(":")[1].split()[0] for line in done.stderr.splitlines()]
    assert places == ["2", "4", "6"]
    assert 'did you mean "orders"?' in done.stderr


def test_check_tells_programs() -> None:
    """--format json: the problems on stdout, each with place, where and message."""
    written(BROKEN)
    done = call("check", "--format", "json")
    assert done.exit_code == 2
    problems = json.loads(done.stdout)["problems"]
    assert [sorted(problem) for problem in problems] == [["message", "place", "where"]] * 3
    assert problems[2]["place"] == "propylon.yaml:6"
    assert problems[2]["where"] == "routes[0].service"


def test_check_tells_programs_that_all_is_well() -> None:
    """--format json of a valid file: no problem, status 0."""
    written(GOOD)
    done = call("check", "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)["problems"]) == (0, [])


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.yaml", "no such file or directory"), ("folder.yaml", "it is a directory")],
)
def test_unreadable_file_is_one_sentence(name: str, reason: str) -> None:
    """A file that cannot be read: one line, status 2."""
    Path("folder.yaml").mkdir()
    done = call("check", "--config", name)
    assert (done.exit_code, done.stderr) == (2, f"{name}: cannot be read: {reason}\n")


def test_the_file_may_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """PROPYLON_CONFIG names the file, and --config wins over it."""
    Path("other.yaml").write_text(GOOD)
    monkeypatch.setenv("PROPYLON_CONFIG", "other.yaml")
    assert call("check").stdout.startswith("other.yaml: valid")
    written(GOOD)
    assert call("check", "--config", "propylon.yaml").stdout.startswith("propylon.yaml: valid")


def test_check_looks_at_the_certificate() -> None:
    """A certificate that cannot be used is a problem of the file, with its line."""
    written("tls:\n  certificate: missing.pem\n  key: missing.key\n")
    done = call("check")
    assert done.exit_code == 2
    assert done.stderr.startswith("propylon.yaml:2 tls.certificate: cannot read missing.pem")


def test_routes_stand_as_matching_prefers_them() -> None:
    """Host first, then literal before {}, deeper before shallower, exact before prefix."""
    written(GOOD)
    done = call("routes", "--format", "json")
    table = json.loads(done.stdout)
    names = [route["name"] for route in table if not route["own"]]
    assert names == ["hosted", "export", "one", "orders", "all"]
    own = {endpoint.path for endpoint in builtin_endpoints("/api/v1", AuthConfig())}
    assert {route["name"] for route in table if route["own"]} == own
    assert {"/health", "/metrics", "/docs"} < own


def test_routes_tell_programs_everything() -> None:
    """Each row has its service, rules, limits and place in the file."""
    written(GOOD)
    table = json.loads(call("routes", "--format", "json").stdout)
    rows = {route["name"]: route for route in table}
    assert rows["export"]["rewrite"] == "/v2/export"
    assert rows["export"]["timeouts"]["total"] == 5.0
    assert rows["all"]["strip_prefix"] is True
    assert rows["all"]["timeouts"]["total"] == 9.0
    assert rows["one"]["auth"] == "required"
    assert rows["one"]["path"] == "/api/orders/{id}"
    assert rows["orders"]["max_body"] == 1_000_000
    assert rows["orders"]["instances"] == ["127.0.0.1:9001", "127.0.0.1:9002"]
    assert rows["hosted"]["host"] == "api.example.com"
    assert rows["orders"]["place"] == "propylon.yaml:7"
    assert rows["/metrics"]["auth"] == "loopback, or scope admin"


def test_routes_tell_programs_who_may_do_what() -> None:
    """The JSON is the audit: token, scopes, roles, privacy, breaker."""
    written(RULES)
    (row,) = (
        row for row in json.loads(call("routes", "--format", "json").stdout) if not row["own"]
    )
    assert (row["auth"], row["scopes"], row["roles"]) == ("required", ["read"], ["clerk", "boss"])
    assert (row["privacy"], row["circuit"]) == ("required", False)


def test_routes_tell_programs_the_limits_and_the_cache() -> None:
    """Every key of a route is there, in the form of the file."""
    written(
        "services: {a: {url: 'http://a'}}\n"
        "routes: [{path: /a, service: a, auth: none, rate_limit: {rate: 5/s}, cache: {ttl: 30s}}]\n"
    )
    (row,) = (
        row for row in json.loads(call("routes", "--format", "json").stdout) if not row["own"]
    )
    assert (row["cache"]["ttl"], row["cache"]["by"]) == (30.0, "caller")
    assert len(row["rate_limit"]) == 1
    assert set(RouteConfig.model_fields) <= set(row) | {"hosts"}


def test_routes_are_aligned_where_there_is_no_terminal() -> None:
    """Plain columns, no lines, nothing cut: `grep` and `awk` can read it. The gateway's own are left out."""
    written(GOOD)
    done = call("routes")
    assert done.stdout.splitlines() == [
        "ROUTE                     METHODS   SERVICE                      ACCESS",
        "api.example.com[/...]     all       users                        open",
        "/api/orders/export[/...]  all       orders (rewrite /v2/export)  open",
        "/api/orders/{id}          all       orders                       token",
        "/api/orders[/...]         GET POST  orders                       open",
        "/api[/...]                all       users (strip)                open",
    ]
    own = {endpoint.path for endpoint in builtin_endpoints("/api/v1", AuthConfig())}
    said = f"and {len(own)} endpoints of the gateway's own: propylon routes --all\n"
    assert done.stderr.endswith(said)


def test_routes_show_what_a_token_must_have() -> None:
    """Scopes: all of them. Roles: one of them."""
    written(RULES)
    row = call("routes").stdout.splitlines()[1]
    assert row.endswith("  token, scope read, role clerk or boss")


def test_routes_show_that_a_document_decides() -> None:
    """The scopes are not in the file, so the table says where they are."""
    written(
        "services: {a: {url: 'http://a', openapi: true}}\n"
        "routes: [{path: /a, service: a, security: from-document}]\n"
    )
    assert call("routes").stdout.splitlines()[1].endswith("  token, scopes of the document")


def test_all_routes_are_those_of_the_gateway_too() -> None:
    """Behind the operator's."""
    written(GOOD)
    done = call("routes", "--all")
    rows = done.stdout.splitlines()
    assert rows[1].startswith("api.example.com")
    own = {endpoint.path for endpoint in builtin_endpoints("/api/v1", AuthConfig())}
    assert {row.split("  ")[0] for row in rows[6:]} == own
    assert "routes --all" not in done.stderr


def test_a_table_fits_a_small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 characters; longer cells are folded, and nothing is cut."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    rows = [("/a/very/long/path/{with}/many/segments[/...]", "GET POST", "orders (strip)", "token")]
    print_table(("route", "methods", "service", "access"), rows, stream)
    plain = stream.getvalue()
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.splitlines()[2:] == [
        "/a/very/long/path/{with}/many/segments        GET POST   orders (strip)   token",
        "  [/...]",
    ]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("short", 10, ["short"]),
        ("two words", 8, ["two", "  words"]),
        ("/api/v1/orders[/...]", 14, ["/api/v1", "  /orders", "  [/...]"]),
        ("/orders[/...]", 11, ["/orders", "  [/...]"]),
        ("unbreakable", 6, ["unbrea", "  kabl", "  e"]),
        ("see /a/b/c, and /d", 12, ["see /a/b/c,", "  and /d"]),
    ],
)
def test_long_lines_are_broken_where_one_reads_on(text: str, width: int, lines: list[str]) -> None:
    """At a space, else before a slash; the mark of what is below a path stays whole."""
    assert broken(text, width) == lines


def test_warnings_flow_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe they are one line each, for programs."""
    monkeypatch.setenv("COLUMNS", "20")
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    assert flowing("warning: a: is wrong, write b\n", terminal) == (
        "warning: a: is\n  wrong, write b\n"
    )
    assert flowing("warning: a: is wrong, write b\n", io.StringIO()).count("\n") == 1


APP = """\
from propylon import Gateway
gateway = Gateway.from_file("of-the-app.yaml")
"""


@pytest.mark.parametrize("name", ["shop:gateway", "shop.py:gateway", "./shop.py:gateway"])
@pytest.mark.parametrize(
    "command", [["check"], ["routes"], ["explain", "get", "/of-the-app"]], ids=" ".join
)
def test_commands_read_a_gateway_object(tmp_path: Path, name: str, command: list[str]) -> None:
    """As `run --app` does, by module or by file."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "of-the-app.yaml").write_text(
        "services: {a: {url: http://127.0.0.1:1}}\n"
        "routes: [{path: /of-the-app, service: a, auth: none}]\n"
    )
    done = ZYGOTE.run(
        [sys.executable, "-m", "propylon", *command, "--app", name],
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "1 route" in done.stdout if command == ["check"] else "/of-the-app" in done.stdout


ENDPOINT = """
from propylon import public
@gateway.api.get("/overview", dependencies=[public])
async def overview() -> None: ...
"""


def test_commands_know_the_endpoints_of_a_gateway_object(tmp_path: Path) -> None:
    """Those that a team has put on `gateway.api` are routes like the gateway's own."""
    (tmp_path / "shop.py").write_text(APP + ENDPOINT)
    (tmp_path / "of-the-app.yaml").write_text("")
    say = [sys.executable, "-m", "propylon"]
    shown = ZYGOTE.run(
        [*say, "routes", "--all", "--app", "shop:gateway"], cwd=tmp_path, env=environment()
    )
    assert "/overview" in shown.stdout
    explained = ZYGOTE.run(
        [*say, "explain", "GET", "/overview", "--app", "shop:gateway"],
        cwd=tmp_path,
        env=environment(),
    )
    assert "/overview (an endpoint of --app)" in explained.stdout


@pytest.mark.parametrize(("path", "status"), [("/a", 0), ("/nowhere", 1)])
def test_explain_may_fail(path: str, status: int) -> None:
    """A refused request has been explained, so that is status 0; with --fail, as curl has it, 1."""
    written("services: {a: {url: 'http://a'}}\nroutes: [{path: /a, service: a, auth: none}]\n")
    assert call("explain", "GET", path).exit_code == 0
    assert call("explain", "GET", path, "--fail").exit_code == status


def test_init_full_has_more() -> None:
    """The short file is what a person reads; the full one has every key, and passes as well."""
    assert call("init", "--config", "short.yaml").exit_code == 0
    assert call("init", "--full").exit_code == 0
    assert len(Path("propylon.yaml").read_text()) > 5 * len(Path("short.yaml").read_text())
    assert call("check").exit_code == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere.py:gateway", 'there is no file "./nowhere.py"'),
        ("./not-a-module.py:gateway", '"not-a-module.py" cannot be imported'),
    ],
)
def test_a_file_that_is_no_module(tmp_path: Path, name: str, said: str) -> None:
    """One sentence, status 2."""
    (tmp_path / "not-a-module.py").write_text(APP)
    done = ZYGOTE.run(
        [sys.executable, "-m", "propylon", "routes", "--app", name], cwd=tmp_path, env=environment()
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_strict_is_for_warnings() -> None:
    """Without it a warning is status 0; a good file is 0 with it, and a problem 2."""
    server = f"server: {{port: {free_port()}}}\n"
    written(server + "services: {a: {url: 'http://a'}}\nroutes: [{path: /a, service: a}]\n")
    assert call("check").exit_code == 0
    assert call("check", "--strict").exit_code == 1
    open_to_all = "routes: [{path: /a, service: a, auth: none}]\n"
    written(server + "services: {a: {url: 'http://a'}}\n" + open_to_all)
    assert call("check", "--strict").exit_code == 0
    written(BROKEN)
    assert call("check", "--strict").exit_code == 2


def test_the_version_is_shown() -> None:
    """By the command, with the implementation that runs, and by the package."""
    shown = f"propylon {propylon.__version__} ({native.implementation})\n"
    assert call("--version").stdout == shown
    assert set(propylon.__all__) == set(dir(propylon))


@pytest.mark.parametrize("command", [[], ["run"], ["user", "add"]])
def test_help_has_a_short_name(command: list[str]) -> None:
    """-h, as people type it."""
    assert call(*command, "-h").stdout == call(*command, "--help").stdout


def test_init_writes_what_check_accepts() -> None:
    """The starter and the schema are written, and the starter is valid as it stands."""
    done = call("init")
    assert done.exit_code == 0
    assert "propylon check" in done.stdout
    assert json.loads(Path("propylon.schema.json").read_text()) == json_schema()
    assert call("check").exit_code == 0


def test_init_overwrites_only_when_told() -> None:
    """What is there stays as it is without --force."""
    file = written("# mine\n")
    done = call("init")
    assert done.exit_code == 1
    assert done.stderr == "propylon: propylon.yaml exists already; --force overwrites\n"
    assert file.read_text() == "# mine\n"
    assert not Path("propylon.schema.json").exists()
    assert call("init", "--force").exit_code == 0
    assert file.read_text() != "# mine\n"


def test_init_cannot_write_into_nowhere() -> None:
    """A folder that is not there: one sentence, status 1."""
    done = call("init", "--config", "no/where.yaml")
    assert done.exit_code == 1
    assert done.stderr == "propylon: cannot write no/where.yaml: no such file or directory\n"


def test_schema_prints_the_schema() -> None:
    """What editors complete from, as text that any JSON reader takes."""
    assert json.loads(call("schema").stdout) == json_schema()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["demo", "--help"]])
def test_help_needs_no_framework(arguments: list[str]) -> None:
    """Help comes without importing FastAPI, uvicorn or yaml: it is there at once."""
    code = (
        "import sys, propylon.cli.main\n"
        f"sys.argv = ['propylon', *{arguments!r}]\n"
        "try:\n    propylon.cli.main.main()\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "heavy = {'fastapi', 'uvicorn', 'yaml', 'prometheus_client'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
