"""The audit log: what a record says, what it hides, and where it goes."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.proxy.route import PrivacyPreference
from propylon.telemetry.access_log import as_text
from propylon.telemetry.audit import SILENT, Audit, as_line, pseudonymous
from propylon.telemetry.files import File, check_file
from propylon.telemetry.record import record
from propylon.telemetry.writer import LineWriter
from tests.proxy.doubles import ENTROPY, Client, request, route
from tests.upstream.peer import run

KEY = b"k" * 32
STRICT = PrivacyPreference("strict", b"")


def exchange(*, private: bool = False, subject: str = "ann") -> Exchange:
    """A request of a user."""
    found = Exchange(request(b"/api/v1/users/ann"), Client(), b"%080x" % ENTROPY, 0.0)
    found.principal = Principal(subject)
    found.route = route(name="/users/{name}")
    if private:
        found.privacy = STRICT
    return found


def written(**fields: Any) -> dict[str, Any]:
    """The record that an audit log writes."""
    records: list[dict[str, Any]] = []
    audit = Audit(KEY)
    audit.attach(records.append)
    audit.record("revoke", fields.pop("outcome", "success"), **fields)
    [found] = records
    return found


def test_who_what_from_where() -> None:
    """A record has the access log's names for the same facts."""
    found = written(exchange=exchange(), target="user:bob")
    assert (found["event"], found["action"], found["outcome"]) == ("audit", "revoke", "success")
    assert (found["principal"], found["target"], found["level"]) == ("ann", "user:bob", "info")
    logged = record(exchange(), "info", "now")
    shared = ("client_ip", "request_id", "trace_id", "method", "path", "route")
    assert {name: found[name] for name in shared} == {name: logged[name] for name in shared}
    assert found["time"].endswith("Z")


def test_of_which_issuer() -> None:
    """Another issuer's ann is not ours; a token that names no issuer has none in the record either."""
    asked = exchange()
    asked.principal = Principal("ann", issuer="https://id.example")
    found = written(exchange=asked)
    assert (found["principal"], found["issuer"]) == ("ann", "https://id.example")
    assert written(exchange=exchange())["issuer"] is None


def test_a_failure_says_why() -> None:
    """And is a warning."""
    found = written(exchange=exchange(subject=""), outcome="failure", error="AUTH_ERROR: no")
    assert (found["level"], found["outcome"]) == ("warning", "failure")
    assert (found["principal"], found["error"]) == ("anonymous", "AUTH_ERROR: no")


def test_an_event_without_a_request() -> None:
    """A reload by a signal has no client and no user."""
    found = written(target="configuration:propylon.yaml")
    assert {found[name] for name in ("principal", "client_ip", "request_id", "path")} == {None}


def test_strict_privacy_hides_users_behind_one_hash_each() -> None:
    """In the principal, in the target and in the path; other targets are no users."""
    found = written(exchange=exchange(private=True), target="user:ann")
    hashed = pseudonymous(KEY, "ann")
    assert (found["principal"], found["target"]) == (hashed, f"user:{hashed}")
    assert "ann" not in json.dumps(found)
    instance = written(exchange=exchange(private=True), target="instance:orders/ann:80")
    assert instance["target"] == "instance:orders/ann:80"
    assert written(exchange=exchange(private=True, subject=""))["principal"] == "anonymous"


def test_the_hash_needs_the_key() -> None:
    """Without the key no list of names leads back; with another key there is another hash."""
    assert pseudonymous(KEY, "ann") == pseudonymous(KEY, "ann")
    assert pseudonymous(KEY, "ann") != pseudonymous(KEY, "bob")
    assert pseudonymous(KEY, "ann") != pseudonymous(b"x" * 32, "ann")
    keyed, random = Audit(), Audit()
    keyed.use_key(KEY)
    random.use_key(b"")
    got: list[dict[str, Any]] = []
    for audit in (keyed, random, Audit(KEY)):
        audit.attach(got.append)
        audit.record("login", "success", exchange=exchange(private=True))
    assert got[0]["principal"] == got[2]["principal"] != got[1]["principal"]


def test_a_target_is_bounded() -> None:
    """A client chooses the name with which a login fails."""
    assert len(written(target="user:" + "a" * 10_000)["target"]) == 256


def test_a_target_is_always_text() -> None:
    """A client may send half a surrogate pair; the record is written all the same."""
    assert json.loads(as_line(written(target="user:\ud800")))["target"] == "user:?"


def test_nothing_is_attached() -> None:
    """The record is dropped: before the start, after the stop, and where endpoints are tested alone."""
    SILENT.record("login", "success", exchange=exchange())
    records: list[dict[str, Any]] = []
    audit = Audit()
    audit.attach(records.append)
    audit.attach(None)
    audit.record("login", "success")
    assert records == []


def test_as_text() -> None:
    """On a terminal a record is one line, whatever a client wrote."""
    found = written(exchange=exchange(), target="user:a\nb", outcome="failure", error="no")
    [line] = as_text(found).decode().splitlines()
    assert "audit revoke failure user:a\\nb by=ann client=192.0.2.1" in line
    assert line.endswith(" no")


# The file


def lines(file: Path) -> list[str]:
    """What is in a file."""
    return file.read_text().splitlines()


class Failures:
    """Keeps what could not be written."""

    def __init__(self) -> None:
        self.errors: list[OSError] = []

    def lost(self, error: OSError, batch: bytes) -> None:
        """Keep it."""
        self.errors.append(error)

    def well(self) -> None:
        """It was written."""


def test_the_file_is_appended_to_and_follows_a_rotation(tmp_path: Path) -> None:
    """After logrotate has renamed it, the next lines are in a new one; nothing is lost."""
    file, failures = tmp_path / "audit.log", Failures()
    file.write_text("before\n")
    write = File(str(file), failures)
    write(b"one\n")
    file.rename(tmp_path / "audit.log.1")
    write(b"two\n")
    write(b"three\n")
    assert lines(tmp_path / "audit.log.1") == ["before", "one"]
    assert lines(file) == ["two", "three"]
    assert (file.stat().st_mode & 0o777, failures.errors) == (0o600, [])


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Each batch that is lost is reported; as soon as it can be written again, it is."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file, failures = folder / "audit.log", Failures()
    write = File(str(file), failures)
    file.unlink()
    folder.rmdir()
    write(b"lost\n")
    write(b"lost\n")
    assert [type(error) for error in failures.errors] == [FileNotFoundError] * 2
    folder.mkdir()
    write(b"kept\n")
    assert lines(file) == ["kept"]


def test_a_full_disk_is_said() -> None:
    """A write that fails is no success."""
    failures = Failures()
    File("/dev/full", failures)(b"lost\n")
    assert len(failures.errors) == 1


def test_it_is_checked_before_the_start(tmp_path: Path) -> None:
    """A file that cannot be opened is an error then; one that can be is made."""
    check_file(str(tmp_path / "audit.log"))
    assert (tmp_path / "audit.log").exists()
    with pytest.raises(OSError, match="directory"):
        check_file(str(tmp_path))


def test_a_fifo_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    """It does not hold the start; with a reader it is written to, and a batch waits until there is room for it."""
    path, batch = tmp_path / "fifo", b"x" * 200_000 + b"\n"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        check_file(str(path))
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reading, "rb") as fifo, ThreadPoolExecutor(1) as pool:
        file = File(str(path), Failures())
        os.set_blocking(reading, True)
        reader = pool.submit(fifo.read)
        file(batch)
        file.close()
        assert reader.result() == batch


def test_through_the_writer(tmp_path: Path) -> None:
    """Records are lines of JSON in the file."""
    file = tmp_path / "audit.log"

    async def main() -> None:
        writer = LineWriter(File(str(file), Failures()), asyncio.get_running_loop())
        audit = Audit(KEY)
        audit.attach(lambda fields: writer.write(as_line(fields)))
        audit.record("login", "success", exchange=exchange(), target="user:ann")
        writer.close()

    run(main())
    assert json.loads(lines(file)[0])["target"] == "user:ann"
