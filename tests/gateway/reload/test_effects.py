"""What a file says anew is in force, as soon as the gateway is told to read it."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.gateway.reload.live import ADMIN, Live, Start, configuration, soon, targets, url, without
from tests.support.tokens import OTHER_SECRET, bearer, mint
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def running(
    behind: tuple[Upstream, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """One gateway for all cases; it was told to reload before it was quite there."""
    with contextlib.closing(Start(behind)) as start:
        before = without(configuration(*behind), "leaves")
        live = start(before, tmp_path_factory.mktemp("reload"), fresh=True)
        first = live.gateway
        assert soon(lambda: "listening" in first.said() or first.process.poll() is not None)
        # It has read its file by now, and has no loop yet.
        live.write(live.config())
        live.hangup()
        first.wait_ready()
        yield live


def test_a_hangup_while_it_starts_is_no_hangup_lost(running: Live) -> None:
    """The file changed after it was read, and before there was a loop to hear the signal."""
    assert soon(running.is_in_force)
    assert running.status("/leaves") == 200


def test_what_changed_is_in_force(live: Live) -> None:
    """A new route works, a removed one is 404, a service is where it is now, rules are as written."""
    assert [live.status(path) for path in ("/new", "/leaves", "/moves/a")] == [404, 200, 200]
    config = without(live.config(), "leaves")
    config["services"]["moves"] = {"url": url(live.two)}
    config["services"]["newcomer"] = {"url": url(live.three)}
    config["routes"].append({"path": "/new", "service": "newcomer"})
    config["routes"][0] |= {"methods": ["GET", "POST"], "strip_prefix": True}
    live.put(config)
    paths = ("/new/b", "/leaves", "/moves/b", "/stays/b")
    assert [live.status(path) for path in paths] == [200, 404, 200, 200]
    assert targets(live.one) == ["/moves/a", "/b"]
    assert targets(live.two)[-1:] == ["/moves/b"]
    assert targets(live.three) == ["/leaves", "/new/b"]
    refusal = live.ask("/stays", "DELETE")
    assert (refusal.status, refusal.get("allow")) == (405, "GET, POST")
    assert set(live.ask("/health").json()["services"]) == set(config["services"])


def test_limits_and_trust_change_with_it(live: Live) -> None:
    """What the file says of clients holds for the next request."""
    forwarded = [("X-Forwarded-For", "192.0.2.7")]
    assert live.status("/stays", "POST", body=b"x" * 11, headers=forwarded) == 200
    assert live.one.last.get("x-forwarded-for") == "127.0.0.1"
    config = live.config()
    config["server"] = {"max_body": 10, "max_header": 1024, "trusted_proxies": ["127.0.0.1"]}
    live.put(config)
    assert live.status("/stays", headers=forwarded) == 200
    assert live.one.last.get("x-forwarded-for") == "192.0.2.7, 127.0.0.1"
    assert live.status("/stays", "POST", body=b"x" * 11) == 413
    assert live.status("/stays", headers=[("X-Long", "x" * 1024)]) == 431


def test_a_secret_that_has_leaked_is_replaced(live: Live) -> None:
    """`.env` is read again; a token of the old secret is refused, though it was known to be good."""
    old, new = mint("42"), mint("42", secret=OTHER_SECRET)
    for expected in ([200, 401], [200, 401]):
        assert [live.status("/locked", headers=bearer(one)) for one in (old, new)] == expected
    live.env(OTHER_SECRET)
    live.put(live.config())
    assert [live.status("/locked", headers=bearer(one)) for one in (old, new)] == [401, 200]


def test_what_needs_a_start_is_said(live: Live) -> None:
    """Sockets, processes, paths and the database stay as they are; the rest of the file does not."""
    config = without(live.config(), "leaves")
    config["server"] = {"host": "127.0.0.9", "port": 1, "workers": 3, "drain": 7, "drain_delay": 1}
    config["server"]["state_dir"] = "/elsewhere"
    config |= {"prefix": "/elsewhere", "log": {"format": "text"}, "redis": "redis://elsewhere"}
    config["tls"] = {"certificate": "some.pem", "key": "some.key"}
    config["auth"]["tokens"] |= {"database": "sqlite:///other.db", "refresh_expires": "3d"}
    since = live.now
    live.put(config)
    keys = {f"server.{key}" for key in config["server"]} | {"prefix", "log.format", "tls"}
    keys |= {"redis"}
    keys |= {"auth.tokens.database", "auth.tokens.refresh_expires"}
    assert soon(lambda: len(live.news(since, "takes effect with the next start")) >= len(keys))
    said = [line["event"] for line in live.gateway.lines("takes effect")][-len(keys) :]
    assert set(said) == {f"reload: {key} takes effect with the next start" for key in keys}
    admin = bearer(mint(**ADMIN))
    paths = ("/leaves", "/stays", "/api/v1/circuits", "/elsewhere/circuits")
    assert [live.status(path, headers=admin) for path in paths] == [404, 200, 200, 404]


def test_users_and_questions(live: Live) -> None:
    """The file of users is read again; a service that is asked keeps its connection over a reload that does not change it."""
    hashed = "$2y$04$mZ0ut5Ur1MlbUZnpd7m9Iun8uT5kOUPgAhSeJqcWq9CLer8ydss5K"  # of "correct horse"
    users = live.gateway.file.parent / "users.htpasswd"
    users.write_text(f"ann:{hashed}\n")
    config = live.config()
    config["routes"] += [
        {"path": "/inner", "service": "stays", "auth": "none", "basic_auth": {"file": str(users)}},
        {"path": "/asked", "service": "stays", "auth": "none",
         "forward_auth": {"url": f"{url(live.two)}/verify"}},
    ]  # fmt: skip
    live.put(config)
    ann = [("Authorization", "Basic YW5uOmNvcnJlY3QgaG9yc2U=")]
    assert live.status("/inner", headers=ann) == live.status("/asked") == 200
    asked = next(one for one in live.two.requests if one.target == b"/verify")
    live.put(config)
    assert live.status("/inner", headers=ann) == live.status("/asked") == 200
    again = [one for one in live.two.requests if one.target == b"/verify"]
    assert [one.connection for one in again] == [asked.connection] * 2
    users.write_text(f"bob:{hashed}\n")
    live.put(config)
    assert live.status("/inner", headers=ann) == 401
    bob = [("Authorization", "Basic Ym9iOmNvcnJlY3QgaG9yc2U=")]
    assert live.status("/inner", headers=bob) == 200
