"""Taking tokens back: who may, what it ends, and where."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from propylon.control import revoke as revocation
from propylon.control import tokens
from propylon.control.app import create_app
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from tests.control.token_api import PREFIX, SECRET, TokenApi, claims
from tests.stores.kept import HOUR, NOON

Settled = tuple[TokenApi, dict[str, dict[str, Any]]]


def users(api: TokenApi) -> dict[str, dict[str, Any]]:
    """Ann, Bob and an admin, logged in."""
    api.add("ann", scopes="read")
    api.add("bob", scopes="read")
    api.add("root", scopes="admin read")
    return {name: api.login(name) for name in ("ann", "bob", "root")}


@pytest.fixture(scope="module")
def settled(readonly: TokenApi) -> Settled:
    """A worker and who is logged in there, for tests that change nothing."""
    readonly.kept.add("bob", scopes="read")
    readonly.kept.add("root", scopes="admin read")
    return readonly, {name: readonly.login(name) for name in ("ann", "bob", "root")}


def revoke(api: TokenApi, who: dict[str, Any], **form: str) -> int:
    """Take something back; return the status."""
    answer = api.post("/auth/revoke", who["access_token"], **form)
    if answer.status_code == 200:
        assert answer.content == b""
        assert answer.headers["cache-control"] == "no-store"
    return answer.status_code


def good(api: TokenApi, *who: dict[str, Any]) -> list[tuple[bool, bool]]:
    """Whether each one's access token and refresh token still count."""

    def known(token: str) -> bool:
        grant = api.run(api.kept.grants.find(token))
        return grant is not None and grant.current

    return [(api.good(one["access_token"]), known(one["refresh_token"])) for one in who]


@pytest.mark.parametrize("caller", ["ann", "root"])
def test_an_access_token(worker: Callable[[], TokenApi], caller: str) -> None:
    """One's own, or anybody's for an admin: refused from now on, in every worker; the login goes on."""
    api, other = worker(), worker()
    said = users(api)
    again = api.login("ann")
    assert revoke(api, said[caller], token=said["ann"]["access_token"]) == 200
    other.run(other.kept.journal.catch_up())
    for one in (api, other):
        found = good(one, said["ann"], again, said["bob"])
        assert found == [(False, True), (True, True), (True, True)]


@pytest.mark.parametrize("caller", ["ann", "root"])
def test_a_refresh_token(worker: Callable[[], TokenApi], caller: str) -> None:
    """It ends the login, and the access tokens that came of it; other logins go on."""
    api, other = worker(), worker()
    said = users(api)
    again = api.login("ann")
    assert revoke(api, said[caller], token=said["ann"]["refresh_token"]) == 200
    other.run(other.kept.journal.catch_up())
    for one in (api, other):
        found = good(one, said["ann"], again, said["bob"])
        assert found == [(False, False), (True, True), (True, True)]


def test_hints_are_not_needed(api: TokenApi) -> None:
    """Whatever the hint, right or wrong: the token is taken back."""
    api.add("bob")
    for hint in ("access_token", "refresh_token", "pigeon"):
        for kind in ("access_token", "refresh_token"):
            bob = api.login("bob")
            assert revoke(api, bob, token=bob[kind], token_type_hint=hint) == 200
            assert good(api, bob) == [(False, kind == "access_token")]


def test_nobody_elses(settled: Settled) -> None:
    """A good access token of another user: 403 for a caller that is no admin, and it still counts."""
    api, said = settled
    answer = api.post(
        "/auth/revoke", said["bob"]["access_token"], token=said["ann"]["access_token"]
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "AUTH_ERROR"
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="admin"'
    assert good(api, said["ann"]) == [(True, True)]


@pytest.mark.parametrize(
    "token",
    ["nonsense", "a.b.c", "0" * 96, "é", " ", "\x00", "x" * 8192, "eyJhbGciOiJub25lIn0.e30."],
)
def test_what_is_no_token(settled: Settled, token: str) -> None:
    """Unknown or not valid: 200, since it does not count already (RFC 7009, 2.2)."""
    api, said = settled
    assert revoke(api, said["ann"], token=token) == 200
    assert good(api, said["ann"]) == [(True, True)]


def test_one_that_has_expired_or_is_revoked(api: TokenApi) -> None:
    """200 as well, and nothing is written for it."""
    said = users(api)
    api.clock.now += HOUR
    ann = api.login("ann")
    assert revoke(api, ann, token=said["ann"]["access_token"]) == 200
    assert not api.kept.memory.active
    bob = api.login("bob")
    assert revoke(api, bob, token=bob["access_token"]) == 200
    root = api.login("root")
    assert revoke(api, root, token=bob["access_token"]) == 200
    assert api.run(count(api)) == 1


async def count(api: TokenApi) -> int:
    """How many revocations are written down."""
    async with api.kept.database.reading() as connection:
        assert connection is not None
        found = await connection.exec_driver_sql("SELECT count(*) FROM revocations")
        return int(found.scalar_one())


def test_a_token_without_an_id(api: TokenApi) -> None:
    """It is taken back by its digest; another without an id still counts."""
    said = users(api)
    said_there = {"sub": "ann", "iat": int(NOON), "exp": int(NOON) + 600}
    one, two = (jwt.encode({**said_there, "n": number}, SECRET, "HS256") for number in range(2))
    assert revoke(api, said["ann"], token=one) == 200
    assert [api.good(token) for token in (one, two)] == [False, True]


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_only_who_is_known(settled: Settled, token: str) -> None:
    """Without a good token of one's own: 401, and nothing is taken back."""
    api, said = settled
    answer = api.post("/auth/revoke", token, token=said["ann"]["access_token"])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert good(api, said["ann"]) == [(True, True)]


def test_all_of_a_subject(worker: Callable[[], TokenApi]) -> None:
    """For admins: everything that was given to them until now, in every worker; who logs in again, may."""
    api, other = worker(), worker()
    said = users(api)
    api.clock.now += 60.5
    assert revoke(api, said["root"], subject="ann") == 200
    other.run(other.kept.journal.catch_up())
    for one in (api, other):
        assert good(one, *said.values()) == [(False, False), (True, True), (True, True)]
    again = other.login("ann")
    for one in (api, other):
        assert good(one, again) == [(True, True)]
    assert other.refresh(again["refresh_token"]).status_code == 200


def test_who_logs_in_again_in_another_worker(worker: Callable[[], TokenApi]) -> None:
    """A worker that has not heard of it yet still gives out a token that counts, in the very same second."""
    api, other = worker(), worker()
    said = users(api)
    api.clock.now += 60.25
    assert revoke(api, said["root"], subject="ann") == 200
    api.clock.now += 0.25
    again = other.login("ann")
    for one in (api, other):
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
    assert revocation._parse_moment(moment) == NOON + 60


def test_all_before_a_moment(api: TokenApi) -> None:
    """For admins: everybody's tokens and logins from before it, their own too; later ones count."""
    said = users(api)
    api.clock.now += 60
    late = api.login("ann")
    root = api.login("root")
    api.clock.now += 60
    assert revoke(api, root, issued_before=MOMENTS[2]) == 200
    assert good(api, *said.values()) == [(False, False)] * 3
    assert good(api, late, root) == [(True, True)] * 2


def test_of_a_subject_before_a_moment(api: TokenApi) -> None:
    """Both together: of that subject, from before it."""
    said = users(api)
    api.clock.now += 60
    late = api.login("ann")
    api.clock.now += 60
    assert revoke(api, said["root"], subject="ann", issued_before=str(int(NOON) + 30)) == 200
    assert good(api, said["ann"], late, said["bob"]) == [
        (False, False),
        (True, True),
        (True, True),
    ]


@pytest.mark.parametrize("form", [{"subject": "ann"}, {"subject": "bob"}, {"issued_before": "1"}])
def test_many_only_for_admins(settled: Settled, form: dict[str, str]) -> None:
    """Nobody else, not even for their own."""
    api, said = settled
    assert revoke(api, said["bob"], **form) == 403
    assert good(api, *said.values()) == [(True, True)] * 3


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
    api, said = settled
    answer = api.post("/auth/revoke", said["root"]["access_token"], **form)
    assert answer.status_code == 422
    assert set(answer.json()["error"]["details"]["fields"]) == {field}
    assert good(api, *said.values()) == [(True, True)] * 3


def test_it_could_not_be_written_down(api: TokenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """503: whoever asked must know that other workers do not know; here it is in force."""
    said = users(api)

    def away() -> None:
        raise ServiceUnavailable("away")

    monkeypatch.setattr(api.kept.database, "writing", away)
    assert revoke(api, said["ann"], token=said["ann"]["access_token"]) == 503
    assert not api.good(said["ann"]["access_token"])


def test_without_a_token_endpoint(api: TokenApi) -> None:
    """Tokens of other issuers are taken back as well: in memory, where there is no database."""
    said = users(api)
    app = create_app(
        "1",
        [
            tokens.router(
                PREFIX,
                verify=api.verifier.verify,
                revoker=api.kept.memory,
                clock=api.clock,
            )
        ],
    )
    api.app = app
    assert api.post("/auth/token", username="ann", password="x").status_code == 404
    assert revoke(api, said["ann"], token=said["ann"]["access_token"]) == 200
    assert not api.good(said["ann"]["access_token"])
    assert revoke(api, said["root"], subject="bob") == 200
    api.clock.now += 1
    assert revoke(api, said["root"], subject="bob") == 200
    assert not api.good(said["bob"]["access_token"])


def test_introspection(settled: Settled) -> None:
    """For admins: what a good token says (RFC 7662, 2.2)."""
    api, said = settled
    token = said["ann"]["access_token"]
    answer = introspect(api, said["root"], token)
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


def introspect(api: TokenApi, who: dict[str, Any], token: str, **form: str) -> httpx.Response:
    """Have a token explained."""
    return api.post("/auth/introspect", who["access_token"], token=token, **form)


def test_introspection_of_another_issuers(settled: Settled) -> None:
    """Issuer and audience as they are said; odd ones are left out."""
    api, said = settled
    said_there = {"sub": "eve", "exp": int(NOON) + 60, "iss": "me", "aud": ["a", "b"]}
    told = introspect(api, said["root"], jwt.encode(said_there, SECRET, "HS256")).json()
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
def test_introspection_of_what_does_not_count(api: TokenApi, token: str) -> None:
    """Exactly `{"active": false}`: unknown, revoked, expired; and a refresh token, which is not for services."""
    said = users(api)
    assert revoke(api, said["bob"], token=said["bob"]["access_token"]) == 200
    known = {
        "refresh": said["ann"]["refresh_token"],
        "revoked": said["bob"]["access_token"],
        "expired": said["ann"]["access_token"],
    }
    if token == "expired":
        api.clock.now += HOUR
        said["root"] = api.login("root")
    answer = introspect(api, said["root"], known.get(token, token), token_type_hint="x")
    assert (answer.status_code, answer.json()) == (200, {"active": False})


@pytest.mark.parametrize(("who", "status"), [("ann", 403), ("nobody", 401)])
def test_introspection_only_for_admins(settled: Settled, who: str, status: int) -> None:
    """Whoever else asks learns nothing, not even of their own."""
    api, said = settled
    caller = said.get(who, {"access_token": ""})
    assert introspect(api, caller, said["ann"]["access_token"]).status_code == status


def test_introspection_of_nothing(settled: Settled) -> None:
    """422 with the field's name."""
    api, said = settled
    answer = api.post("/auth/introspect", said["root"]["access_token"])
    assert answer.status_code == 422
    assert set(answer.json()["error"]["details"]["fields"]) == {"token"}


def test_nobody_can_tell_whether_it_counts(api: TokenApi) -> None:
    """503 with a time to come back: `active: false` would end a session that is good; nor is it revoked."""
    said = users(api)

    async def away(sent: bytes) -> Verified:
        raise ServiceUnavailable("away")

    api.app = create_app(
        "1",
        [tokens.router(PREFIX, verify=away, revoker=api.kept.memory, clock=api.clock)],
    )
    for path in ("/auth/introspect", "/auth/revoke"):
        answer = api.post(path, said["root"]["access_token"], token="opaque")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "5"
        assert "active" not in answer.json()


@pytest.mark.parametrize("caller", ["nobody", "expired", "nonsense"])
def test_logging_out_without_a_good_access_token(
    worker: Callable[[], TokenApi], caller: str
) -> None:
    """Possession of the refresh token is enough: the access token of a client has usually expired by then."""
    api, other = worker(), worker()
    said = users(api)
    sent = {"nobody": "", "nonsense": "nonsense", "expired": said["ann"]["access_token"]}[caller]
    api.clock.now += 1801 if caller == "expired" else 0
    assert api.post("/auth/revoke", sent, token=said["ann"]["refresh_token"]).status_code == 200
    assert api.refresh(said["ann"]["refresh_token"]).status_code == 401
    other.run(other.kept.journal.catch_up())
    assert not other.good(said["ann"]["access_token"])
    assert api.refresh(said["bob"]["refresh_token"]).status_code == 200


def test_an_expired_caller_is_told_so(api: TokenApi) -> None:
    """Who revokes an access token needs a good one; an expired one is named as such."""
    said = users(api)
    api.clock.now += 1801
    answer = api.post(
        "/auth/revoke", said["ann"]["access_token"], token=said["bob"]["access_token"]
    )
    assert (answer.status_code, answer.json()["error"]["message"]) == (401, "Token has expired")


@pytest.mark.parametrize("name", ["ann", "ANN", "Ann"])
def test_names_are_one_in_any_capitals(api: TokenApi, name: str) -> None:
    """A revocation by subject finds the user whom a login of that name would find."""
    said = users(api)
    api.clock.now += 60
    assert revoke(api, said["root"], subject=name) == 200
    assert good(api, *said.values()) == [(False, False), (True, True), (True, True)]


def test_revocations_are_listed_and_taken_back(worker: Callable[[], TokenApi]) -> None:
    """An admin sees what is in force and undoes a mistake, in every worker; logins that ended stay ended."""
    api, other = worker(), worker()
    said = users(api)
    root = said["root"]["access_token"]
    api.clock.now += 60
    assert revoke(api, said["root"], subject="ann") == 200
    other.run(other.kept.journal.catch_up())
    [entry] = api.get("/auth/revocations", root).json()
    assert (entry["kind"], entry["value"], entry["moment"]) == ("subject", "ann", NOON + 60)
    path = f"/auth/revocations/{entry['id']}"
    assert api.run(api.asking("DELETE", path, root)).status_code == 204
    assert api.run(api.asking("DELETE", path, root)).status_code == 404
    other.run(other.kept.journal.catch_up())
    for one in (api, other):
        assert good(one, said["ann"]) == [(True, False)]
    assert api.get("/auth/revocations", root).json() == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(("who", "status"), [("ann", 403), (None, 401)])
def test_revocations_are_for_admins(
    settled: Settled, method: str, who: str | None, status: int
) -> None:
    """Nobody else sees or undoes them."""
    api, said = settled
    path = "/auth/revocations" + ("/1" if method == "DELETE" else "")
    token = "" if who is None else said[who]["access_token"]
    assert api.run(api.asking(method, path, token)).status_code == status


@pytest.mark.parametrize("query", ["after=-1", "limit=0", "limit=1001", "after=x"])
def test_pages_of_revocations(settled: Settled, query: str) -> None:
    """A page that cannot be is refused."""
    api, said = settled
    answer = api.get(f"/auth/revocations?{query}", said["root"]["access_token"])
    assert answer.status_code == 422
