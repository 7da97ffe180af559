"""`propylon import`: where it writes, what it prints, and the status that it ends with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from propylon.cli.main import app
from propylon.config.reading.load import load

OPEN = '_format_version: "3.0"\nservices: [{name: a, url: "http://a.internal:8000", routes: [{name: r, paths: [/]}]}]\n'
KEYED = OPEN.replace("paths: [/]", "paths: [/], plugins: [{name: key-auth}]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a file of Kong's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kong.yml").write_text(OPEN)
    return tmp_path


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["import", *arguments])


def test_the_file_goes_to_standard_output_and_the_report_to_standard_error(folder: Path) -> None:
    """What is on standard output alone is the file."""
    done = run("kong", "kong.yml")
    assert done.exit_code == 0
    (folder / "out.yaml").write_text(done.stdout)
    assert [one.path for one in load(folder / "out.yaml", {}).config.routes] == ["/"]
    assert "kong.yml:2  translated  services[0].url: services.a.url\n" in done.stderr
    assert done.stderr.endswith(" 0 not translated\n")


def test_a_lost_protection_is_the_status(folder: Path) -> None:
    """1, and the file is written all the same: its route is closed."""
    (folder / "kong.yml").write_text(KEYED)
    done = run("kong", "kong.yml", "-o", "propylon.yaml")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "The route / is written closed. To do: propylon checks no API keys yet" in done.stderr
    (route,) = load(folder / "propylon.yaml", {}).config.routes
    assert route.respond is not None
    assert route.respond.status == 503


def test_nothing_is_overwritten_unless_it_is_forced(folder: Path) -> None:
    """Neither the file nor the report; nothing is written then."""
    (folder / "propylon.yaml").write_text("mine")
    for options in (("-o", "propylon.yaml"), ("-o", "new.yaml", "--report", "propylon.yaml")):
        done = run("kong", "kong.yml", *options)
        assert done.exit_code == 2
        assert "propylon.yaml exists already; --force overwrites" in done.stderr
    assert (folder / "propylon.yaml").read_text() == "mine"
    assert not (folder / "new.yaml").exists()
    assert run("kong", "kong.yml", "-o", "propylon.yaml", "--force").exit_code == 0
    assert "services:" in (folder / "propylon.yaml").read_text()


def test_the_report_as_json_and_as_a_file(folder: Path) -> None:
    """For programs: each finding with file, line and verdict."""
    done = run("kong", "kong.yml", "--json", "--report", "report.json")
    data = json.loads((folder / "report.json").read_text())
    assert data == json.loads(done.stderr)
    assert data["status"] == 0
    assert {"file", "line", "what", "verdict", "text", "todo", "closed"} == set(data["findings"][0])


def test_what_cannot_be_read_is_status_2(folder: Path) -> None:
    """An unknown format, a file that is not there, one of another kind, a folder that is not there."""
    (folder / "other.yml").write_text("a: 1\n")
    for arguments, why in (
        (("konk", "kong.yml"), 'no format "konk"; there are kong, '),
        (("kong", "none.yml"), "none.yml: cannot be read: no such file"),
        (("kong", "other.yml"), "other.yml:1: no _format_version"),
        (("kong", "kong.yml", "-o", "no/such.yaml"), "cannot write no/such.yaml"),
    ):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert why in done.stderr, done.stderr
