"""Who runs the gateway, from where and on which listener, over real sockets; and what the audit log says of it."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.support.client import Answer, ask
from tests.support.gateway import Config, Gateway, free_port
from tests.support.guarded import PASSWORDS, Kept, add_users
from tests.support.tokens import SECRET, authorized, bearer

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
ADMIN = authorized("root", scope="admin")
USER = authorized("ann", scope="read")
PREFIX = "/api/v1"
OFTEN = {"rate": "1000/s", "burst": 1000, "key": "ip"}


def written(folder: Path, **more: Any) -> Config:
    """A gateway with users."""
    tokens = {"database": f"sqlite:///{folder}/users.db", "rate_limit": OFTEN}
    return {"auth": {"jwt": {"secret": SECRET}, "tokens": tokens}, **more}


def add_alice(folder: Path) -> None:
    """Add the users to the database that `written` names."""
    (folder / "users").mkdir()
    add_users(folder / "users", folder / "users.db")


def revoke(port: int, headers: list[tuple[str, str]], **fields: str) -> int:
    """Ask for a revocation; the status."""
    body = urlencode(fields).encode()
    return ask(port, "POST", f"{PREFIX}/auth/revoke", [FORM, *headers], body).status


def register(listener: int, headers: list[tuple[str, str]], **fields: Any) -> Answer:
    """Ask for a registration."""
    said = {"service_name": "orders", "host": "127.0.0.1", "port": 9001, **fields}
    return ask(listener, "POST", f"{PREFIX}/services", [JSON, *headers], json.dumps(said).encode())


def wait(condition: Callable[[], object], within: float = 10.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# The second listener


class Apart:
    """A gateway of two workers with a listener for admins and one for metrics."""

    def __init__(self, folder: Path) -> None:
        self.admin, self.metrics = free_port(), free_port()
        config = written(
            folder,
            server={"workers": 2, "drain": 10},
            admin={"listen": f"127.0.0.1:{self.admin}"},
            metrics={"listen": f"127.0.0.1:{self.metrics}"},
            registry={"allow": {"orders": ["127.0.0.1:9000-9009"]}},
        )
        self.gateway = Gateway("fast", config, folder)
        self.gateway.wait_ready()

    def status(self, port: int, target: str, headers: list[tuple[str, str]] = ADMIN) -> int:
        """Ask one of the listeners."""
        return ask(port, target=target, headers=headers).status


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """One gateway for all that changes nothing."""
    running = Apart(tmp_path_factory.mktemp("apart"))
    yield running
    running.gateway.stop()


@pytest.mark.parametrize("target", [f"{PREFIX}/services", f"{PREFIX}/circuits"])
def test_what_wants_admin_is_on_its_own_listener(apart: Apart, target: str) -> None:
    """And on no other: a token with the scope does not help there."""
    assert apart.status(apart.admin, target) == 200
    assert apart.status(apart.admin, target, USER) == 403
    assert apart.status(apart.admin, target, []) == 401
    assert apart.status(apart.gateway.port, target) == 404
    assert apart.status(apart.metrics, target) == 404


def test_metrics_have_theirs(apart: Apart) -> None:
    """From this machine without a token, unless a proxy stands in between."""
    assert apart.status(apart.metrics, "/metrics", []) == 200
    assert apart.status(apart.metrics, "/metrics", [("Via", "1.1 proxy")]) == 401
    assert apart.status(apart.gateway.port, "/metrics") == 404
    assert apart.status(apart.admin, "/metrics") == 404


@pytest.mark.parametrize("target", ["/health", "/livez", "/docs", "/openapi.json"])
def test_what_is_public_stays_public(apart: Apart, target: str) -> None:
    """The other listeners have nothing of it."""
    assert apart.status(apart.gateway.port, target, []) in (200, 503)
    assert apart.status(apart.admin, target) == 404
    assert apart.status(apart.metrics, target) == 404


def test_tokens_of_others_are_revoked_on_the_listener_for_admins(apart: Apart) -> None:
    """On the public one a user may revoke tokens of their own, whatever scope they have."""
    assert revoke(apart.gateway.port, ADMIN, subject="bob") == 403
    token = dict(authorized("bob"))["Authorization"].removeprefix("Bearer ")
    assert revoke(apart.gateway.port, ADMIN, token=token) == 403
    assert revoke(apart.gateway.port, bearer(token), token=token) == 200
    assert revoke(apart.admin, ADMIN, subject="bob") == 200
    assert revoke(apart.admin, USER, subject="bob") == 403


def test_registration_by_service_and_port(apart: Apart) -> None:
    """The list goes by service, and says on which ports its instances listen."""
    assert register(apart.admin, ADMIN).status in (200, 201)
    wrong = register(apart.admin, ADMIN, port=9010)
    assert wrong.status == 400
    assert b"127.0.0.1 with port 9010" in wrong.body
    other = register(apart.admin, ADMIN, service_name="billing")
    assert b"names no host for the service billing" in other.body


@pytest.mark.parametrize("listener", ["admin", "metrics"])
def test_the_gateway_is_not_its_own_instance(tmp_path: Path, listener: str) -> None:
    """Nor is it on the other listeners: a route to them would open them to every client."""
    port = free_port()
    registry = {"allow": ["127.0.0.1"]}
    config = written(tmp_path, registry=registry, **{listener: {"listen": f"127.0.0.1:{port}"}})
    gateway = Gateway("fast", config, tmp_path)
    gateway.wait_ready()
    answer = register(port if listener == "admin" else gateway.port, ADMIN, port=port)
    assert answer.status == 400
    assert b"is the gateway itself" in answer.body
    assert gateway.stop() == 0


def test_a_reload_keeps_the_endpoints_where_they_are(tmp_path: Path) -> None:
    """A listener takes a start: until then its endpoints neither vanish nor become public."""
    apart = Apart(tmp_path)
    gateway = apart.gateway
    config = yaml.safe_load(gateway.file.read_text())
    del config["admin"]["listen"]
    config["admin"]["scope"] = "operate"
    gateway.file.write_text(yaml.safe_dump(config))
    gateway.process.send_signal(signal.SIGHUP)
    wait(lambda: gateway.said().count("admin.listen takes effect with the next start") >= 2)
    target, operator = f"{PREFIX}/circuits", authorized(scope="operate")
    for _ in range(8):
        assert apart.status(gateway.port, target, operator) == 404
        assert apart.status(apart.admin, target, operator) == 200
        assert apart.status(apart.admin, target) == 403
    assert revoke(apart.admin, operator, subject="bob") == 200
    assert revoke(gateway.port, operator, subject="bob") == 403
    assert gateway.stop() == 0


def test_a_replaced_worker_keeps_the_listeners_that_are_open(tmp_path: Path) -> None:
    """It may read a newer file than the one by which the sockets were opened."""
    apart = Apart(tmp_path)
    gateway = apart.gateway
    config = yaml.safe_load(gateway.file.read_text())
    config["admin"]["listen"] = f"127.0.0.1:{free_port()}"
    gateway.file.write_text(yaml.safe_dump(config))
    for worker in children(gateway.process.pid):
        os.kill(worker, signal.SIGKILL)
    wait(lambda: gateway.said().count("starting another") == 2)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return apart.status(apart.admin, f"{PREFIX}/circuits") == 200
        return False

    wait(answers)
    assert apart.status(gateway.port, f"{PREFIX}/circuits") == 404
    assert gateway.stop() == 0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """The gateway does not start half: it says which listener cannot be opened."""
    port = free_port()
    first = Gateway("fast", written(tmp_path, admin={"listen": f"127.0.0.1:{port}"}), tmp_path)
    first.wait_ready()
    folder = tmp_path / "second"
    folder.mkdir()
    second = Gateway("fast", written(folder, metrics={"listen": f"127.0.0.1:{port}"}), folder)
    assert second.process.wait(30) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.said()
    assert first.stop() == 0


def test_without_propylon_run_nothing_listens_there(tmp_path: Path) -> None:
    """Under another server the endpoints are nowhere, and the log says so."""
    port = free_port()
    gateway = Gateway(
        "portable", written(tmp_path, admin={"listen": f"127.0.0.1:{port}"}), tmp_path
    )
    gateway.wait_ready()
    assert ask(gateway.port, target=f"{PREFIX}/circuits", headers=ADMIN).status == 404
    with pytest.raises(OSError, match="refused"):
        ask(port, target=f"{PREFIX}/circuits", headers=ADMIN)
    wait(lambda: f"nothing listens on 127.0.0.1:{port}" in gateway.said())
    gateway.stop()


# From where, on both edges


@pytest.fixture(scope="module")
def kept_fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Gateways whose admins come from one network, behind a proxy on this machine."""
    folder = tmp_path_factory.mktemp("fenced")
    config = written(
        folder,
        server={"trusted_proxies": ["127.0.0.1"]},
        admin={"allow": ["10.0.0.0/8"], "scopes": {"tokens": "revoke"}},
        metrics={"allow": ["10.0.0.0/8"]},
        docs="admin",
    )
    running = Kept(("fast", "portable"), folder, config)
    yield running
    running.close()


@pytest.fixture(scope="module")
def fenced(edge: str, kept_fenced: Kept) -> Gateway:
    """The one on the edge in turn."""
    return kept_fenced.at(edge)


INSIDE = [("X-Forwarded-For", "10.0.0.7")]
OUTSIDE = [("X-Forwarded-For", "203.0.113.9")]


@pytest.mark.parametrize("target", [f"{PREFIX}/circuits", f"{PREFIX}/services", "/docs"])
def test_from_where_admins_come(fenced: Gateway, target: str) -> None:
    """What wants admin wants the address, too; of the proxy's own requests nobody knows it."""
    assert ask(fenced.port, target=target, headers=[*ADMIN, *INSIDE]).status == 200
    assert ask(fenced.port, target=target, headers=[*ADMIN, *OUTSIDE]).status == 403
    assert ask(fenced.port, target=target, headers=[*USER, *INSIDE]).status == 403
    assert ask(fenced.port, target=target, headers=[*ADMIN, ("Via", "1.1 x")]).status == 403


def test_whose_tokens_are_revoked_from_where(fenced: Gateway) -> None:
    """Those of others by admins from their network; one's own from anywhere."""
    narrow = authorized("n", scope="revoke")
    assert revoke(fenced.port, [*ADMIN, *INSIDE], subject="bob") == 200
    assert revoke(fenced.port, [*narrow, *INSIDE], subject="bob") == 200
    assert revoke(fenced.port, [*ADMIN, *OUTSIDE], subject="bob") == 403
    token = dict(authorized("carl"))["Authorization"].removeprefix("Bearer ")
    assert revoke(fenced.port, [*bearer(token), *OUTSIDE], token=token) == 200


def test_metrics_for_a_network(fenced: Gateway) -> None:
    """Without a token from there; from elsewhere with one, by the rules for admins."""
    assert ask(fenced.port, target="/metrics", headers=INSIDE).status == 200
    assert ask(fenced.port, target="/metrics", headers=OUTSIDE).status == 401
    assert ask(fenced.port, target="/metrics", headers=[*ADMIN, *OUTSIDE]).status == 403


# The audit log


def audited(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The audit record of an answer, on the access log's output."""
    request_id = answer.get("x-request-id") or ""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [one for one in gateway.lines(request_id) if one.get("event") == "audit"]
        return bool(found)

    wait(there)
    [record] = found
    return record


@pytest.fixture(scope="module")
def kept_audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Gateways with a user."""
    folder = tmp_path_factory.mktemp("audited")
    add_alice(folder)
    running = Kept(("fast", "portable"), folder, written(folder, registry={"allow": ["127.0.0.1"]}))
    yield running
    running.close()


@pytest.fixture(scope="module")
def watched(edge: str, kept_audited: Kept) -> Gateway:
    """The one on the edge in turn."""
    return kept_audited.at(edge)


def log_in(gateway: Gateway, name: str = "Alice", password: str = "", **headers: str) -> Answer:
    """Ask for a token with a password."""
    body = urlencode({"username": name, "password": password or PASSWORDS["alice"]}).encode()
    return ask(gateway.port, "POST", f"{PREFIX}/auth/token", [FORM, *headers.items()], body)


def test_a_login(watched: Gateway) -> None:
    """The user by the registered name, also in the access log; a failure names the user that was tried."""
    done = log_in(watched)
    record = audited(watched, done)
    assert (record["action"], record["outcome"]) == ("login", "success")
    assert (record["principal"], record["target"]) == ("alice", "user:alice")
    assert (record["client_ip"], record["path"]) == ("127.0.0.1", f"{PREFIX}/auth/token")
    assert watched.record(done)["principal"] == "alice"
    failed = log_in(watched, password="wrong-pass-phrase-1")
    record = audited(watched, failed)
    assert (record["action"], record["outcome"], record["level"]) == ("login", "failure", "warning")
    assert (record["principal"], record["target"]) == ("anonymous", "user:Alice")
    assert "wrong credentials" in record["error"]
    assert watched.record(failed)["principal"] == "anonymous"


def test_a_refresh_and_a_revocation(watched: Gateway) -> None:
    """Each with whose tokens they were; a refresh token that was used is a failure."""
    session = log_in(watched).json()
    body = urlencode({"grant_type": "refresh_token", "refresh_token": session["refresh_token"]})
    again = ask(watched.port, "POST", f"{PREFIX}/auth/token", [FORM], body.encode())
    record = audited(watched, again)
    assert (record["action"], record["outcome"]) == ("refresh", "success")
    assert (record["principal"], record["target"]) == ("alice", "user:alice")
    token = again.json()["access_token"]
    form = urlencode({"token": token}).encode()
    ended = ask(watched.port, "POST", f"{PREFIX}/auth/revoke", [FORM, *bearer(token)], form)
    record = audited(watched, ended)
    assert (record["action"], record["outcome"], record["target"]) == (
        "revoke", "success", "user:alice",
    )  # fmt: skip
    assert session["refresh_token"] not in json.dumps(record)


def test_registrations(watched: Gateway) -> None:
    """By whom, which instance, and why not."""
    record = audited(watched, register(watched.port, ADMIN))
    assert (record["action"], record["outcome"]) == ("register", "success")
    assert (record["principal"], record["target"]) == ("root", "instance:orders/127.0.0.1:9001")
    record = audited(watched, register(watched.port, ADMIN, host="127.0.0.2"))
    assert (record["action"], record["outcome"]) == ("register", "failure")
    assert "registry.allow" in record["error"]
    path = f"{PREFIX}/services/orders/127.0.0.1:9001"
    record = audited(watched, ask(watched.port, "DELETE", path, ADMIN))
    assert (record["action"], record["outcome"]) == ("deregister", "success")


def test_strict_privacy(watched: Gateway) -> None:
    """Nothing names the user, and both records have the same hash."""
    strict = {"X-Privacy-Level": "strict"}
    records = [audited(watched, log_in(watched, **strict)) for _ in range(2)]
    assert records[0]["principal"] == records[1]["principal"]
    assert records[0]["principal"].startswith("hmac:")
    assert "alice" not in json.dumps(records).lower()


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """It has the records, reloads among them, and the other log has none; text there is JSON here."""
    file = tmp_path / "audit.log"
    log = {"audit": {"file": str(file)}, "format": "text"}
    add_alice(tmp_path)
    gateway = Gateway("fast", written(tmp_path, server={"workers": 2}, log=log), tmp_path)
    gateway.wait_ready()
    assert log_in(gateway).status == 200
    gateway.process.send_signal(signal.SIGHUP)

    def records() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()]

    wait(lambda: len(records()) == 3)  # a reload in each worker
    assert sorted(one["action"] for one in records()) == ["login", "reload", "reload"]
    assert all(one["event"] == "audit" for one in records())
    gateway.file.write_text(gateway.file.read_text() + "nonsense: 1\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait(lambda: len(records()) == 5)
    last = records()[-1]
    assert (last["action"], last["outcome"]) == ("reload", "failure")
    assert "nonsense" in last["error"]
    assert "audit login" not in gateway.said()
    assert gateway.stop() == 0


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The gateway does not start: its records would be lost."""
    file = tmp_path / "audit.log"
    file.symlink_to(tmp_path / "gone" / "audit.log")
    log = {"audit": {"file": str(file)}}
    gateway = Gateway("fast", written(tmp_path, log=log), tmp_path)
    assert gateway.process.wait(30) == 2
    assert f"log.audit.file: cannot write {file}: no such file or directory" in gateway.said()


def test_a_file_that_is_lost_later(tmp_path: Path) -> None:
    """Each record that is lost is an error in the log, and requests go on."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = {"audit": {"file": str(folder / "audit.log")}}
    gateway = Gateway("fast", written(tmp_path, log=log), tmp_path)
    gateway.wait_ready()
    (folder / "audit.log").unlink()
    folder.rmdir()
    assert log_in(gateway).status in (401, 503)
    wait(lambda: "the audit log cannot be written, records are lost" in gateway.said())
    assert ask(gateway.port, target="/livez").status == 200
    assert gateway.stop() == 0
