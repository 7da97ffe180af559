"""The token endpoint: who gets a token, and what it says; how it goes on by refreshing."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from propylon.control.issuer import Issuer
from propylon.control.schemas import Envelope
from propylon.control.token_schemas import TokenAnswer
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Rules, judge
from tests.control.token_api import EXPIRES, SECRET, TokenApi, claims
from tests.stores.kept import HOUR, NOON, PASSWORD


def refused(answer: httpx.Response, status: int = 401, code: str = "AUTH_ERROR") -> dict[str, Any]:
    """The error of an answer that is a refusal."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    Envelope.model_validate(answer.json())
    assert answer.headers["cache-control"] == "no-store"
    assert (status == 401) == ("www-authenticate" in answer.headers)
    found: dict[str, Any] = answer.json()["error"]
    return found


def unfit(answer: httpx.Response) -> set[str]:
    """The fields that an answer complains of."""
    return set(refused(answer, 422, "INVALID_REQUEST")["details"]["fields"])


def test_a_login(api: TokenApi) -> None:
    """A token that counts and says who they are; it is stored by no cache."""
    api.add("ann", scopes="write read", roles="clerk", email="ann@a.test", full_name="Ann")
    answer = api.post("/auth/token", username="ann", password=PASSWORD)
    assert answer.status_code == 200
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    said = answer.json()
    TokenAnswer.model_validate(said)
    assert sorted(said) == ["access_token", "expires_in", "refresh_token", "scope", "token_type"]
    assert (said["token_type"], said["expires_in"], said["scope"]) == ("bearer", 1800, "read write")
    assert claims(said["access_token"]) == {
        "sub": "ann",
        "scopes": ["read", "write"],
        "roles": ["clerk"],
        "email": "ann@a.test",
        "type": "access",
        "iat": NOON,
        "exp": NOON + EXPIRES,
        "jti": "id-1",
    }
    verified = api.run(api.verifier.verify(said["access_token"].encode()))
    assert verified.principal.subject == "ann"
    assert verified.principal.scopes == {"read", "write"}
    assert verified.principal.roles == {"clerk"}


def test_a_token_expires(api: TokenApi) -> None:
    """It counts as long as was said, and no longer."""
    api.add("ann")
    said = api.login()
    api.clock.now += said["expires_in"] - 0.01
    assert api.good(said["access_token"])
    api.clock.now += 0.02
    assert not api.good(said["access_token"])


@pytest.mark.parametrize(
    ("theirs", "asked", "granted"),
    [
        ("read write", None, "read write"),
        ("read write", "read", "read"),
        ("read write", "write  read", "read write"),
        ("read write", "admin", ""),
        ("read write", "read admin", "read"),
        ("read", "READ", ""),
        ("", "admin", ""),
        ("", None, ""),
    ],
)
def test_scopes(readonly: TokenApi, theirs: str, asked: str | None, granted: str) -> None:
    """What was asked for and is theirs; all that is theirs where nothing was asked for; never more."""
    name = f"user-{theirs}-{asked}".replace(" ", "-")
    readonly.add(name, scopes=theirs)
    said = readonly.login(name, **({} if asked is None else {"scope": asked}))
    assert said["scope"] == granted
    assert claims(said["access_token"])["scopes"] == granted.split()


def test_a_name_however_it_is_capitalised(api: TokenApi) -> None:
    """The subject is the name as it was written, so that it is one and the same everywhere."""
    api.add("Ann")
    assert claims(api.login("aNN")["access_token"])["sub"] == "Ann"


def test_whatever_is_wrong_looks_the_same(api: TokenApi) -> None:
    """A wrong password, an unknown name, a disabled user: byte for byte one answer, and one hash each."""
    api.add("ann")
    api.add("off", disabled=True)
    answers = []
    for name, password in [
        ("ann", "wrong horse"),
        ("bob", PASSWORD),
        ("off", PASSWORD),
        ("off", "wrong horse"),
        ("ann smith", PASSWORD),
        ("x" * 256, PASSWORD),
    ]:
        before = api.kept.passwords.verified
        answers.append(api.post("/auth/token", username=name, password=password))
        assert api.kept.passwords.verified == before + 1
    assert refused(answers[0])["message"] == "Incorrect username or password"
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert len({(one.status_code, one.content, tuple(one.headers.items())) for one in answers}) == 1


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ({}, {"username", "password"}),
        ({"username": "ann"}, {"password"}),
        ({"username": "ann", "password": ""}, {"password"}),
        ({"password": PASSWORD}, {"username"}),
        ({"username": "a\nb", "password": PASSWORD}, {"username"}),
        ({"username": "a\x00b", "password": PASSWORD}, {"username"}),
        ({"username": "x" * 257, "password": PASSWORD}, {"username"}),
        ({"username": "ann", "password": "ä" * 513}, {"password"}),
        ({"username": "ann", "password": PASSWORD, "scope": "x" * 4097}, {"scope"}),
        ({"username": "ann", "password": PASSWORD, "scope": "a\x00"}, {"scope"}),
        ({"username": "ann", "password": PASSWORD, "grant_type": "implicit"}, {"grant_type"}),
        ({"username": "ann", "password": PASSWORD, "grant_type": "PASSWORD"}, {"grant_type"}),
        ({"grant_type": "refresh_token"}, {"refresh_token"}),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 8193}, {"refresh_token"}),
    ],
)
def test_what_is_missing_or_will_not_do(
    api: TokenApi, form: dict[str, str], fields: set[str]
) -> None:
    """422, with the names of the fields; nothing of what was sent, and no hash is computed."""
    api.add("ann")
    answer = api.post("/auth/token", **form)
    assert unfit(answer) == fields
    assert PASSWORD not in answer.text
    assert api.kept.passwords.verified == 0


@pytest.mark.parametrize(
    "options",
    [
        {"json": {"username": "ann", "password": PASSWORD}},
        {"content": f"username=ann&password={PASSWORD}"},
        {"params": {"username": "ann", "password": PASSWORD}},
    ],
)
def test_only_a_form(readonly: TokenApi, options: dict[str, Any]) -> None:
    """JSON, a body without a type, a query: as if nothing had been sent."""
    answer = readonly.run(readonly.asking("POST", "/auth/token", **options))
    assert unfit(answer) == {"username", "password"}
    message = answer.json()["error"]["message"]
    assert ("send a form, not JSON, as curl -d " in message) is ("json" in options)


def test_a_form_in_parts(readonly: TokenApi) -> None:
    """multipart/form-data is a form as well; a file is no password."""
    parts = {"username": (None, "ann"), "password": (None, PASSWORD)}
    answer = readonly.run(readonly.asking("POST", "/auth/token", files=parts))
    assert answer.status_code == 200
    files = {"username": (None, "ann"), "password": ("a.txt", PASSWORD)}
    assert unfit(readonly.run(readonly.asking("POST", "/auth/token", files=files))) == {"password"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("username=ann&username=bob&password=correct+horse", {"username"}),
        ("username=ann&password=x&password=correct+horse", {"password"}),
        ("username=ann&password=correct+horse&scope=read&scope=admin", {"scope"}),
    ],
)
def test_nothing_is_said_twice(readonly: TokenApi, body: str, fields: set[str]) -> None:
    """Two values for one field could be read in two ways: refused."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = readonly.run(readonly.asking("POST", "/auth/token", content=body, headers=form))
    assert unfit(answer) == fields


def test_fields_of_other_clients(readonly: TokenApi) -> None:
    """What OAuth2 clients also send is not looked at."""
    assert (
        readonly.login(grant_type="password", client_id="docs", client_secret="")["scope"] == "read"
    )


def test_nobody_asks_for_a_token_with_another_method(readonly: TokenApi) -> None:
    """POST only: a password in a URL would be in every log."""
    assert readonly.get(f"/auth/token?username=ann&password={PASSWORD}").status_code == 405


def test_no_users_no_file(api: TokenApi) -> None:
    """Somebody who guesses at a gateway without users does not make it write a database."""
    refused(api.post("/auth/token", username="ann", password=PASSWORD))
    refused(api.refresh("0" * 96))
    assert not api.kept.file.exists()


def test_too_many_passwords_at_once(api: TokenApi) -> None:
    """When the threads cannot keep up: 503 with Retry-After, and the other endpoints answer."""
    api.add("ann", scopes="read")
    token = api.login()["access_token"]
    api.kept.passwords._busy = api.kept.passwords._limit
    answer = api.post("/auth/token", username="ann", password=PASSWORD)
    refused(answer, 503, "SERVICE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "2"
    assert api.get("/users/me", token).status_code == 200


def test_the_database_is_away(api: TokenApi) -> None:
    """503 with Retry-After, and not a word of what is wrong with it."""
    api.kept.file.mkdir()
    for answer in (
        api.post("/auth/token", username="ann", password=PASSWORD),
        api.refresh("0" * 96),
    ):
        error = refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert error["message"] == "Accounts cannot be looked up now"
        assert answer.headers["retry-after"] == "5"


# Refreshing


def test_refreshing(api: TokenApi) -> None:
    """Another access token, another refresh token; the access token of before counts until it expires."""
    api.add("ann", scopes="read write", roles="clerk", email="ann@a.test")
    first = api.login()
    api.clock.now += 60
    answer = api.refresh(first["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert second["scope"] == "read write"
    assert second["refresh_token"] != first["refresh_token"]
    said = claims(second["access_token"])
    assert (said["sub"], said["roles"], said["email"]) == ("ann", ["clerk"], "ann@a.test")
    assert (said["jti"], said["iat"]) == ("id-2", NOON + 60)
    assert api.good(first["access_token"])
    assert api.good(second["access_token"])


def test_one_that_is_used_twice(worker: Callable[[], TokenApi]) -> None:
    """It ends all that came of the login, in every worker; another login of the same user goes on."""
    api, other = worker(), worker()
    api.add("ann")
    first, elsewhere = api.login(), api.login()
    second = api.refresh(first["refresh_token"]).json()
    refused(other.refresh(first["refresh_token"]))
    refused(api.refresh(second["refresh_token"]))
    api.run(api.kept.journal.catch_up())
    for one in (api, other):
        found = [one.good(said["access_token"]) for said in (first, second, elsewhere)]
        assert found == [False, False, True]
    assert api.refresh(elsewhere["refresh_token"]).status_code == 200


def test_two_uses_at_once(worker: Callable[[], TokenApi]) -> None:
    """At most one gets an answer, and nothing that came of the login counts after it."""
    api, other = worker(), worker()
    api.add("ann")
    first = api.login()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    answers = api.kept.together(
        *(one.asking("POST", "/auth/token", data=form) for one in (api, other) * 3)
    )
    assert all(isinstance(answer, httpx.Response) for answer in answers)
    good = [answer for answer in answers if answer.status_code == 200]  # type: ignore[union-attr]
    assert len(good) <= 1
    assert {answer.status_code for answer in answers} <= {200, 401}  # type: ignore[union-attr]
    for one in (api, other):
        one.run(one.kept.journal.catch_up())
        assert not one.good(first["access_token"])
        for answer in good:
            assert not one.good(answer.json()["access_token"])  # type: ignore[union-attr]
            refused(one.refresh(answer.json()["refresh_token"]))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "granted"),
    [("read", "read"), ("admin", ""), ("read admin more", "read"), (None, "read write")],
)
def test_refreshing_never_widens(readonly: TokenApi, asked: str | None, granted: str) -> None:
    """Less may be asked for, for one access token; the next one may have all that was granted again."""
    name = f"narrow-{asked}".replace(" ", "-")
    readonly.add(name, scopes="read write more")
    first = readonly.login(name, scope="read write")
    form = {} if asked is None else {"scope": asked}
    second = readonly.refresh(first["refresh_token"], **form).json()
    assert second["scope"] == granted
    assert claims(second["access_token"])["scopes"] == granted.split()
    assert readonly.refresh(second["refresh_token"]).json()["scope"] == "read write"


def change(api: TokenApi, statement: str) -> None:
    """Change the users' table."""

    async def main() -> None:
        async with api.kept.database.writing() as connection:
            await connection.exec_driver_sql(statement)

    api.run(main())


def test_what_was_taken_away_is_gone(api: TokenApi) -> None:
    """The user's scopes and roles are read again each time; new ones take a new login."""
    api.add("ann", scopes="read write", roles="admin")
    first = api.login()
    change(api, "UPDATE users SET scopes = 'read more', roles = 'clerk', email = 'new@a.test'")
    second = api.refresh(first["refresh_token"]).json()
    said = claims(second["access_token"])
    assert (said["scopes"], said["roles"], said["email"]) == (["read"], ["clerk"], "new@a.test")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET disabled = true",
        "DELETE FROM users",
        "UPDATE users SET username = 'ANN'",
    ],
)
def test_a_user_who_is_gone(api: TokenApi, statement: str) -> None:
    """Disabled, removed, or another one by now: 401, and the login has ended, access token included."""
    api.add("ann")
    first = api.login()
    change(api, statement)
    refused(api.refresh(first["refresh_token"]))
    assert not api.good(first["access_token"])
    change(api, "UPDATE users SET disabled = false, username = 'ann'")
    refused(api.refresh(first["refresh_token"]))


def test_an_expired_login(api: TokenApi) -> None:
    """After its time, the refresh token is as good as unknown."""
    api.add("ann")
    first = api.login()
    api.clock.now += 24 * HOUR
    refused(api.refresh(first["refresh_token"]))


def test_an_access_token_is_no_refresh_token(api: TokenApi) -> None:
    """And a refresh token is no access token."""
    api.add("ann", scopes="read")
    said = api.login()
    refused(api.refresh(said["access_token"]))
    assert not api.good(said["refresh_token"])
    refused(api.get("/users/me", said["refresh_token"]))


# The issuer


def issuer(now: float, **options: Any) -> Issuer:
    """An issuer at a moment."""
    return Issuer(SECRET, "HS256", 60.0, lambda: now, lambda: "id", **options)


def test_issuer_and_audience() -> None:
    """Where they are configured, they are said: one as itself, several as a list."""
    one = claims(issuer(NOON, issuer="me", audience=("a",)).issue("ann").token)
    assert (one["iss"], one["aud"]) == ("me", "a")
    many = claims(issuer(NOON, audience=("a", "b")).issue("ann").token)
    assert many["aud"] == ["a", "b"]
    assert "iss" not in many
    assert "email" not in many


def test_claims_of_another_name() -> None:
    """Scopes and roles are said where the configuration has them looked for, dots and all."""
    made = issuer(NOON, scopes_claim="scp", roles_claim="realm_access.roles")
    token = made.issue("ann", scopes={"read"}, roles={"clerk"}).token
    rules = Rules(scopes_claims=("scp",), roles_claims=("realm_access.roles",))
    principal = judge(claims(token), rules, NOON).principal
    assert (principal.scopes, principal.roles) == ({"read"}, {"clerk"})


def test_whole_seconds() -> None:
    """A token counts at least as long as is said, and says so in whole seconds."""
    issued = issuer(NOON + 0.75).issue("ann")
    said = claims(issued.token)
    assert (said["iat"], said["exp"]) == (NOON, NOON + 61)
    assert isinstance(said["iat"], int)
    assert (issued.expires, issued.life) == (NOON + 61, 60)


def test_the_second_of_a_revocation() -> None:
    """A token that is issued right after all earlier ones were taken back is later than these."""
    said = claims(issuer(NOON + 0.75).issue("ann", after=NOON + 0.5).token)
    assert said["iat"] == NOON + 0.75
    assert claims(issuer(NOON + 0.75).issue("ann", after=NOON).token)["iat"] == NOON


def test_secrets_are_not_shown() -> None:
    """Neither the secret nor a token is in what a log may print."""
    made = issuer(NOON)
    assert SECRET.decode() not in repr(made)
    assert made.issue("ann").token not in repr(made.issue("ann"))


def test_the_issuer_of_a_broken_store(api: TokenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is given out while nobody knows what was taken back."""
    api.add("ann")

    async def away() -> None:
        raise ServiceUnavailable("away")

    monkeypatch.setattr(api.kept.journal, "catch_up", away)
    answer = api.post("/auth/token", username="ann", password=PASSWORD)
    refused(answer, 503, "SERVICE_UNAVAILABLE")
