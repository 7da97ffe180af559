"""AUTHENTICATE: take a user's name and password from the request (`basic_auth`, RFC 7617) and look them up in a file.

Rules.

1. A hash takes tens of milliseconds on purpose, so it is computed in a thread, once for each user: browsers repeat the
   password with each request. What is remembered of a password that was right is a keyed digest, in memory.
2. A name that the file does not have costs the same hash as one of the file's. Which one is chosen by the name, so that
   ever the same answer takes ever the same time.
3. Attempts that fail are counted as those at the token endpoint are (`guesses`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from propylon.errors import AuthError
from propylon.loop.tasks import spawn
from propylon.proxy.authenticate.cache import Cache
from propylon.proxy.authenticate.guesses import Guesses
from propylon.proxy.principal import Principal, is_line
from propylon.wire.message import Request

__all__ = ["BasicAuth", "Hashing", "Logins", "Means"]

_BASIC = re.compile(rb"basic +([A-Za-z0-9+/]+=*)", re.IGNORECASE)
# Characters of base64. A password of RFC 8265 is shorter; one of megabytes would only be hashed in vain.
_LONGEST = 4096
_DIGEST = 32  # bytes
_REMEMBERED = 10_000  # users with their passwords
_MESSAGE = "A user name and a password are required"


class Hashing(Protocol):
    """Compares passwords with hashes, off the event loop."""

    async def matches(self, password: bytes, known: str) -> bool:
        """Tell whether `known` is the hash of the password. Raises ServiceUnavailable if too many are waiting."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all files of users have in common: the threads that hash, the counts of failures, a key, and how to wait."""

    hashing: Hashing
    guesses: Guesses
    key: bytes
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Logins:
    """The users of one file, and those among them who have shown their password."""

    def __init__(self, users: Mapping[str, str], realm: str, means: Means) -> None:
        """`users` are hashes by name; `realm` is what a browser shows, and tells users of the same name apart."""
        self._users = users
        self._hashes = tuple(users.values())
        self._realm = realm
        self._means = means
        self._issuer = f"basic_auth:{realm}"
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
        challenge = f'Basic realm="{quoted}", charset="UTF-8"'
        self._challenge = ((b"WWW-Authenticate", challenge.encode("ascii")),)
        self._verified: Cache[Principal] = Cache(_REMEMBERED, _REMEMBERED * _DIGEST)
        self._in_flight: dict[bytes, asyncio.Task[Principal | None]] = {}

    async def principal(self, request: Request, client: str) -> Principal:
        """Return who sends the request. Raises AuthError, RateLimited and ServiceUnavailable."""
        sent = request.special.get(b"authorization")
        if sent is None:
            raise self._refused(reason="no credentials")
        if len(sent) != 1:
            raise self._refused(reason="more than one Authorization header")
        key = self._digest(sent[0])
        known = self._verified.get(key)
        if known is not None:
            return known
        # Malformed credentials cost no hash: that they are malformed says nothing about a user.
        found = _credentials(sent[0])
        if found is None:
            raise self._refused(reason="not the credentials of RFC 7617")
        # Shielded: a client that leaves must not cancel what other requests wait for. A browser asks for a page and all
        # its pictures at the same time, and that is one attempt.
        principal = await asyncio.shield(self._start(key, *found, client))
        if principal is None:
            raise self._refused(reason="wrong user name or password")
        return principal

    def _digest(self, sent: bytes) -> bytes:
        # Keyed: a memory dump shows no digest that a dictionary could be held against without the key, and no client can
        # choose two that collide.
        return blake2b(sent, key=self._means.key, digest_size=_DIGEST).digest()

    def _start(
        self, key: bytes, name: str, password: bytes, client: str
    ) -> asyncio.Task[Principal | None]:
        place = key + client.encode("utf-8", "surrogateescape")
        task = self._in_flight.get(place)
        if task is None:
            task = spawn(self._verify(key, name, password, client))
            self._in_flight[place] = task
            task.add_done_callback(lambda done: self._finished(place, done))
        return task

    def _finished(self, place: bytes, task: asyncio.Task[Principal | None]) -> None:
        self._in_flight.pop(place, None)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiting requests may have been cancelled

    async def _verify(
        self, key: bytes, name: str, password: bytes, client: str
    ) -> Principal | None:
        """Return the user if the password is right, else None."""
        means, whose = self._means, f"{self._realm}\n{name}"
        means.guesses.check(whose, client)
        delay = means.guesses.delay(whose)
        # Before a thread hashes the password: a delay there would let a few attackers keep all threads busy.
        if delay > 0:
            await means.sleep(delay)
        known = self._users.get(name)
        matches = await means.hashing.matches(password, known or self._stand_in(name))
        if known is None or not matches:
            means.guesses.failed(whose, client)
            return None
        means.guesses.succeeded(whose, client)
        principal = Principal(name, issuer=self._issuer)
        self._verified.put(key, principal)
        return principal

    def _stand_in(self, name: str) -> str:
        """Return a hash of the file for a name that it does not have: the same one for the same name."""
        number = int.from_bytes(self._digest(b"\0" + name.encode())[:8])
        return self._hashes[number % len(self._hashes)]

    def _refused(self, reason: str) -> AuthError:
        """Return the 401; the client is told nothing of what was wrong."""
        return AuthError(_MESSAGE, headers=self._challenge, reason=f"basic_auth: {reason}")


class BasicAuth:
    """The authenticate stage of a route with `basic_auth`."""

    __slots__ = ("_header", "_logins")

    def __init__(self, logins: Logins, header: str | None = None) -> None:
        """`header` carries the user's name to the service; None: nothing does."""
        self._logins = logins
        self._header = None if header is None else header.encode("ascii")

    async def __call__(self, request: Request, client: str = "") -> Principal:
        """Return the user. Raises what `Logins.principal` raises."""
        principal = await self._logins.principal(request, client)
        if self._header is not None:
            line = (self._header, principal.subject.encode())
            request.vouched = {**(request.vouched or {}), self._header.lower(): line}
        return principal


def _credentials(sent: bytes) -> tuple[str, bytes] | None:
    """Return the name and the password of an Authorization header; None if it is malformed (RFC 7617, 2)."""
    match = _BASIC.fullmatch(sent)
    if match is None or len(match[1]) > _LONGEST:
        return None
    try:
        name, colon, password = base64.b64decode(match[1], validate=True).partition(b":")
        user = name.decode("utf-8")
        text = password.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    # "The user-id and password MUST NOT contain any control characters", NUL among them.
    if not colon or not is_line(user) or any(one < " " or one == "\x7f" for one in text):
        return None
    return user, password
