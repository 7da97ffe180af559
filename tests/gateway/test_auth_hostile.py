"""Tokens made to break the one who checks them: each is refused, nothing is sent, nothing is said."""

from functools import lru_cache

from tests.gateway.test_auth import check_refused
from tests.support.client import Answer, RawClient, ask, request
from tests.support.gateway import Gateway
from tests.support.hostile_tokens import hostile, valid
from tests.support.secrecy import SECRECY
from tests.support.tokens import SECRET, authorized, bearer
from tests.support.upstream import Upstream


@lru_cache
def table() -> dict[str, bytes]:
    """The hostile tokens by name, made once."""
    made = dict(hostile(SECRET.encode()))
    for token in made.values():
        SECRECY.note(token.decode("latin-1"))
    return made


def refused(gateway: Gateway, token: bytes) -> Answer:
    """What a token gets, on a connection of its own."""
    head = b"GET /locked HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer "
    with RawClient(gateway.port) as client:
        return client.send(head + token + b"\r\n\r\n").read()


def test_valid_token_is_good(guarded: Gateway, behind: Upstream) -> None:
    """The twin of all of them, wrong in nothing, is let in: otherwise they would prove nothing."""
    good = valid(SECRET.encode()).decode()
    assert ask(guarded.port, target="/locked", headers=bearer(SECRECY.note(good))).status == 200


def test_hostile_tokens_are_401(guarded: Gateway, behind: Upstream) -> None:
    """Each is 401 with a challenge, or refused as a head; the log has its reason, and not a piece of it."""
    answers = {name: refused(guarded, token) for name, token in table().items()}
    for name, answer in answers.items():
        if not (name.startswith("oversized") and answer.status in (400, 431)):
            assert answer.status == 401, name
            check_refused(answer)
            assert len(answer.body) < 1000, name
    assert behind.raw == b""
    guarded.record(ask(guarded.port))
    ids = [answer.get("x-request-id") for answer in answers.values()]
    records = [line for line in guarded.lines("duration_ms") if line.get("request_id") in ids]
    assert len(records) == len(ids)
    assert all(record["error"] for record in records)
    assert {record["principal"] for record in records} <= {"", "anonymous", None}
    pieces = {
        part.decode("latin-1")
        for token in table().values()
        for part in token[:8192].split(b".")
        if len(set(part)) > 8 and len(part) > 24
    }
    said = guarded.said()
    assert [piece for piece in pieces if piece in said] == []


def test_hostile_tokens_spoil_nothing(guarded: Gateway, behind: Upstream) -> None:
    """On one connection, good tokens between hostile ones are judged as ever."""
    sent = [token for name, token in table().items() if not name.startswith("oversized")]
    good = authorized("42")
    with RawClient(guarded.port) as client:
        for number, token in enumerate(sent):
            headers = bearer(token.decode("latin-1"))
            assert client.send(request(target="/locked", headers=headers)).read().status == 401
            if number % 20 == 0:
                assert client.send(request(target="/locked", headers=good)).read().status == 200
