"""Hash and verify passwords with argon2id: costly on purpose, so off the event loop and few at a time."""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from propylon.errors import ServiceUnavailable

__all__ = ["LONGEST_PASSWORD", "Cost", "Passwords"]

T = TypeVar("T")

LONGEST_PASSWORD = 1024  # bytes: more is no password, but work for whoever hashes it
_VERSION = 19  # of argon2: 1.3
_SALT = 16  # bytes
_DIGEST = 32  # bytes
_RETRY_AFTER = ((b"Retry-After", b"2"),)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash takes: rounds, KiB of memory, lanes. RFC 9106, section 4, second recommendation."""

    time: int = 3
    memory: int = 64 * 1024
    lanes: int = 4


class Passwords:
    """Hashes passwords in threads of its own."""

    def __init__(self, cost: Cost | None = None, *, threads: int = 2, waiting: int = 32) -> None:
        """Hash `threads` passwords at a time, and let as many as `waiting` wait for it.

        Memory is bounded by `threads`: at the default cost, two take 128 MiB. The threads are started
        with the first password.
        """
        cost = cost or Cost()
        self._hash = PasswordHash((Argon2Hasher(cost.time, cost.memory, cost.lanes),))
        self._dummy = _dummy(cost)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="propylon-passwords")
        self._limit = threads + waiting
        self._busy = 0

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raises ServiceUnavailable when too many wait."""
        text = _normalised(password)
        return await self._run(lambda: self._hash.hash(text))

    async def verify(self, password: str, known: str | None) -> tuple[bool, str | None]:
        """Say whether it is the password; also return a new hash, where the parameters have changed.

        Where no hash is known, it takes just as long, so that nobody learns who has an account. Raises
        ServiceUnavailable when too many wait.
        """
        text = _normalised(password)
        return await self._run(lambda: self._verify(text, known))

    def close(self) -> None:
        """End the threads; nobody waits for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, text: bytes, known: str | None) -> tuple[bool, str | None]:
        if len(text) <= LONGEST_PASSWORD and known is not None:
            try:
                return self._hash.verify_and_update(text, known)
            except UnknownHashError:
                known = None  # written by somebody else: no password fits it
        self._hash.verify(text[:LONGEST_PASSWORD], self._dummy)
        return False, None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._busy >= self._limit:
            msg = "Too many passwords are being checked; try again in a moment"
            raise ServiceUnavailable(msg, headers=_RETRY_AFTER, reason="password threads are busy")
        self._busy += 1
        try:
            # Whoever leaves is taken out of the queue; what a thread has begun, it ends.
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1


def _normalised(password: str) -> bytes:
    """Return the bytes that are hashed: one form for what looks the same (RFC 8265, 4.2.1)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _dummy(cost: Cost) -> str:
    """Return a hash that no password has, with the parameters of all others.

    Put together, not computed: the first unknown user would wait twice as long as all others.
    """
    parts = (
        "",
        "argon2id",
        f"v={_VERSION}",
        f"m={cost.memory},t={cost.time},p={cost.lanes}",
        _b64(secrets.token_bytes(_SALT)),
        _b64(secrets.token_bytes(_DIGEST)),
    )
    return "$".join(parts)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode("ascii")
