"""user and token: who is in the database afterwards, what is printed, and the status they end with."""

import asyncio
import base64
import json
import os
import secrets
import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from propylon.cli import users as module
from propylon.cli.main import app
from propylon.commands import user as command
from propylon.proxy.authenticate.claims import Rules, judge
from propylon.proxy.authenticate.jws import parse
from propylon.proxy.authenticate.keys import from_secret
from propylon.stores.database import Database
from propylon.stores.grants import Grants
from propylon.stores.journal import RevocationJournal
from propylon.stores.memory import MemoryRevocations
from propylon.stores.passwords import Passwords
from propylon.stores.users import Users
from tests.stores.kept import CHEAP, PASSWORD

SECRET = "Wq8-zT4nXk2vB9rLc6yJm3pHd7sGf5aE"
NOBODY = "there is no secret to sign tokens with; set JWT_SECRET_KEY, or write auth.jwt.secret"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a secret in the environment, and hashes that cost nothing."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PROPYLON") or name.endswith("SECRET_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    monkeypatch.setattr(command, "Passwords", lambda: Passwords(CHEAP))
    return tmp_path


def call(*arguments: str, said: str | bytes = "") -> Result:
    """Run a command in this process, with a text on its standard input."""
    return CliRunner().invoke(app, list(arguments), input=said)


def add(name: str, *options: str, password: str = PASSWORD) -> Result:
    """Add a user."""
    return call("user", "add", name, "--password-stdin", *options, said=f"{password}\n")


def listed() -> list[dict[str, object]]:
    """Every user, as a program gets them."""
    done = call("user", "list", "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_adding(folder: Path) -> None:
    """The user is in the database, which nobody else may read; where it is, is said."""
    done = add("Ann", "--scopes", "write read", "--roles", "clerk", "--email", "ann@a.test")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f'user "Ann" is added to {folder}/propylon.db\n'
    assert listed() == [
        {
            "username": "Ann",
            "email": "ann@a.test",
            "full_name": "",
            "scopes": ["read", "write"],
            "roles": ["clerk"],
            "disabled": False,
        }
    ]
    assert stat.S_IMODE(Path("propylon.db").stat().st_mode) == 0o600


def test_the_password_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: twice, unseen; it is never an argument."""
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    done = call("user", "add", "ann", said=f"{PASSWORD}\nother horse\n{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.stderr
    assert PASSWORD not in done.output
    assert "do not match" in done.output
    assert len(listed()) == 1


def test_without_a_terminal() -> None:
    """Nobody is there to be asked: the message says what to do."""
    done = call("user", "add", "ann", said=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 2
    assert "--password-stdin" in done.stderr
    assert not Path("propylon.db").exists()


@pytest.mark.parametrize("said", ["", "\n", "short\n", "x" * 1025 + "\n", b"\xff\xfe password\n"])
def test_passwords_that_will_not_do(said: str | bytes) -> None:
    """Empty, too short, too long, no text: status 2, one sentence, no database."""
    done = call("user", "add", "ann", "--password-stdin", said=said)
    assert done.exit_code == 2
    assert done.stderr.startswith(("propylon: a password has", "propylon: the password is"))
    assert done.stderr.count("\n") == 1
    assert not Path("propylon.db").exists()


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_the_line_ends_with_the_password(ending: str) -> None:
    """A line break is not part of it; a space is."""
    done = call("user", "add", "ann", "--password-stdin", said=f" {PASSWORD} {ending}")
    assert done.exit_code == 0
    assert login(f" {PASSWORD} ")
    assert not login(PASSWORD)


def login(password: str, name: str = "ann") -> bool:
    """Whether they would be let in."""

    async def main() -> bool:
        database, passwords = Database("sqlite:///propylon.db"), Passwords(CHEAP)
        found = await Users(database, passwords, lambda: 0.0).authenticate(name, password)
        await database.close()
        passwords.close()
        return found is not None

    return asyncio.run(main())


def test_twice_the_same() -> None:
    """A name is given once, in whatever capitals: status 1, and the first one stays."""
    add("ann", "--scopes", "read")
    done = add("ANN", "--scopes", "admin")
    assert (done.exit_code, done.stderr) == (1, 'propylon: there is a user "ANN" already\n')
    assert [user["scopes"] for user in listed()] == [["read"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a b"], "a username"),
        (["ann", "--scopes", "a,b"], "a scope"),
        (["ann", "--roles", 'a"b'], "a role"),
        (["ann", "--email", "a b"], "an email address has no spaces"),
        (["ann", "--full-name", "a\nb"], "a full name"),
    ],
)
def test_users_that_will_not_do(options: list[str], said: str) -> None:
    """Status 2, and what is wrong."""
    done = add(*options)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"propylon: {said}")


def test_the_list_for_people() -> None:
    """Aligned columns, sorted by name."""
    add("bob", "--full-name", "Bob Smith")
    add("ann", "--scopes", "write read", "--roles", "clerk")
    call("user", "disable", "bob")
    lines = [line.split() for line in call("user", "list").stdout.splitlines()]
    assert lines == [
        ["USERNAME", "SCOPES", "ROLES", "DISABLED", "EMAIL", "FULL", "NAME"],
        ["ann", "read", "write", "clerk"],
        ["bob", "yes", "Bob", "Smith"],
    ]


def test_a_list_of_nobody() -> None:
    """Before anybody was added: an empty list, and no database for it."""
    assert listed() == []
    assert call("user", "list").exit_code == 0
    assert not Path("propylon.db").exists()


def test_disabling_and_enabling() -> None:
    """In whatever capitals; what that means for tokens that are about is said."""
    add("ann")
    done = call("user", "disable", "ANN")
    assert done.exit_code == 0
    assert "tokens are revoked" in done.stdout
    assert [user["disabled"] for user in listed()] == [True]
    assert call("user", "enable", "ann").stdout == 'user "ann" is enabled\n'
    assert [user["disabled"] for user in listed()] == [False]


def test_a_new_password() -> None:
    """The new one fits, the old one does not."""
    add("ann")
    done = call("user", "password", "ann", "--password-stdin", said="another horse\n")
    assert done.exit_code == 0, done.stderr
    assert [login(PASSWORD), login("another horse")] == [False, True]


def test_removing() -> None:
    """The user is gone, and the name is free."""
    add("ann")
    assert call("user", "remove", "Ann").exit_code == 0
    assert listed() == []
    assert add("ann").exit_code == 0


@pytest.mark.parametrize("words", [["disable"], ["enable"], ["remove"], ["password"]])
def test_nobody_of_that_name(words: list[str]) -> None:
    """Status 1, and nothing is changed."""
    add("ann")
    before = listed()
    stdin = ["--password-stdin"] if words == ["password"] else []
    done = call("user", *words, "bob", *stdin, said="another horse\n")
    assert (done.exit_code, done.stderr) == (1, 'propylon: there is no user "bob"\n')
    assert listed() == before


COMMANDS = [
    ["user", "add", "ann", "--password-stdin"],
    ["user", "list"],
    ["user", "disable", "ann"],
    ["user", "enable", "ann"],
    ["user", "password", "ann", "--password-stdin"],
    ["user", "remove", "ann"],
]


@pytest.mark.parametrize("words", [*COMMANDS, ["token"]])
def test_without_a_secret(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2, and how to come by one."""
    monkeypatch.delenv("JWT_SECRET_KEY")
    done = call(*words, said=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"propylon: {NOBODY}\n")


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_token_endpoint(words: list[str]) -> None:
    """Status 2: users would be of no use; a token can be signed all the same."""
    Path("propylon.yaml").write_text("auth: {tokens: {enabled: false}}\n")
    done = call(*words, said=f"{PASSWORD}\n")
    assert done.exit_code == 2
    assert "auth.tokens.enabled is false" in done.stderr
    assert call("token").exit_code == 0


@pytest.mark.parametrize("words", COMMANDS)
def test_a_database_that_will_not_do(words: list[str]) -> None:
    """Status 2, one sentence with the reason, no traceback."""
    Path("propylon.db").mkdir()
    done = call(*words, said=f"{PASSWORD}\n")
    assert done.exit_code == 2
    assert done.stderr.startswith("propylon: database: IsADirectoryError")
    assert done.stderr.count("\n") == 1


def test_a_database_in_memory() -> None:
    """It would be gone with the command: refused."""
    Path("propylon.yaml").write_text('auth: {tokens: {database: "sqlite:///:memory:"}}\n')
    done = add("ann")
    assert done.exit_code == 2
    assert "a database in memory is lost" in done.stderr


def test_each_takes_a_file() -> None:
    """--config names the file, and the database is the one in there."""
    Path("other.yaml").write_text("auth: {tokens: {database: 'sqlite:///other.db'}}\n")
    assert add("ann", "--config", "other.yaml").exit_code == 0
    assert Path("other.db").exists()
    assert not Path("propylon.db").exists()
    for words in (["user", "list"], ["token"], ["user", "disable", "ann"]):
        assert call(*words, "--config", "other.yaml").exit_code == 0
        assert call(*words, "--config", "missing.yaml").exit_code == 2


# A token to try things out with


def test_a_token() -> None:
    """Only the token is printed; it is good, and says what was asked for."""
    done = call("token", "ann", "--scopes", "read write", "--roles", "clerk", "--email", "a@b.c")
    assert (done.exit_code, done.stderr) == (0, "")
    jws = parse(done.stdout.removesuffix("\n").encode())
    from_secret(SECRET.encode(), ["HS256"]).verify(jws)
    claims = json.loads(jws.payload)
    verified = judge(jws.payload, Rules(), claims["iat"])
    assert verified.principal.subject == "ann"
    assert verified.principal.scopes == {"read", "write"}
    assert verified.principal.roles == {"clerk"}
    assert verified.principal.email == "a@b.c"
    assert claims["exp"] - claims["iat"] in {600, 601}
    assert not Path("propylon.db").exists()


def claims_of(done: Result) -> dict[str, object]:
    """What a printed token says."""
    assert done.exit_code == 0, done.stderr
    part = done.stdout.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_a_token_says_what_is_checked() -> None:
    """Issuer and audience as configured, or the gateway would refuse it."""
    Path("propylon.yaml").write_text("auth: {jwt: {issuer: [me, you], audience: a}}\n")
    said = claims_of(call("token"))
    assert (said["sub"], said["iss"], said["aud"]) == ("test", "me", "a")


@pytest.mark.parametrize(("expires", "seconds"), [("1h", 3600), ("90", 90), ("500ms", 1)])
def test_how_long_it_counts(expires: str, seconds: int) -> None:
    """In the units of the file."""
    said = claims_of(call("token", "--expires", expires))
    assert isinstance(said["exp"], int)
    assert isinstance(said["iat"], int)
    assert said["exp"] - said["iat"] in {seconds, seconds + 1}


@pytest.mark.parametrize(
    "words",
    [
        ["--expires", "soon"],
        ["--expires", "0s"],
        [""],
        ["a\nb"],
        ["x" * 257],
        ["ann", "--scopes", "a,b"],
        ["ann", "--roles", "a,b"],
        ["ann", "--email", "a\r\nX-User-Roles: admin"],
    ],
)
def test_tokens_that_nobody_could_use(words: list[str]) -> None:
    """Status 2, nothing on stdout, one sentence."""
    done = call("token", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("propylon: ")
    assert done.stderr.count("\n") == 1


def test_changing() -> None:
    """What is named changes, and nothing else; nothing named is a mistake."""
    add("Ann", "--scopes", "read write", "--roles", "clerk", "--email", "ann@a.test")
    done = call("user", "set", "ANN", "--scopes", "read", "--full-name", "Ann A")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith('user "ANN" is changed')
    [user] = listed()
    assert (user["scopes"], user["roles"], user["full_name"]) == (["read"], ["clerk"], "Ann A")
    assert user["email"] == "ann@a.test"
    done = call("user", "set", "ann")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert call("user", "set", "bob", "--email", "").exit_code == 1
    assert call("user", "set", "ann", "--scopes", "a,b").exit_code == 2


def test_sessions() -> None:
    """They are listed, for people and for programs, and ended one by one or together."""
    add("ann")

    async def log_in(*addresses: str) -> None:
        database = Database("sqlite:///propylon.db")
        memory = MemoryRevocations(time.time, longest=60.0)
        journal = RevocationJournal(database, memory, time.time)
        grants = Grants(
            database, journal, expires=60.0, clock=time.time, secret=secrets.token_bytes
        )
        for address in addresses:
            await grants.begin("ann", frozenset({"read"}), address, time.time() + 60, address)
        await database.close()

    asyncio.run(log_in("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    found = json.loads(call("user", "sessions", "ANN", "--format", "json").stdout)
    assert [one["address"] for one in found] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert "192.0.2.2" in call("user", "sessions", "ann").stdout
    done = call("user", "sessions", "ann", "--end", found[0]["id"])
    assert (done.exit_code, done.stdout) == (0, 'user "ann": 1 session ended\n')
    assert call("user", "sessions", "ann", "--end", found[0]["id"]).exit_code == 1
    assert call("user", "sessions", "ann", "--end", "all").stdout.endswith("2 sessions ended\n")
    assert json.loads(call("user", "sessions", "ann", "--format", "json").stdout) == []
    assert call("user", "sessions", "bob").exit_code == 1
