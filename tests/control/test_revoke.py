"""Taking tokens back: who may, what it ends, and where."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from propylon.control import revoke as withdraw
from propylon.control import tokens
from propylon.control.app import create_app
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from tests.control.desk import PREFIX, SECRET, Desk, claims
from tests.stores.kept import HOUR, NOON

Settled = tuple[Desk, dict[str, dict[str, Any]]]


def users(desk: Desk) -> dict[str, dict[str, Any]]:
    """Ann, Bob and an admin, logged in."""
    desk.add("ann", scopes="read")
    desk.add("bob", scopes="read")
    desk.add("root", scopes="admin read")
    return {name: desk.login(name) for name in ("ann", "bob", "root")}


@pytest.fixture(scope="module")
def settled(still: Desk) -> Settled:
    """A worker and who is logged in there, for tests that change nothing."""
    still.kept.add("bob", scopes="read")
    still.kept.add("root", scopes="admin read")
    return still, {name: still.login(name) for name in ("ann", "bob", "root")}


def revoke(desk: Desk, who: dict[str, Any], **form: str) -> int:
    """Take something back; return the status."""
    answer = desk.post("/auth/revoke", who["access_token"], **form)
    if answer.status_code == 200:
        assert answer.content == b""
        assert answer.headers["cache-control"] == "no-store"
    return answer.status_code


def good(desk: Desk, *who: dict[str, Any]) -> list[tuple[bool, bool]]:
    """Whether each one's access token and refresh token still count."""

    def known(token: str) -> bool:
        grant = desk.run(desk.kept.grants.find(token))
        return grant is not None and grant.current

    return [(desk.good(one["access_token"]), known(one["refresh_token"])) for one in who]


@pytest.mark.parametrize("caller", ["ann", "root"])
def test_an_access_token(worker: Callable[[], Desk], caller: str) -> None:
    """One's own, or anybody's for an admin: refused from now on, in every worker; the login goes on."""
    desk, other = worker(), worker()
    said = users(desk)
    again = desk.login("ann")
    assert revoke(desk, said[caller], token=said["ann"]["access_token"]) == 200
    other.run(other.kept.journal.catch_up())
    for one in (desk, other):
        found = good(one, said["ann"], again, said["bob"])
        assert found == [(False, True), (True, True), (True, True)]


@pytest.mark.parametrize("caller", ["ann", "root"])
def test_a_refresh_token(worker: Callable[[], Desk], caller: str) -> None:
    """It ends the login, and the access tokens that came of it; other logins go on."""
    desk, other = worker(), worker()
    said = users(desk)
    again = desk.login("ann")
    assert revoke(desk, said[caller], token=said["ann"]["refresh_token"]) == 200
    other.run(other.kept.journal.catch_up())
    for one in (desk, other):
        found = good(one, said["ann"], again, said["bob"])
        assert found == [(False, False), (True, True), (True, True)]


def test_hints_are_not_needed(desk: Desk) -> None:
    """Whatever the hint, right or wrong: the token is taken back."""
    desk.add("bob")
    for hint in ("access_token", "refresh_token", "pigeon"):
        for kind in ("access_token", "refresh_token"):
            bob = desk.login("bob")
            assert revoke(desk, bob, token=bob[kind], token_type_hint=hint) == 200
            assert good(desk, bob) == [(False, kind == "access_token")]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_nobody_elses(settled: Settled, kind: str) -> None:
    """A good token of somebody else: 403 for who is no admin, and it still counts."""
    desk, said = settled
    answer = desk.post("/auth/revoke", said["bob"]["access_token"], token=said["ann"][kind])
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'
    assert good(desk, said["ann"]) == [(True, True)]


@pytest.mark.parametrize(
    "token",
    ["nonsense", "a.b.c", "0" * 96, "é", " ", "\x00", "x" * 8192, "eyJhbGciOiJub25lIn0.e30."],
)
def test_what_is_no_token(settled: Settled, token: str) -> None:
    """Unknown or not valid: 200, since it does not count already (RFC 7009, 2.2)."""
    desk, said = settled
    assert revoke(desk, said["ann"], token=token) == 200
    assert good(desk, said["ann"]) == [(True, True)]


def test_one_that_has_expired_or_is_revoked(desk: Desk) -> None:
    """200 as well, and nothing is written for it."""
    said = users(desk)
    desk.clock.now += HOUR
    ann = desk.login("ann")
    assert revoke(desk, ann, token=said["ann"]["access_token"]) == 200
    assert not desk.kept.memory.active
    bob = desk.login("bob")
    assert revoke(desk, bob, token=bob["access_token"]) == 200
    root = desk.login("root")
    assert revoke(desk, root, token=bob["access_token"]) == 200
    assert desk.run(count(desk)) == 1


async def count(desk: Desk) -> int:
    """How many revocations are written down."""
    async with desk.kept.database.reading() as connection:
        assert connection is not None
        found = await connection.exec_driver_sql("SELECT count(*) FROM revocations")
        return int(found.scalar_one())


def test_a_token_without_an_id(desk: Desk) -> None:
    """It is taken back by its digest; another without an id still counts."""
    said = users(desk)
    said_there = {"sub": "ann", "iat": int(NOON), "exp": int(NOON) + 600}
    one, two = (jwt.encode({**said_there, "n": number}, SECRET, "HS256") for number in range(2))
    assert revoke(desk, said["ann"], token=one) == 200
    assert [desk.good(token) for token in (one, two)] == [False, True]


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_only_who_is_known(settled: Settled, token: str) -> None:
    """Without a good token of one's own: 401, and nothing is taken back."""
    desk, said = settled
    answer = desk.post("/auth/revoke", token, token=said["ann"]["access_token"])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert good(desk, said["ann"]) == [(True, True)]


def test_all_of_a_subject(worker: Callable[[], Desk]) -> None:
    """For admins: everything that was given to them until now, in every worker; who logs in again, may."""
    desk, other = worker(), worker()
    said = users(desk)
    desk.clock.now += 60.5
    assert revoke(desk, said["root"], subject="ann") == 200
    other.run(other.kept.journal.catch_up())
    for one in (desk, other):
        assert good(one, *said.values()) == [(False, False), (True, True), (True, True)]
    again = other.login("ann")
    for one in (desk, other):
        assert good(one, again) == [(True, True)]
    assert other.refresh(again["refresh_token"]).status_code == 200


def test_who_logs_in_again_in_another_worker(worker: Callable[[], Desk]) -> None:
    """A worker that has not heard of it yet still gives out a token that counts, in the very same second."""
    desk, other = worker(), worker()
    said = users(desk)
    desk.clock.now += 60.25
    assert revoke(desk, said["root"], subject="ann") == 200
    desk.clock.now += 0.25
    again = other.login("ann")
    for one in (desk, other):
        assert good(one, again) == [(True, True)]


MOMENTS = [
    str(int(NOON) + 60),
    f"{NOON + 60:.3f}",
    datetime.fromtimestamp(NOON + 60, UTC).isoformat(),
    datetime.fromtimestamp(NOON + 60, UTC).isoformat().replace("+00:00", "z").lower(),
    datetime.fromtimestamp(NOON + 60 + 2 * HOUR, UTC).isoformat().replace("+00", "+02"),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_moments(moment: str) -> None:
    """Seconds, or RFC 3339 in any zone."""
    assert withdraw._moment(moment) == NOON + 60


def test_all_before_a_moment(desk: Desk) -> None:
    """For admins: everybody's tokens and logins from before it, their own too; later ones count."""
    said = users(desk)
    desk.clock.now += 60
    late = desk.login("ann")
    root = desk.login("root")
    desk.clock.now += 60
    assert revoke(desk, root, issued_before=MOMENTS[2]) == 200
    assert good(desk, *said.values()) == [(False, False)] * 3
    assert good(desk, late, root) == [(True, True)] * 2


def test_of_a_subject_before_a_moment(desk: Desk) -> None:
    """Both together: of that subject, from before it."""
    said = users(desk)
    desk.clock.now += 60
    late = desk.login("ann")
    desk.clock.now += 60
    assert revoke(desk, said["root"], subject="ann", issued_before=str(int(NOON) + 30)) == 200
    assert good(desk, said["ann"], late, said["bob"]) == [
        (False, False),
        (True, True),
        (True, True),
    ]


@pytest.mark.parametrize("form", [{"subject": "ann"}, {"subject": "bob"}, {"issued_before": "1"}])
def test_many_only_for_admins(settled: Settled, form: dict[str, str]) -> None:
    """Nobody else, not even for their own."""
    desk, said = settled
    assert revoke(desk, said["bob"], **form) == 403
    assert good(desk, *said.values()) == [(True, True)] * 3


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "token"),
        ({"token": ""}, "token"),
        ({"token": "x" * 8193}, "token"),
        ({"token": "x", "subject": "ann"}, "token"),
        ({"token": "x", "issued_before": "1"}, "token"),
        ({"subject": "a\x00"}, "subject"),
        ({"subject": "x" * 257}, "subject"),
        ({"issued_before": "yesterday"}, "issued_before"),
        ({"issued_before": "1e9"}, "issued_before"),
        ({"issued_before": "-1"}, "issued_before"),
        ({"issued_before": "+5"}, "issued_before"),
        ({"issued_before": "1_000"}, "issued_before"),
        ({"issued_before": "٣"}, "issued_before"),
        ({"issued_before": "2026-02-31T00:00:00Z"}, "issued_before"),
        ({"issued_before": "2026-01-01T00:00:00"}, "issued_before"),
        ({"issued_before": "2026-01-01"}, "issued_before"),
        ({"issued_before": f"{NOON + 1:.0f}"}, "issued_before"),
        ({"issued_before": "9999-01-01T00:00:00Z"}, "issued_before"),
        ({"issued_before": "9" * 65}, "issued_before"),
    ],
)
def test_forms_that_will_not_do(settled: Settled, form: dict[str, str], field: str) -> None:
    """422 with the field's name; a moment that is not over would lock everybody out: refused."""
    desk, said = settled
    answer = desk.post("/auth/revoke", said["root"]["access_token"], **form)
    assert answer.status_code == 422
    assert set(answer.json()["error"]["details"]["fields"]) == {field}
    assert good(desk, *said.values()) == [(True, True)] * 3


def test_it_could_not_be_written_down(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """503: whoever asked must know that other workers do not know; here it is in force."""
    said = users(desk)

    def away() -> None:
        raise ServiceUnavailable("away")

    monkeypatch.setattr(desk.kept.database, "writing", away)
    assert revoke(desk, said["ann"], token=said["ann"]["access_token"]) == 503
    assert not desk.good(said["ann"]["access_token"])


def test_without_a_token_endpoint(desk: Desk) -> None:
    """Tokens of other issuers are taken back as well: in memory, where there is no database."""
    said = users(desk)
    app = create_app(
        "1",
        [
            tokens.router(
                PREFIX,
                verify=desk.verifier.verify,
                revoker=desk.kept.memory,
                clock=desk.clock,
            )
        ],
    )
    desk.app = app
    assert desk.post("/auth/token", username="ann", password="x").status_code == 404
    assert revoke(desk, said["ann"], token=said["ann"]["access_token"]) == 200
    assert not desk.good(said["ann"]["access_token"])
    assert revoke(desk, said["root"], subject="bob") == 200
    desk.clock.now += 1
    assert revoke(desk, said["root"], subject="bob") == 200
    assert not desk.good(said["bob"]["access_token"])


def test_introspection(settled: Settled) -> None:
    """For admins: what a good token says (RFC 7662, 2.2)."""
    desk, said = settled
    token = said["ann"]["access_token"]
    answer = introspect(desk, said["root"], token)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert '"iat":1800000000,' in answer.text  # a whole number, as it was written
    assert answer.json() == {
        "active": True,
        "scope": "read",
        "sub": "ann",
        "username": "ann",
        "token_type": "bearer",
        "exp": int(NOON) + 1800,
        "iat": int(NOON),
        "jti": claims(token)["jti"],
        "roles": [],
    }


def introspect(desk: Desk, who: dict[str, Any], token: str, **form: str) -> httpx.Response:
    """Have a token explained."""
    return desk.post("/auth/introspect", who["access_token"], token=token, **form)


def test_introspection_of_another_issuers(settled: Settled) -> None:
    """Issuer and audience as they are said; odd ones are left out."""
    desk, said = settled
    said_there = {"sub": "eve", "exp": int(NOON) + 60, "iss": "me", "aud": ["a", "b"]}
    told = introspect(desk, said["root"], jwt.encode(said_there, SECRET, "HS256")).json()
    assert told == {
        "active": True,
        "scope": "",
        "sub": "eve",
        "username": "eve",
        "token_type": "bearer",
        "exp": int(NOON) + 60,
        "iss": "me",
        "aud": ["a", "b"],
        "roles": [],
    }


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "0" * 96, "refresh", "revoked", "expired"])
def test_introspection_of_what_does_not_count(desk: Desk, token: str) -> None:
    """Exactly `{"active": false}`: unknown, revoked, expired; and a refresh token, which is not for services."""
    said = users(desk)
    assert revoke(desk, said["bob"], token=said["bob"]["access_token"]) == 200
    known = {
        "refresh": said["ann"]["refresh_token"],
        "revoked": said["bob"]["access_token"],
        "expired": said["ann"]["access_token"],
    }
    if token == "expired":
        desk.clock.now += HOUR
        said["root"] = desk.login("root")
    answer = introspect(desk, said["root"], known.get(token, token), token_type_hint="x")
    assert (answer.status_code, answer.json()) == (200, {"active": False})


@pytest.mark.parametrize(("who", "status"), [("ann", 403), ("nobody", 401)])
def test_introspection_only_for_admins(settled: Settled, who: str, status: int) -> None:
    """Whoever else asks learns nothing, not even of their own."""
    desk, said = settled
    caller = said.get(who, {"access_token": ""})
    assert introspect(desk, caller, said["ann"]["access_token"]).status_code == status


def test_introspection_of_nothing(settled: Settled) -> None:
    """422 with the field's name."""
    desk, said = settled
    answer = desk.post("/auth/introspect", said["root"]["access_token"])
    assert answer.status_code == 422
    assert set(answer.json()["error"]["details"]["fields"]) == {"token"}


def test_nobody_can_tell_whether_it_counts(desk: Desk) -> None:
    """503 with a time to come back: `active: false` would end a session that is good; nor is it revoked."""
    said = users(desk)

    async def away(sent: bytes) -> Verified:
        raise ServiceUnavailable("away")

    desk.app = create_app(
        "1",
        [tokens.router(PREFIX, verify=away, revoker=desk.kept.memory, clock=desk.clock)],
    )
    for path in ("/auth/introspect", "/auth/revoke"):
        answer = desk.post(path, said["root"]["access_token"], token="opaque")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "5"
        assert "active" not in answer.json()
