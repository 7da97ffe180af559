"""check, routes, init and schema: what they print, and the status they end with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from propylon.cli.main import app
from propylon.config.models.auth import AuthConfig
from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.json_schema import json_schema
from tests.support.zygote import ROOT

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


def test_routes_are_aligned_where_there_is_no_terminal() -> None:
    """Plain columns, no lines, nothing cut: `grep` and `awk` can read it."""
    written(GOOD)
    lines = call("routes").stdout.splitlines()
    head = lines[0]
    assert head.split("  ")[0] == "HOST"
    row = next(line for line in lines if line.endswith("export"))
    columns = {
        name: row[head.index(name) :].split("  ")[0] for name in ("PATH", "SERVICE", "TOTAL")
    }
    assert columns == {"PATH": "/api/orders/export[/...]", "SERVICE": "orders", "TOTAL": "5s"}
    assert "rewrite /v2/export" in row


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
