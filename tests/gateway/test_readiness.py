"""A worker that starts, or replaces a dead one: it knows its keys and what was revoked before it accepts anybody."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.gateway.test_drain import until, workers
from tests.support import answers
from tests.support.client import Ended, ask
from tests.support.gateway import Config, Gateway
from tests.support.issuer import Issuer
from tests.support.tokens import SECRET, bearer, ec_key, mint
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer

GOOD = bearer(mint("ann", jti="good"))
REVOKED = bearer(mint("ann", jti="revoked"))
BOSS = bearer(mint("boss", scopes=["admin"]))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in which a token is revoked."""
    return tmp_path / "tokens.db"


def configuration(upstreams: Upstreams, auth: Config, workers: int = 1) -> Config:
    """A gateway with a route that wants a token, and one that does not."""
    return {
        "server": {"workers": workers},
        "auth": auth,
        "services": {"main": {"url": f"http://127.0.0.1:{upstreams.main.port}"}},
        "routes": [
            {"path": "/locked", "service": "main"},
            {"path": "/open", "service": "main", "auth": "none"},
        ],
    }


def by_secret(database: Path, **auth: Any) -> Config:
    """Verify with a secret."""
    return {"jwt": {"secret": SECRET}, "tokens": {"database": f"sqlite:///{database}"}, **auth}


def by_keys(issuer: Issuer, database: Path, **auth: Any) -> Config:
    """Verify with published keys."""
    tokens = {"enabled": False, "database": f"sqlite:///{database}"}
    return {"jwt": {"jwks_url": issuer.jwks_url}, "tokens": tokens, **auth}


def revoke(gateway: Gateway) -> None:
    """Revoke the one token."""
    form = b"token=" + REVOKED[0][1].removeprefix("Bearer ").encode()
    path = "/api/v1/auth/revoke"
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    answer = ask(gateway.port, "POST", path, headers=[*BOSS, kind], body=form)
    assert answer.status == 200, answer.body


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Let nobody read the database."""
    connection = sqlite3.connect(database, check_same_thread=False)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.close()


def status(gateway: Gateway, headers: list[tuple[str, str]] = GOOD, target: str = "/locked") -> int:
    """What a request gets."""
    return ask(gateway.port, target=target, headers=headers).status


def is_said(gateway: Gateway, text: str) -> bool:
    """Whether the log says it soon: lines are written in batches."""
    return until(lambda: text in gateway.said())


def test_the_first_answer_knows_what_was_revoked(
    start: Start, upstreams: Upstreams, database: Path
) -> None:
    """However long the database takes, no answer of a new gateway lets a revoked token pass."""
    config = configuration(upstreams, by_secret(database, startup_wait="60s"))
    first = start(config)
    revoke(first)
    assert status(first, REVOKED) == 401
    first.stop()
    with locked(database):
        found: list[int] = []

        def begin() -> None:
            second = start(config)  # returns with the first answer of /livez
            found.extend([status(second, REVOKED), status(second), status(second, [], "/readyz")])

        beginning = threading.Thread(target=begin)
        beginning.start()
        beginning.join(1.0)  # time enough to answer, for a gateway that would not wait
        assert found == []
    beginning.join()
    assert found == [401, 200, 200]


@pytest.mark.parametrize("on_failure", ["closed", "open"])
def test_a_database_that_cannot_be_read(
    start: Start, upstreams: Upstreams, database: Path, on_failure: str
) -> None:
    """After its time the gateway accepts, unready; tokens get 503, or pass if the operator says so by name."""
    auth = by_secret(database, startup_wait="200ms", revocation={"on_failure": on_failure})
    first = start(configuration(upstreams, auth))
    revoke(first)
    first.stop()
    kept = {file: file.read_bytes() for file in database.parent.glob("tokens.db*")}
    for file in kept:
        file.write_bytes(b"this is no database" * 1000)
    gateway = start(configuration(upstreams, auth))
    assert status(gateway, [], "/livez") == 200
    assert status(gateway, [], "/readyz") == 503
    assert status(gateway, [], "/open") == 200
    assert status(gateway, []) == 401
    expected = {"closed": (503, 503), "open": (200, 200)}[on_failure]
    assert (status(gateway), status(gateway, REVOKED)) == expected
    assert is_said(gateway, "the start goes on without the database")
    for file, content in kept.items():
        file.write_bytes(content)
    assert until(lambda: status(gateway, [], "/readyz") == 200)
    assert (status(gateway), status(gateway, REVOKED)) == (200, 401)


def test_the_first_request_waits_for_slow_keys(
    start: Start, upstreams: Upstreams, database: Path
) -> None:
    """A source that takes a second costs the start a second, and no request a 503."""
    key = ec_key("k")
    with Issuer() as issuer:
        issuer.publish(key)
        prompt = answers.plain(
            headers=["Content-Type: application/json"],
            body=b'{"keys": [%b]}' % json.dumps(key.jwk).encode(),
        )

        def slowly(peer: Peer, arrived: Arrived) -> None:
            time.sleep(1.0)
            prompt(peer, arrived)

        issuer.instead(slowly)
        gateway = start(configuration(upstreams, by_keys(issuer, database)))
        assert status(gateway, bearer(key.mint())) == 200


def test_keys_that_do_not_come(start: Start, upstreams: Upstreams, database: Path) -> None:
    """After its time the gateway accepts, unready: what needs no key works."""
    with Issuer() as issuer:
        issuer.publish(ec_key("k"))
        issuer.go_down()
        auth = by_keys(issuer, database, startup_wait="100ms")
        gateway = start(configuration(upstreams, auth))
        assert status(gateway, [], "/readyz") == 503
        assert status(gateway, [], "/open") == 200
        assert status(gateway, bearer(ec_key("k").mint())) == 503
        assert is_said(gateway, "the start goes on without the key set")
        issuer.come_up()


@pytest.mark.parametrize("edge", ["fast"], indirect=True)
def test_replaced_workers_answer_as_those_before_did(
    start: Start, upstreams: Upstreams, database: Path
) -> None:
    """Killed one by one and all at once while the source of keys is down: no good token is refused, no revoked passes."""
    key = ec_key("k")
    good, revoked = (bearer(key.mint(jti=jti)) for jti in ("good", "revoked"))
    boss = bearer(key.mint(scopes=["admin"]))
    with Issuer() as issuer:
        issuer.publish(key)
        gateway = start(configuration(upstreams, by_keys(issuer, database), workers=2))
        form = b"token=" + revoked[0][1].removeprefix("Bearer ").encode()
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        path = "/api/v1/auth/revoke"
        assert ask(gateway.port, "POST", path, headers=[*boss, kind], body=form).status == 200
        issuer.go_down()
        # The other worker hears of a revocation within a second, and both answer some of these.
        assert until(lambda: all(status(gateway, revoked) == 401 for _ in range(20)))
        found = Counted(gateway, good, revoked)
        for victims in (1, 1, 2, 2):
            pids = workers(gateway)
            for pid in pids[:victims]:
                os.kill(pid, signal.SIGKILL)
            found.ask(40)
        issuer.come_up()
    assert found.wrong == []
    assert found.asked > 100


class Counted:
    """Answers to a good and to a revoked token, and which of them were wrong."""

    def __init__(self, gateway: Gateway, good: list[Any], revoked: list[Any]) -> None:
        self._gateway = gateway
        self._sent = {200: good, 401: revoked}
        self.asked = 0
        self.wrong: list[tuple[int, int]] = []

    def ask(self, times: int) -> None:
        """Send both tokens so often; a connection that a dead worker had is no answer."""
        for _ in range(times):
            for expected, headers in self._sent.items():
                try:
                    found = status(self._gateway, headers)
                except (OSError, Ended):
                    continue
                self.asked += 1
                if found != expected:
                    self.wrong.append((expected, found))
