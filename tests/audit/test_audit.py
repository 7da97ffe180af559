"""The rules of an audit: each has a message that can be read, none cries over a good file, each can be silenced."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from propylon.cli.bearer import VARIABLE
from propylon.cli.main import app
from propylon.commands.audit.catalogue import OBSERVED, RULES
from propylon.commands.audit.report import as_data, fingerprints
from propylon.commands.audit.sarif import as_sarif
from propylon.commands.audit.scrape import NoMetrics, read
from propylon.config.reading.environment import TOKEN_VARIABLE
from propylon.config.reading.rules import DOUBTS
from tests.audit.golden_run import FOLDER, NOW, report, told
from tests.config.golden_files import Golden
from tests.support.client import RawClient, request
from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[2]
OWN = [rule.id for rule in RULES if rule not in DOUBTS]
SECRET = "hV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, with nothing of the session's environment that would matter."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "JWT_SECRET_KEY", "DEBUG", "PROPYLON_CONFIG", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    """The command, without a gateway unless it is named."""
    more = () if "--metrics" in arguments else ("--metrics", "none")
    return CliRunner().invoke(app, ["audit", *arguments, *more])


def golden(rule: str) -> Golden:
    """The golden file of a rule."""
    return Golden.of((FOLDER / f"{rule}.txt").read_text(encoding="utf-8"))


# Messages


@pytest.mark.parametrize("rule", OWN)
def test_golden(rule: str) -> None:
    """Each rule that only an audit has says what its golden file says, and is found there; UPDATE_GOLDEN=1 writes it."""
    file = golden(rule)
    found = report(file.files["propylon.yaml"], file.files.get("metrics"))
    said = told(found)
    if os.environ.get("UPDATE_GOLDEN"):
        file.expected = said
        (FOLDER / f"{rule}.txt").write_text(file.text(), encoding="utf-8")
    assert said == file.expected != ""
    assert {problem.rule for problem in found.found} == {rule}
    silenced = report(file.files["propylon.yaml"], file.files.get("metrics"), (rule,))
    assert rule == "PRP001" or not silenced.found


def test_rules_are_numbered_and_told() -> None:
    """Ids and names are unique and in order; each rule is in the reference, and has sentences to say."""
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))
    assert len({rule.name for rule in RULES}) == len(ids)
    page = (ROOT / "docs/reference/audit.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"### {rule.id}\n" in page
        for sentence in (rule.finds, rule.why, rule.mend):
            assert sentence in page
            assert sentence.endswith(".")


def test_every_doubt_of_check_is_one_of_a_rule() -> None:
    """One mechanism: what check warns of has the id of a rule, wherever it is made, and each rule is used."""
    source = "".join(
        file.read_text()
        for file in (ROOT / "src/propylon").rglob("*.py")
        if file.name != "rules.py"
    )
    names = re.findall(
        r"(?m)^([A-Z_]+) = _doubt\(", (ROOT / "src/propylon/config/reading/rules.py").read_text()
    )
    assert len(names) == len(DOUBTS)
    assert [name for name in names if not re.search(rf"\b{name}\b", source)] == []


def test_doubts_of_check_in_the_audit() -> None:
    """The same place and words, under the id that `check --format json` has, too."""
    text = "services: {a: {url: 'http://127.0.0.1:1'}}\nroutes: [{path: /a, service: a}]\n"
    Path("propylon.yaml").write_text(text)
    checked = json.loads(CliRunner().invoke(app, ["check", "--format", "json"]).stdout)
    audited = json.loads(run("--format", "json").stdout)
    keys = ("place", "where", "message", "rule")
    assert [[one[key] for key in keys] for one in checked["warnings"]] == [
        [one[key] for key in keys] for one in audited["findings"]
    ]
    assert checked["warnings"][0]["rule"] == "PRP107"


# Good files

GOOD = """\
auth: {jwt: {discovery_url: "https://id.example.com/.well-known/openid-configuration", audience: shop}}
admin: {listen: 127.0.0.1:18001, scope: gateway:admin, scopes: {metrics: gateway:metrics}}
metrics: {allow: [10.0.0.0/8]}
registry: {enabled: false}
services:
  orders:
    instances: ["http://orders-1:8000", "http://orders-2:8000"]
    timeouts: {first_byte: 2s, total: 5s}
    health: {path: /health, interval: 10s}
    rate_limit: {rate: 500/s, key: service}
  reports: {url: "https://reports.example.com", timeouts: {first_byte: 20s}}
defaults: {rate_limit: {rate: 20/s, burst: 60}}
routes:
  - {path: /orders, service: orders, methods: [GET, HEAD], scopes: ["orders:read"], cache: {ttl: 10s, by: caller}}
  - {path: /orders, service: orders, methods: [POST, PUT, DELETE], scopes: ["orders:write"]}
  - {path: /reports, service: reports, scopes: ["reports:use"]}
"""
MEASURED = """\
# TYPE propylon_requests_total counter
propylon_requests_total{route="/orders",service="orders",method="GET",status="200"} 90000
propylon_requests_total{route="/orders",service="orders",method="POST",status="200"} 9000
propylon_requests_total{route="/reports",service="reports",method="GET",status="200"} 2000
propylon_requests_total{route="/metrics",service="propylon",method="GET",status="200"} 99
# TYPE propylon_request_duration_seconds histogram
propylon_request_duration_seconds_bucket{le="0.25",route="/orders",service="orders"} 98000
propylon_request_duration_seconds_bucket{le="0.5",route="/orders",service="orders"} 99000
propylon_request_duration_seconds_bucket{le="+Inf",route="/orders",service="orders"} 99000
propylon_request_duration_seconds_bucket{le="5.0",route="/reports",service="reports"} 2000
propylon_request_duration_seconds_bucket{le="+Inf",route="/reports",service="reports"} 2000
# TYPE propylon_limit_decisions_total counter
propylon_limit_decisions_total{limit="defaults/default",decision="allowed"} 100000
propylon_limit_decisions_total{limit="defaults/default",decision="refused"} 12
propylon_limit_decisions_total{limit="service:orders/default",decision="allowed"} 98000
propylon_limit_decisions_total{limit="service:orders/default",decision="refused"} 1
# TYPE propylon_cache_total counter
propylon_cache_total{route="/orders",result="hit"} 40000
propylon_cache_total{route="/orders",result="miss"} 50000
propylon_config_last_success_timestamp_seconds 1000
"""


def test_nothing_about_a_good_file_and_good_traffic() -> None:
    """Neither findings, nor anything that could not be judged."""
    found = report(GOOD, MEASURED)
    assert (found.found, found.unseen) == ((), ())


def test_routes_without_a_service_are_judged_too() -> None:
    """They have no timeouts, no breaker and no limit of a service; one that nobody asks is found."""
    more = """\
  - {name: closed, path: /closed, auth: none, respond: {status: 503}}
  - {name: moved, path: /moved, auth: none, redirect: {to: "https://new.example.com/{rest}"}}
"""
    line = 'propylon_requests_total{route="moved",service="",method="GET",status="308"} 2000\n'
    kind, rest = MEASURED.split("\n", 1)
    found = report(GOOD + more, f"{kind}\n{line}{rest}")
    assert [(one.where, one.rule) for one in found.found] == [("routes[3]", "PRP303")]
    assert found.unseen == ()


@pytest.mark.parametrize("full", [False, True])
def test_nothing_about_the_starter(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`propylon init`, with --full too."""
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    assert CliRunner().invoke(app, ["init", *(["--full"] if full else [])]).exit_code == 0
    done = run("--fail-on", "note")
    assert (done.exit_code, "0 errors, 0 warnings, 0 notes" in done.stdout) == (
        0,
        True,
    ), done.output


@pytest.mark.parametrize(
    "example", sorted(path.parent.name for path in (ROOT / "examples").glob("*/propylon.yaml"))
)
def test_nothing_about_the_examples(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file as it stands there, with a secret in the environment as each asks for."""
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    done = run("--config", str(ROOT / "examples" / example / "propylon.yaml"), "--fail-on", "note")
    assert (done.exit_code, "0 errors, 0 warnings, 0 notes" in done.stdout) == (
        0,
        True,
    ), done.output


# Too little traffic


def test_too_few_requests_are_not_judged() -> None:
    """Each rule that needs traffic says that it saw too little, and the least that it needs."""
    text = "services: {a: {url: 'http://a:1'}}\nroutes: [{path: /a, service: a, auth: none, rate_limit: {rate: 1/s}, cache: {ttl: 5s}}]\n"
    one = '# TYPE propylon_requests_total counter\npropylon_requests_total{route="/a",service="a",method="GET",status="200"} 1\n'
    found = report(text, one)
    assert found.found == ()
    why = {unseen.rule: unseen.why for unseen in found.unseen}
    assert why == {
        "PRP301": "1 of 1 timeouts guarded fewer than 1000 requests",
        "PRP302": "2 of 2 timeouts guarded fewer than 1000 requests",
        "PRP303": "1 of 1000 requests",
        "PRP304": "1 of 1 limits made fewer than 10000 decisions",
        "PRP305": "it is not known since when the configuration is in force",
        "PRP306": "1 of 1 caches were asked fewer than 1000 times",
    }


def test_a_young_configuration_is_not_judged_by_what_did_not_happen() -> None:
    """A route that a reload has just brought was not hit yet."""
    young = golden("PRP303").files["metrics"].replace(" 1000.0\n", f" {NOW - 60}\n")
    found = report(golden("PRP303").files["propylon.yaml"], young)
    assert "PRP303" not in {problem.rule for problem in found.found}
    assert "the configuration is in force for 60 of 3600 seconds" in {
        one.why for one in found.unseen
    }


def test_without_a_gateway_nothing_is_observed() -> None:
    """It is said of each rule, with the reason, and is no failure."""
    Path("propylon.yaml").write_text(GOOD)
    done = json.loads(run("--format", "json").stdout)
    assert {one["rule"] for one in done["not_observed"]} == {rule.id for rule in OBSERVED}
    assert done["observed"] == ""


# A real gateway


def test_what_a_running_gateway_has_measured(tmp_path: Path) -> None:
    """Found by its own file, by a URL with the text saved, and as OpenMetrics; a token is read from a file."""
    with Upstream() as up:
        config = {
            "services": {"a": {"url": f"http://127.0.0.1:{up.port}"}},
            "routes": [
                {"name": name, "path": f"/{name}", "service": "a", "auth": "none"}
                for name in ("used", "unused")
            ],
        }
        gateway = Gateway("fast", config, tmp_path)
        try:
            gateway.wait_ready()
            with RawClient(gateway.port) as client:
                for _ in range(5):
                    assert client.send(request(target="/used")).read().status == 200
            found = _found(gateway, "--metrics", f"http://127.0.0.1:{gateway.port}")
            assert _found(gateway, "--metrics", str(_saved(gateway))) == found
            here = CliRunner().invoke(app, [*_judged(gateway)])
            assert json.loads(here.stdout)["findings"] == found
        finally:
            gateway.stop()
    assert {(one["rule"], one["where"]) for one in found} >= {("PRP303", "routes[1]")}
    assert "PRP303" not in {one["rule"] for one in found if one["where"] == "routes[0]"}


def _judged(gateway: Gateway) -> list[str]:
    least = ["--min-requests", "5", "--min-age", "0s"]
    return ["audit", "--config", str(gateway.file), "--format", "json", *least]


def _found(gateway: Gateway, *where: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*_judged(gateway), *where])
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found


def _saved(gateway: Gateway) -> Path:
    with RawClient(gateway.port) as client:
        accept = [("Accept", "application/openmetrics-text; version=1.0.0")]
        text = client.send(request(target="/metrics", headers=accept)).read().body
    assert text.endswith(b"# EOF\n")
    Path("saved.txt").write_bytes(text)
    return Path("saved.txt")


# What may go wrong


def test_exit_status() -> None:
    """0 by default; 1 from --fail-on at that level; 2 for a file that cannot be used, in every format."""
    Path("propylon.yaml").write_text(golden("PRP201").files["propylon.yaml"])
    statuses = {
        level: run("--fail-on", level).exit_code for level in ("never", "error", "warning", "note")
    }
    assert statuses == {"never": 0, "error": 0, "warning": 1, "note": 1}
    assert run("--fail-on", "warning", "--ignore", "PRP201").exit_code == 0
    Path("propylon.yaml").write_text("routez: []\n")
    for kind in ("text", "json", "sarif"):
        assert run("--format", kind).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ignore", "PRP999"], 'there is no rule "PRP999"'),
        (["--ignore", "PRP001"], "PRP001 cannot be silenced"),
        (["--metrics", "nowhere.txt"], "nowhere.txt cannot be read: no such file or directory"),
        (["--metrics", "page.html"], "page.html"),
        (["--metrics", "http://ann:secret@127.0.0.1:1/"], "is no URL of the form"),
        (["--metrics", "http://127.0.0.1:1/metrics"], "cannot be read: connection refused"),
        (["--metrics", "page.html", "--token-file", "no-token"], "no-token cannot be read"),
        (
            ["--metrics", "page.html", "--token-file", "page.html"],
            "page.html holds no bearer token",
        ),
        (["--min-age", "soon"], "--min-age must be a duration"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], said: str) -> None:
    """Status 2, one line that says why, and no secret in it."""
    Path("propylon.yaml").write_text(GOOD)
    Path("page.html").write_text("<html>hello</html>\n")
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_the_variable_of_the_token_is_a_known_one() -> None:
    """The command reads the variable that the configuration does not take for a stray one."""
    assert VARIABLE == TOKEN_VARIABLE


@given(st.text() | st.text(alphabet='propylon_{}="\n 1#TYPE,', max_size=200))
def test_no_text_of_anybody_breaks_the_audit(text: str) -> None:
    """It is read, or refused."""
    for body in (text, f"{MEASURED}{text}\n", f"{text}\n# EOF\n"):
        try:
            read(body)
        except NoMetrics as error:
            assert str(error)


def test_names_cannot_steer_the_terminal() -> None:
    """THREATS 72: the name of a route of a saved text is shown with escapes."""
    hostile = (
        'propylon_requests_total{route="/a\x1b[2J\u202e",service="x",method="GET",status="200"} 5\n'
    )
    found = report(
        "services: {a: {url: 'http://a:1'}}\nroutes: [{path: /a, service: a, auth: none}]\n",
        "# TYPE propylon_requests_total counter\n" + hostile,
    )
    said = told(found)
    assert "PRP307" in said
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert r"/a\x1b[2J\u202e" in said


# SARIF

_TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}


def _closed(required: str, **properties: Any) -> dict[str, Any]:
    """An object that must have these, and may have no others: as the published schema closes each of its objects."""
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


# What the standard asks of the parts that are used here (SARIF 2.1.0, 3.13 to 3.58), written down from its text.
SARIF = _closed(
    "version runs",
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": _closed(
        "tool",
        tool=_closed("driver", driver=_closed(
            "name",
            name={"type": "string"}, semanticVersion={"type": "string"}, informationUri={"type": "string", "format": "uri"},
            rules={"type": "array", "uniqueItems": True, "items": _closed(
                "id", id={"type": "string"}, name={"type": "string"}, shortDescription=_TEXT, fullDescription=_TEXT, help=_TEXT,
                helpUri={"type": "string", "format": "uri"}, defaultConfiguration=_closed("", level=_LEVEL),
            )},
        )),
        columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        invocations={"type": "array", "items": _closed(
            "executionSuccessful", executionSuccessful={"type": "boolean"},
            toolExecutionNotifications={"type": "array", "items": _closed(
                "message", message=_TEXT, level=_LEVEL,
                descriptor=_closed("", id={"type": "string"}, index={"type": "integer", "minimum": -1}),
            )},
        )},
        results={"type": "array", "items": _closed(
            "message", ruleId={"type": "string"}, ruleIndex={"type": "integer", "minimum": 0}, level=_LEVEL, message=_TEXT,
            partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
            locations={"type": "array", "items": _closed(
                "",
                physicalLocation=_closed(
                    "artifactLocation", artifactLocation=_closed("uri", uri={"type": "string", "format": "uri-reference"}),
                    region=_closed("startLine", startLine={"type": "integer", "minimum": 1}),
                ),
                logicalLocations={"type": "array", "items": _closed("", fullyQualifiedName={"type": "string"})},
            )},
        )},
    )},
)  # fmt: skip


@pytest.mark.parametrize("rule", OWN)
def test_sarif(rule: str) -> None:
    """What the standard asks for; the rule that a result points to; the line of the file."""
    file = golden(rule)
    found = report(file.files["propylon.yaml"], file.files.get("metrics"))
    log = as_sarif(found)
    jsonschema_rs.validate(SARIF, log, validate_formats=True)
    (one,) = log["runs"]
    result = one["results"][0]
    assert one["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == rule
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "propylon.yaml"
    assert f"propylon.yaml:{physical['region']['startLine']}" == found.found[0].place


def test_fingerprints_stay() -> None:
    """A new line, another route before it and other numbers change none; two findings never share one."""
    file = golden("PRP303")
    text, metrics = file.files["propylon.yaml"], file.files["metrics"]
    before = report(text, metrics)
    more = text.replace(
        "routes:\n",
        "# new\nroutes:\n  - {name: first, path: /first, service: orders, auth: none}\n",
    )
    first = "# TYPE propylon_requests_total counter\n"
    hit = metrics.replace(
        first,
        first
        + 'propylon_requests_total{route="first",service="orders",method="GET",status="200"} 7\n',
    )
    after = report(more, hit)
    assert fingerprints(after) == fingerprints(before)
    assert [one.place for one in after.found] != [one.place for one in before.found]
    assert len(set(fingerprints(before))) == len(before.found)
    assert [one["fingerprint"] for one in as_data(before)["findings"]] == fingerprints(before)  # type: ignore[attr-defined]
