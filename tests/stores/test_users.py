"""The users: who is found, who is let in, who will not do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from propylon.stores.passwords import Cost
from propylon.stores.users import InvalidUser, NoUser, User, UserExists, Users
from tests.stores.kept import PASSWORD, Counting, Kept


def test_what_is_kept(kept: Kept) -> None:
    """Everything that was said of a user comes back, but for the password."""
    ann = kept.add(
        "ann", scopes="write read", roles="clerk", email="ann@a.test", full_name="Ann Ä. Smith"
    )
    assert kept.run(kept.users.find("ann")) == ann
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) == ann
    assert PASSWORD.encode() not in kept.file.read_bytes()


@pytest.mark.parametrize(
    ("written", "asked"), [("ann", "ANN"), ("Ann", "ann"), ("STRASSE", "straße"), ("ﬁn", "FIN")]
)
def test_names_are_found_however_they_are_capitalised(kept: Kept, written: str, asked: str) -> None:
    """One user, found by every spelling, called as they were written; and nobody else gets the name."""
    kept.add(written)
    assert kept.run(kept.users.find(asked)) == User(written)
    with pytest.raises(UserExists):
        kept.add(asked)
    assert kept.run(kept.users.all()) == [User(written)]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "wrong horse"),
        ("ann", ""),
        ("ann", PASSWORD + " "),
        ("bob", PASSWORD),
        ("", PASSWORD),
        ("a\x00nn", PASSWORD),
        ("an\ud800n", PASSWORD),
        ("ann ", PASSWORD),
        ("x" * 10_000, PASSWORD),
        ("%", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("off", PASSWORD),
    ],
)
def test_nobody_else_is_let_in(kept: Kept, name: str, password: str) -> None:
    """A wrong password, an unknown or impossible name, a disabled user: None, after one hash each."""
    kept.add("ann")
    kept.add("off", disabled=True)
    assert kept.run(kept.users.authenticate(name, password)) is None
    assert kept.passwords.verified == 1


def test_disabling_and_enabling(kept: Kept) -> None:
    """A disabled user is not let in, but is known; an enabled one is let in again."""
    kept.add("ann")
    kept.run(kept.users.disable("ANN"))
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) is None
    assert kept.run(kept.users.find("ann")) == User("ann", disabled=True)
    kept.run(kept.users.disable("ann", disabled=False))
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) == User("ann")


def test_a_new_password(kept: Kept) -> None:
    """The new one fits, the old one does not."""
    kept.add("ann")
    kept.run(kept.users.set_password("ann", "another horse"))
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) is None
    assert kept.run(kept.users.authenticate("ann", "another horse")) == User("ann")


def test_removing(kept: Kept) -> None:
    """A removed user is unknown, and the name is free."""
    kept.add("ann", scopes="admin")
    kept.add("bob")
    kept.run(kept.users.remove("Ann"))
    assert kept.run(kept.users.find("ann")) is None
    assert kept.run(kept.users.all()) == [User("bob")]
    kept.add("ann")
    assert kept.run(kept.users.find("ann")) == User("ann")


@pytest.mark.parametrize("name", ["bob", "", "a\x00b"])
def test_nobody_to_change(kept: Kept, name: str) -> None:
    """Changing a user who is not there is an error, and changes nobody."""
    ann = kept.add("ann")
    for change in (
        kept.users.disable(name),
        kept.users.set_password(name, "another horse"),
        kept.users.remove(name),
    ):
        with pytest.raises(NoUser):
            kept.run(change)
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) == ann


def test_all_stand_by_name(kept: Kept) -> None:
    """The list is sorted, whatever the capitals."""
    for name in ("Carl", "bob", "Ann"):
        kept.add(name)
    assert [user.username for user in kept.run(kept.users.all())] == ["Ann", "bob", "Carl"]


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (User(""), "a username"),
        (User("a b"), "a username"),
        (User("a\nb"), "a username"),
        (User("a\u2028b"), "a username"),
        (User("a" * 129), "a username"),
        (User("\ufdfa" * 60), "a username"),
        (User("ann", scopes=frozenset({"a,admin"})), "a scope"),
        (User("ann", scopes=frozenset({'"'})), "a scope"),
        (User("ann", scopes=frozenset({""})), "a scope"),
        (User("ann", roles=frozenset({"a b"})), "a role"),
        (User("ann", roles=frozenset({"ä"})), "a role"),
        (User("ann", email="a b@c.test"), "an email address has no spaces"),
        (User("ann", email="a@b.test\r\nX-User-Roles: admin"), "an email address has no spaces"),
        (User("ann", email="a" * 255), "an email address has no spaces"),
        (User("ann", full_name="a\nb"), "a full name"),
        (User("ann", full_name="a" * 257), "a full name"),
    ],
)
def test_users_that_will_not_do(kept: Kept, user: User, said: str) -> None:
    """What would break out of a header or a list is refused before anything is written."""
    with pytest.raises(InvalidUser, match=said):
        kept.run(kept.users.add(user, PASSWORD))
    assert not kept.file.exists()


@pytest.mark.parametrize(
    ("password", "said"),
    [("", "at least 8"), ("1234567", "at least 8"), ("ä" * 513, "at most 1024 bytes")],
)
def test_passwords_that_will_not_do(kept: Kept, password: str, said: str) -> None:
    """Too short and too long ones are refused, for a new user and for a known one."""
    with pytest.raises(InvalidUser, match=said):
        kept.run(kept.users.add(User("ann"), password))
    kept.add("ann")
    with pytest.raises(InvalidUser, match=said):
        kept.run(kept.users.set_password("ann", password))
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) == User("ann")


def test_a_login_renews_the_hash(tmp_path: Path, worker: Callable[[], Kept]) -> None:
    """After the parameters changed, the next login of each user writes a new hash; a failed one does not."""
    kept = worker()
    kept.add("ann")
    passwords = Counting(Cost(2, 16, 1))
    users = Users(kept.database, passwords, kept.clock)
    assert kept.run(users.authenticate("ann", "wrong horse")) is None
    assert kept.run(users.authenticate("ann", PASSWORD)) == User("ann")
    assert passwords.verified == 2

    async def hashes() -> list[str]:
        async with kept.database.reading() as connection:
            assert connection is not None
            found = await connection.exec_driver_sql("SELECT password_hash FROM users")
            return [row[0] for row in found]

    (known,) = kept.run(hashes())
    assert known.startswith("$argon2id$v=19$m=16,t=2,p=1$")
    assert kept.run(users.authenticate("ann", PASSWORD)) == User("ann")
    assert kept.run(hashes()) == [known]
    passwords.close()
