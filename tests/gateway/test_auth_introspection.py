"""Opaque tokens: whoever issued one is asked, believed for a while, and nobody is let in unasked."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import count

import pytest

from tests.gateway.test_auth import check_refused
from tests.support import answers
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import EDGES, Gateway
from tests.support.guarded import REMEMBERED, Kept
from tests.support.issuer import Issuer, Said, as_json
from tests.support.tokens import bearer, mint
from tests.support.topology import Upstreams
from tests.support.upstream import Arrived, Peer, Upstream

_NUMBERS = count()
PATIENCE = 30.0  # seconds, of a client: more than a gateway may take to give up


@pytest.fixture
def judged(loose: Gateway, guarded_upstreams: Upstreams, issuer: Issuer) -> Iterator[Upstream]:
    """What stands behind the gateway, with an empty record."""
    guarded_upstreams.reset()
    yield guarded_upstreams.main
    assert guarded_upstreams.faults == []
    assert issuer.faults == []


def opaque(issuer: Issuer, said: Said) -> str:
    """A new opaque token of which this is said."""
    return issuer.grant(f"opq-{next(_NUMBERS):06d}-mVx0Zt9rQk", said)


def active(subject: str = "42", **more: object) -> dict[str, object]:
    """What is said of a good token."""
    return {"active": True, "sub": subject, "exp": int(time.time()) + 600, **more}


def patient(gateway: Gateway, token: str) -> Answer:
    """Ask, and wait longer than usual."""
    with RawClient(gateway.port, timeout=PATIENCE) as client:
        return client.send(request(target="/locked", headers=bearer(token))).read()


@pytest.fixture(scope="module")
def hanging(kept_loose: Kept, issuer: Issuer) -> Iterator[dict[str, list[Future[Answer]]]]:
    """Requests on each edge with tokens whose judges never answer, or never come to an end."""
    drip = answers.endless(b" ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", pause=0.2)
    with ThreadPoolExecutor(4) as pool:
        yield {
            edge: [
                pool.submit(patient, kept_loose.at(edge), opaque(issuer, does))
                for does in (answers.hang, drip)
            ]
            for edge in EDGES
        }


# What takes long, because it waits, is begun with the first case, and looked at behind the last.


def test_active_token_is_let_in(
    loose: Gateway, judged: Upstream, issuer: Issuer, hanging: object
) -> None:
    """An active token: who it is, and what they may, is what the issuer says."""
    said = active("77", scope="read write", email="u@users.example", username="ursula")
    token = opaque(issuer, said)
    answer = ask(loose.port, target="/both", headers=bearer(token))
    assert answer.status == 200
    assert judged.last.get("x-user-id") == "77"
    assert judged.last.get("x-user-scopes") == "read,write"
    assert loose.record(answer)["principal"] == "77"
    assert issuer.asked.count(token) == 1


def test_scopes_are_the_issuers(loose: Gateway, judged: Upstream, issuer: Issuer) -> None:
    """An active token without the scope is 403."""
    token = opaque(issuer, active(scope="read"))
    check_refused(ask(loose.port, target="/both", headers=bearer(token)), 403)
    assert judged.raw == b""


@pytest.mark.parametrize(
    "said",
    [
        {"active": False},
        {"active": False, "sub": "42", "scope": "read"},
        {"active": True},
        {"active": True, "sub": ""},
        {"active": True, "sub": 42.5},
        {"active": True, "sub": "42", "exp": 1},
        {"active": True, "sub": "42\r\nX-User-Roles: admin"},
    ],
    ids=str,
)
def test_inactive_token_is_401(
    loose: Gateway, judged: Upstream, issuer: Issuer, said: dict[str, object]
) -> None:
    """Not active, of nobody, or expired by its own word: 401."""
    check_refused(ask(loose.port, target="/locked", headers=bearer(opaque(issuer, said))))
    assert judged.raw == b""


@pytest.mark.parametrize(
    "does",
    [
        answers.plain("500 Oops", body=b'{"active": true, "sub": "42"}'),
        answers.plain("401 Unauthorized", body=b'{"active": true, "sub": "42"}'),
        answers.plain("302 Found", headers=["Location: /introspect"]),
        answers.plain(body=b"<html>Welcome</html>"),
        answers.plain(body=b""),
        answers.plain(body=b"{}"),
        answers.plain(body=b'{"active": "true", "sub": "42"}'),
        answers.plain(body=b'{"active": 1, "sub": "42"}'),
        answers.plain(body=b'["active"]'),
        answers.plain(body=b'{"active": false, "active": true, "sub": "42"}'),
        answers.plain(body=b"[" * 100_000),
        answers.plain(body=b'{"active": true, "sub": "42", "x": "' + b"x" * 10_000_000 + b'"}'),
        answers.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", end=answers.close),
        answers.raw(b"SSH-2.0-OpenSSH_9.2p1\r\n", end=answers.close),
        answers.raw(b"", end=answers.reset),
    ],
)
def test_no_verdict_is_503(loose: Gateway, judged: Upstream, issuer: Issuer, does: Said) -> None:
    """Whatever is no verdict lets nobody in: 401 for nonsense at most, else 503, and soon."""
    answer = ask(loose.port, target="/locked", headers=bearer(opaque(issuer, does)))
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert answer.get("retry-after")
    assert judged.raw == b""
    identity = answer.get("x-request-id") or ""  # its digits are chance
    assert str(issuer.port) not in answer.body.decode().replace(identity, "")


def test_verdict_is_remembered_for_a_while(
    loose: Gateway, judged: Upstream, issuer: Issuer
) -> None:
    """Within the time of the file an issuer is asked once; after it, what it says then counts."""
    token = opaque(issuer, active())
    headers = bearer(token)
    with RawClient(loose.port) as client:
        sent = request(target="/locked", headers=headers)
        begun = time.monotonic()
        assert [client.send(sent).read().status for _ in range(5)] == [200] * 5
        if time.monotonic() - begun < REMEMBERED:  # else the machine was too busy to tell
            assert issuer.asked.count(token) == 1
        issuer.grant(token, {"active": False})
        time.sleep(REMEMBERED + 0.2)
        assert client.send(sent).read().status == 401
    assert issuer.asked.count(token) >= 2


def test_bad_verdict_is_remembered_too(loose: Gateway, judged: Upstream, issuer: Issuer) -> None:
    """A token that is not active does not cost a question each time that it is tried."""
    token = opaque(issuer, {"active": False})
    begun = time.monotonic()
    got = [ask(loose.port, target="/locked", headers=bearer(token)).status for _ in range(4)]
    assert got == [401] * 4
    if time.monotonic() - begun < REMEMBERED:  # else the machine was too busy to tell
        assert issuer.asked.count(token) == 1


def test_many_at_once_ask_once(loose: Gateway, judged: Upstream, issuer: Issuer) -> None:
    """Requests that come together with one token wait for one verdict."""
    everybody = threading.Event()

    def judge(peer: Peer, arrived: Arrived) -> None:
        assert everybody.wait(20)
        as_json(active())(peer, arrived)

    token = opaque(issuer, judge)
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(loose.port)) for _ in range(8)]
        for client in clients:
            client.send(request(target="/locked", headers=bearer(token)))
        everybody.set()
        assert [client.read().status for client in clients] == [200] * 8
    assert issuer.asked.count(token) == 1


def test_client_that_leaves_takes_no_verdict_away(
    loose: Gateway, judged: Upstream, issuer: Issuer
) -> None:
    """Whoever waits for the same verdict gets it, although the one who asked first has gone."""
    left = threading.Event()

    def judge(peer: Peer, arrived: Arrived) -> None:
        assert left.wait(20)
        as_json(active())(peer, arrived)

    token = opaque(issuer, judge)
    first = RawClient(loose.port).send(request(target="/locked", headers=bearer(token)))
    assert issuer.wait(lambda: token in issuer.asked)
    with RawClient(loose.port) as second:
        second.send(request(target="/locked", headers=bearer(token)))
        first.reset()
        time.sleep(0.3)  # an ASGI app hears of it within a quarter of a second
        left.set()
        assert second.read().status == 200


def test_own_tokens_need_no_question(loose: Gateway, judged: Upstream, issuer: Issuer) -> None:
    """A token that the gateway can verify itself is not shown to anybody."""
    token = mint()
    assert ask(loose.port, target="/locked", headers=bearer(token)).status == 200
    assert token not in issuer.asked


def test_missing_token_needs_no_question(loose: Gateway, judged: Upstream, issuer: Issuer) -> None:
    """Without a token, and on routes that do not look at it, nobody is asked."""
    before = len(issuer.asked)
    assert ask(loose.port, target="/locked").status == 401
    assert ask(loose.port, target="/open", headers=bearer("opq-not-looked-at-3Zb")).status == 200
    assert len(issuer.asked) == before


def test_issuer_that_hangs_lets_nobody_in(
    loose: Gateway, judged: Upstream, hanging: dict[str, list[Future[Answer]]]
) -> None:
    """A verdict that does not come is 503 after some seconds; others do not wait with it."""
    assert ask(loose.port, target="/locked", headers=bearer(mint())).status == 200
    for answer in [future.result(PATIENCE) for future in hanging[loose.edge]]:
        assert (answer.status, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.get("retry-after")


def test_issuer_that_is_down_lets_nobody_in(
    loose: Gateway,
    judged: Upstream,
    issuer: Issuer,
    hanging: dict[str, list[Future[Answer]]],
) -> None:
    """Down: 503 at once for tokens that must be asked about; others work; up again: as before."""
    wait([future for futures in hanging.values() for future in futures])  # they end by themselves
    token = opaque(issuer, active())
    issuer.go_down()
    try:
        assert ask(loose.port, target="/locked", headers=bearer(token)).status == 503
        assert ask(loose.port, target="/locked", headers=bearer(mint())).status == 200
        assert ask(loose.port, target="/open").status == 200
    finally:
        issuer.come_up()
    statuses = []

    def recovered() -> bool:
        statuses.append(ask(loose.port, target="/locked", headers=bearer(token)).status)
        return statuses[-1] == 200

    assert issuer.wait(recovered), statuses
    assert set(statuses) <= {200, 503}
