"""Hash and verify passwords with argon2id, in threads, a few at a time.

A hash takes 64 MiB and tens of milliseconds on purpose. On the event loop it would stop every other request; without
a limit, a flood of logins would fill the memory.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from propylon.errors import ServiceUnavailable

__all__ = ["LONGEST_PASSWORD", "Cost", "Passwords"]

T = TypeVar("T")

LONGEST_PASSWORD = 1024  # bytes; a longer text only makes the gateway hash more
_VERSION = 19  # of argon2: 1.3
_SALT = 16  # bytes
_DIGEST = 32  # bytes
_NICE = 19
# bcrypt reads no more of a password, and other programs cut off the rest without a word. So must who checks their hashes.
_OF_BCRYPT = 72
_RETRY_AFTER = ((b"Retry-After", b"2"),)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a hash: rounds, KiB of memory, lanes. The second recommendation of RFC 9106, section 4."""

    time: int = 3
    memory: int = 64 * 1024
    lanes: int = 4


class Passwords:
    """Hashes and verifies passwords in threads of its own."""

    def __init__(self, cost: Cost | None = None, *, threads: int = 2, waiting: int = 32) -> None:
        """`threads` passwords are hashed at a time, and at most `waiting` more wait.

        `threads` bounds the memory: at the default cost two threads take 128 MiB. They start with the first
        password.
        """
        cost = cost or Cost()
        self._hash = PasswordHash((Argon2Hasher(cost.time, cost.memory, cost.lanes),))
        self._dummy = _dummy(cost)
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="propylon-passwords", initializer=_yield_to_requests
        )
        self._limit = threads + waiting
        self._busy = 0

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raises ServiceUnavailable if too many are waiting."""
        text = _normalised(password)
        return await self._run(lambda: self._hash.hash(text))

    async def verify(self, password: str, known: str | None) -> tuple[bool, str | None]:
        """Tell whether `known` is the hash of the password; also return a new hash if the parameters have changed.

        Without a known hash a dummy is verified, so that the time does not tell which users exist (CWE-208).
        Raises ServiceUnavailable if too many are waiting.
        """
        text = _normalised(password)
        return await self._run(lambda: self._verify(text, known))

    async def matches(self, password: bytes, known: str) -> bool:
        """Tell whether `known`, which another program may have made, is the hash of the password, byte for byte.

        Raises ServiceUnavailable if too many are waiting.
        """
        return await self._run(lambda: _matches(password, known))

    def close(self) -> None:
        """Stop the threads without waiting for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, text: bytes, known: str | None) -> tuple[bool, str | None]:
        if len(text) <= LONGEST_PASSWORD and known is not None:
            try:
                return self._hash.verify_and_update(text, known)
            except UnknownHashError:
                known = None  # a hash of another program: no password matches it
        self._hash.verify(text[:LONGEST_PASSWORD], self._dummy)
        return False, None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._busy >= self._limit:
            msg = "Too many passwords are being checked; try again in a moment"
            raise ServiceUnavailable(msg, headers=_RETRY_AFTER, reason="password threads are busy")
        self._busy += 1
        try:
            # A client that leaves cancels a waiting job. A job that a thread has begun runs to its end.
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1


def _yield_to_requests() -> None:
    """Lower the priority of this thread, so that a flood of logins does not slow down proxied requests.

    argon2 gives up the interpreter, but not the processor: two hashes of four lanes are eight threads. Linux has a
    priority for each thread, and the lanes inherit it. Nice 19 is a seventieth of a normal thread's share: logins become
    slower where the processor is full, and never starve.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _matches(password: bytes, known: str) -> bool:
    # What the hashers are made with is for new hashes: those that are compared name their own parameters.
    if BcryptHasher.identify(known):
        return BcryptHasher().verify(password[:_OF_BCRYPT], known)
    return Argon2Hasher().verify(password, known)


def _normalised(password: str) -> bytes:
    """Return the bytes to hash: NFC, so that both spellings of "é" are one password (RFC 8265, 4.2.1)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _dummy(cost: Cost) -> str:
    """Return a hash that no password matches, with the parameters of real ones.

    It is assembled, not computed: computing it with the first unknown user would double that answer's time, which
    tells that the user is unknown.
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
