"""`propylon check` and what may stand in a file, but is hardly meant."""

import json
import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from propylon.cli.main import app
from propylon.process.holder import holder
from tests.support.certificates import Authority

DOUBTFUL = """\
services: {a: {url: "http://127.0.0.1:1"}}
routes:
  - {path: /a, service: a}
server: {port: 0}
"""
DOUBT = (
    "needs a token, and there is nothing to verify one with, so it answers 503;"
    " set auth.jwt.secret (or JWT_SECRET_KEY), public_key or jwks_url, or write `auth: none`"
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, with nothing of the session's environment that would matter."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "JWT_SECRET_KEY", "DEBUG", "PROPYLON_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def check(text: str, *arguments: str) -> Result:
    """Check a text as ./propylon.yaml."""
    Path("propylon.yaml").write_text(text)
    return CliRunner().invoke(app, ["check", *arguments])


def test_a_doubt_is_a_warning_and_no_failure() -> None:
    """Status 0, the summary on stdout, each doubt with its line on stderr."""
    done = check(DOUBTFUL)
    assert done.exit_code == 0
    assert done.stdout == "propylon.yaml: valid, 1 service, 1 route\n"
    assert done.stderr == f"warning: propylon.yaml:3 routes[0]: {DOUBT}\n"


def test_doubts_for_programs() -> None:
    """--format json: problems and warnings apart, each with place, where and message; of a warning also the rule."""
    done = check(DOUBTFUL, "--format", "json")
    warning = {"place": "propylon.yaml:3", "where": "routes[0]", "message": DOUBT, "rule": "PRP107"}
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"problems": [], "warnings": [warning]}
    assert done.stderr == ""


def test_nothing_to_say_about_a_good_file() -> None:
    """Neither problems nor warnings."""
    good = DOUBTFUL.replace("service: a}", "service: a, auth: none}")
    assert check(good).stderr == ""
    done = check(good, "--format", "json")
    assert json.loads(done.stdout) == {"problems": [], "warnings": []}


def test_problems_come_without_doubts() -> None:
    """A file that cannot be used has its problems; what is doubtful in it can wait."""
    done = check("debug: maybe\n" + DOUBTFUL, "--format", "json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert [problem["where"] for problem in found["problems"]] == ["debug"]
    assert found["warnings"] == []


def test_a_published_secret_stops_the_start() -> None:
    """Status 2, how to make a secret, and the secret nowhere."""
    done = check("auth: {jwt: {secret: super-secret-key}}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("propylon.yaml:1 auth.jwt.secret: is a published placeholder")
    assert 'python -c "import secrets; print(secrets.token_urlsafe(48))"' in done.stderr
    assert "super-secret-key" not in done.stderr


# The database

GUARDED = """\
auth: {{jwt: {{secret: kV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w}}, tokens: {{database: "{url}"}}}}
services: {{a: {{url: "http://127.0.0.1:1"}}}}
routes:
  - {{path: /a, service: a}}
server: {{port: 0}}
"""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:s3cret@a/b?keepalives=1", 'the parameter "keepalives" cannot be passed'),
        ("postgresql://ann:s3cret@a:word/b", "the port in the URL of the database is no number"),
        ("sqlite:///a.db?mode=ro", 'the parameter "mode" is not known for SQLite'),
        ("sqlite:///:memory:", "a database in memory is lost"),
    ],
)
def test_a_url_that_the_driver_cannot_use(url: str, said: str) -> None:
    """It is a problem with its line, before a gateway with it reads no revocation."""
    done = check(GUARDED.format(url=url))
    assert done.exit_code == 2
    assert done.stderr.startswith(f"propylon.yaml:1 auth.tokens.database: {said}")
    assert "s3cret" not in done.output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///nowhere/a.db", "No such file or directory"),
        ("sqlite:///folder", "Is a directory"),
        ("sqlite:///text.db", "file is not a database"),
        ("postgresql://ann:s3cret@127.0.0.1:1/b", "onnect"),
    ],
)
def test_a_database_that_cannot_be_reached(url: str, said: str) -> None:
    """With --connect it is a problem; without it only what is written is looked at."""
    Path("folder").mkdir()
    Path("text.db").write_text("no database" * 200)
    assert check(GUARDED.format(url=url)).exit_code == 0
    done = check(GUARDED.format(url=url), "--connect")
    assert done.exit_code == 2
    assert "auth.tokens.database: database: " in done.stderr
    assert said in done.stderr
    assert "s3cret" not in done.output


def test_a_database_that_is_not_there_yet() -> None:
    """The first user creates it, and --connect does not."""
    done = check(GUARDED.format(url="sqlite:///a.db"), "--connect")
    assert (done.exit_code, done.stderr) == (0, "")
    assert not Path("a.db").exists()


# Listeners and certificates


def found(text: str) -> tuple[list[str], list[str]]:
    """The problems and the doubts about a text, each without its place."""
    said = json.loads(check(text, "--format", "json").stdout)
    return (
        [f"{one['where']}: {one['message']}" for one in said["problems"]],
        # None of these texts has a route.
        [
            f"{one['where']}: {one['message']}"
            for one in said["warnings"]
            if one["where"] != "routes"
        ],
    )


def test_addresses_that_cannot_be_bound() -> None:
    """A host that is not known, or not of this machine, keeps the gateway from starting."""
    listen = "['no.such.host.invalid:0', '192.0.2.1:0', '127.0.0.1:0']"
    assert found(f"server: {{listen: {listen}}}") == (
        [
            'server.listen[0]: cannot listen on "no.such.host.invalid": the host is not known',
            "server.listen[1]: cannot listen on 192.0.2.1:0: cannot assign requested address",
        ],
        [],
    )
    assert found("server: {host: 192.0.2.1, port: 0}")[0] == [
        "server.port: cannot listen on 192.0.2.1:0: cannot assign requested address"
    ]


def test_a_port_in_use_is_a_doubt() -> None:
    """The gateway itself may run there, and the check come before its reload; `nginx -t` does the same."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        user = holder(other.getsockname()[1]) or "this gateway or by another program"
        doubt = f"cannot listen on {address}: address already in use, by {user}"
        texts = {
            "server.listen[0]": f"server: {{listen: ['{address}']}}",
            "admin.listen": f"server: {{port: 0}}\nadmin: {{listen: '{address}'}}",
            "metrics.listen": f"server: {{port: 0}}\nmetrics: {{listen: '{address}'}}",
        }
        for where, text in texts.items():
            assert found(text) == ([], [f"{where}: {doubt}"])


def test_unix_sockets_are_only_looked_at(tmp_path: Path) -> None:
    """A missing directory and a file in the way are problems; a stale socket is none, and stays where it is."""
    stale, live, file = tmp_path / "stale", tmp_path / "live", tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(live))
        other.listen()
        entries = [f"unix:{path}" for path in (stale, live, file, tmp_path / "none" / "p.sock")]
        problems, doubts = found(f"server: {{listen: {[*entries, 'systemd']}}}")
    in_the_way = "a file is there that is no socket; remove it, or write another path"
    assert problems == [
        f"server.listen[2]: cannot listen on unix:{file}: {in_the_way}",
        f"server.listen[3]: there is no directory {tmp_path / 'none'}; make it, or write another path",
    ]
    assert doubts == []
    assert stale.is_socket()
    _, doubts = found(f"server: {{listen: ['unix:{stale}']}}")
    assert doubts == []
    with socket.socket(socket.AF_UNIX) as other:
        live.unlink()
        other.bind(str(live))
        other.listen()
        _, doubts = found(f"server: {{listen: ['unix:{live}']}}")
    assert doubts == [
        f"server.listen[0]: cannot listen on unix:{live}: another process listens there"
    ]


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that cannot be read, another certificate's key, and authorities that are none."""
    authority = Authority(tmp_path)
    one, two = authority.sign("one", "a.example"), authority.sign("two", "b.example")
    rest = "server: {port: 0}\n"
    text = f"{rest}tls: {{certificate: {tmp_path}/none, key: {one.key}}}"
    assert found(text)[0] == [
        f"tls.certificate: cannot read {tmp_path}/none or {one.key}: No such file or directory"
    ]
    text = f"{rest}tls: {{certificate: {one.certificate}, key: {two.key}}}"
    assert found(text)[0][0].startswith(
        f"tls.certificate: the certificate {one.certificate} and the key {two.key} do not fit: "
    )
    own = f"certificate: {one.certificate}, key: {one.key}"
    text = f"{rest}tls: {{{own}, clients: {{ca: {one.key}}}}}"
    assert found(text)[0][0].startswith(
        f"tls.clients.ca: the authorities of clients, {one.key}, hold no certificate: "
    )
    more = f"certificates: [{{certificate: {one.certificate}, key: {two.key}}}]"
    assert found(f"{rest}tls: {{{own}, {more}}}")[0][0].startswith("tls.certificates[0]: ")
    if os.geteuid():
        one.key.chmod(0)
        assert "Permission denied" in found(f"{rest}tls: {{{own}}}")[0][0]


def test_certificates_that_clients_refuse(tmp_path: Path) -> None:
    """One that has expired is a doubt, with its place; the gateway starts with it."""
    authority = Authority(tmp_path)
    good = authority.sign("good", "a.example")
    old = authority.sign("old", "b.example", lasts=-timedelta(days=2))
    written = f"{{certificate: {old.certificate}, key: {old.key}}}"
    own = f"certificate: {good.certificate}, key: {good.key}"
    problems, doubts = found(f"server: {{port: 0}}\ntls: {{{own}, certificates: [{written}]}}")
    assert problems == []
    assert len(doubts) == 1
    assert doubts[0].startswith(f"tls.certificates[0]: {old.certificate} has expired: 20")
    _, doubts = found(f"server: {{port: 0}}\ntls: {written}")
    assert doubts[0].startswith(f"tls.certificate: {old.certificate} has expired: ")
