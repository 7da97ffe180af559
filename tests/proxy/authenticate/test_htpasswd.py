"""Files of users: which hashes are taken, and what is said of the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.authenticate.htpasswd import BadFile, cheap, parse

BCRYPT = "$2y$10$mZ0ut5Ur1MlbUZnpd7m9Iun8uT5kOUPgAhSeJqcWq9CLer8ydss5K"
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$RHhsO8Y0onZf8v8hMMZpyA$b/YJkUv7luv/QYHXpBFmE2N2QVJrIsmq0qTkQlnc8/A"


def test_names_and_hashes() -> None:
    """Comments, empty lines, blanks at an end and Windows' line ends are passed over."""
    text = f"# team\n\nann:{BCRYPT}\r\n  \nbob b:{ARGON2}  \njürgen:{BCRYPT.replace('$2y', '$2b')}"
    assert list(parse(text)) == ["ann", "bob b", "jürgen"]
    assert parse(text)["bob b"] == ARGON2
    assert cheap(parse(text)) == []
    assert cheap(parse(f"ann:{BCRYPT.replace('$10', '$09')}\nbob:{BCRYPT}")) == ["ann"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "has no user"),
        ("# only this", "has no user"),
        ("ann", "line 1 is not NAME:HASH"),
        (f":{BCRYPT}", "line 1 has no name"),
        (f" ann:{BCRYPT}", "space at an end"),
        (f"a\0n:{BCRYPT}", "control character"),
        (f"ann:{BCRYPT}\nann:{BCRYPT}", 'line 2 has the user "ann" a second time'),
        ("ann:$apr1$abcdefgh$abcdefghijklmnopqrstu.", "hashed with MD5"),
        ("ann:$1$abcdefgh$abcdefghijklmnopqrstu.", "hashed with MD5"),
        ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "hashed with SHA-1"),
        ("ann:$5$salt$hash", "hashed with SHA-256 of crypt"),
        ("ann:$6$salt$hash", "hashed with SHA-512 of crypt"),
        ("ann:rl.3StKT.4T8M", "hashed with DES of crypt"),
        ("ann:{PLAIN}secret", "hashed with the password itself"),
        ("ann:secret", "has neither a bcrypt nor an argon2 hash"),
        (f"ann:{BCRYPT}:more", "has neither a bcrypt nor an argon2 hash"),
        (f"ann:{BCRYPT.replace('$10', '$15')}", "a cost outside 4 to 14"),
        (f"ann:{BCRYPT.replace('$10', '$03')}", "a cost outside 4 to 14"),
        (f"ann:{ARGON2.replace('m=65536', 'm=1048576')}", "more than 262144 KiB"),
        (f"ann:{ARGON2.replace('t=3', 't=0')}", "more than 262144 KiB"),
        (f"ann:{ARGON2.replace('m=65536', 'm=8')}", "of too little memory"),
    ],
)
def test_what_is_refused(line: str, said: str) -> None:
    """The message has the line, the reason, and nothing of the hash."""
    with pytest.raises(BadFile, match=said) as caught:
        parse(line)
    assert not {"$", "secret", "W6ph5"} & set(str(caught.value).split())
    assert BCRYPT not in str(caught.value)


@given(st.text())
def test_any_text_is_users_or_refused(text: str) -> None:
    """Nothing else is raised, and a user has a name and a hash of the two kinds."""
    try:
        users = parse(text)
    except BadFile:
        return
    assert all(name and known.startswith(("$2", "$argon2")) for name, known in users.items())
