"""Read a file of user names and hashes of passwords, as Apache's `htpasswd` writes it. Pure.

Only hashes that are slow on purpose are taken: bcrypt and argon2. The others of the format (MD5, SHA-1, crypt) fall to a
graphics card in hours, and a file with plain passwords needs not even that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from propylon.proxy.principal import is_line

__all__ = ["CHEAP_ROUNDS", "BadFile", "cheap", "parse"]

# 2^10 rounds are OWASP's least. `htpasswd -B` makes 2^5, unless it is told otherwise with -C.
CHEAP_ROUNDS = 10
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
# 2^15 rounds take three seconds: each attempt would keep a thread of the gateway busy for that long.
_ROUNDS = range(4, 15)
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)(?:\$v=19)?\$m=([0-9]{1,7}),t=([0-9]{1,3}),p=([0-9]{1,3})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
# KiB, rounds and lanes. Two attempts at a time take the memory twice.
_MOST_MEMORY, _MOST_TIME, _MOST_LANES = 256 * 1024, 16, 16
_ADVICE = "write the line anew with: htpasswd -B -C 10 FILE NAME"
_WEAK = (
    ("$apr1$", "MD5"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("{SSHA}", "SHA-1"),
    ("$5$", "SHA-256 of crypt"),
    ("$6$", "SHA-512 of crypt"),
    ("{PLAIN}", "the password itself"),
)
_DES = re.compile(r"[./A-Za-z0-9]{13}")


class BadFile(ValueError):
    """The file cannot be used. The message names a line, and nothing of a hash."""


@lru_cache(maxsize=8)
def parse(text: str) -> Mapping[str, str]:
    """Return the hash of each user's password, by the user's name. Raises BadFile.

    Remembered: thousands of routes may have the same file.
    """
    users: dict[str, str] = {}
    for number, name, known in _lines(text):
        if not is_line(name):
            msg = f"line {number} has no name, or one with a control character or a space at an end"
            raise BadFile(msg)
        if name in users:
            msg = f'line {number} has the user "{name}" a second time; take one of the two out'
            raise BadFile(msg)
        if reason := _unusable(known):
            msg = f"line {number} {reason}"
            raise BadFile(msg)
        users[name] = known
    if not users:
        msg = "has no user, so nobody could log in; add one with: htpasswd -B -C 10 FILE NAME"
        raise BadFile(msg)
    return users


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each line that is neither empty nor a comment, and its two parts."""
    for number, line in enumerate(text.split("\n"), 1):
        content = line.rstrip("\r \t")
        if not content.strip() or content.startswith("#"):
            continue
        name, colon, known = content.partition(":")
        if not colon:
            msg = f"line {number} is not NAME:HASH"
            raise BadFile(msg)
        yield number, name, known


def _unusable(known: str) -> str:
    """Say why a hash is not taken; empty if it is."""
    if (bcrypt := _BCRYPT.fullmatch(known)) is not None:
        if int(bcrypt[1]) in _ROUNDS:
            return ""
        return f"has a bcrypt hash with a cost outside {_ROUNDS.start} to {_ROUNDS.stop - 1}; {_ADVICE}"
    if (argon2 := _ARGON2.fullmatch(known)) is not None:
        memory, time, lanes = map(int, argon2.groups())
        if 8 * lanes <= memory <= _MOST_MEMORY and 1 <= time <= _MOST_TIME and lanes <= _MOST_LANES:
            return ""
        return (
            f"has an argon2 hash of more than {_MOST_MEMORY} KiB, {_MOST_TIME} rounds or {_MOST_LANES} lanes,"
            " or of too little memory; write it anew with less"
        )
    for start, kind in _WEAK:
        if known.startswith(start):
            return f"is hashed with {kind}, which is guessed too fast; {_ADVICE}"
    if _DES.fullmatch(known):
        return f"is hashed with DES of crypt, which is guessed too fast; {_ADVICE}"
    return f"has neither a bcrypt nor an argon2 hash; {_ADVICE}"


def cheap(users: Mapping[str, str]) -> list[str]:
    """Return the users whose hash is allowed, and cheaper to guess than it should be."""
    return [
        name
        for name, known in users.items()
        if (bcrypt := _BCRYPT.fullmatch(known)) is not None and int(bcrypt[1]) < CHEAP_ROUNDS
    ]
