"""`propylon check` and what may stand in a file, but is hardly meant."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from propylon.cli.main import app

DOUBTFUL = """\
services: {a: {url: "http://127.0.0.1:1"}}
routes:
  - {path: /a, service: a}
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
    """--format json: problems and warnings apart, each with place, where and message."""
    done = check(DOUBTFUL, "--format", "json")
    warning = {"place": "propylon.yaml:3", "where": "routes[0]", "message": DOUBT}
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
