"""Speak Redis's protocol (RESP2): commands go out in a pipeline, and answers come back in the same order.

Each command has a callback for its answer, and no future and no task: at tens of thousands of decisions a second those
would take longer than the rest. The parser is hiredis, in C. A caller that has several commands writes them at once.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import hiredis

from propylon.stores.redis.target import Address

__all__ = ["Connection", "ErrorReply", "Lost", "Reply", "open_connection", "pack"]

Reply = object
"""What Redis answers: bytes, a whole number, None, a list of such, or an ErrorReply."""
Answered = Callable[[Reply], None]

# Characters of an error of Redis that a log shows.
_SHOWN = 120


class ErrorReply(Exception):
    """Redis has answered with an error. `code` is its first word: such as MOVED or NOSCRIPT."""

    @property
    def code(self) -> str:
        """The error's code, such as MOVED or NOAUTH: the first word of the reply."""
        return str(self).partition(" ")[0]

    @property
    def shown(self) -> str:
        """What a log may show: it must not have line ends, and no more than it can hold."""
        shown = "".join(char if char.isprintable() else " " for char in str(self))[:_SHOWN]
        # Where it is followed, it is not shown.
        hint = "; it is a node of a Cluster: write redis+cluster://" if self.code == "MOVED" else ""
        return shown + hint


class Lost(Exception):
    """The connection could not be made, or was lost; the message says why."""


def pack(*parts: str | int | bytes) -> bytes:
    """Return a command as Redis reads it."""
    # Its stub says that it takes a tuple of one.
    packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]
    return packed


class Connection(asyncio.Protocol):
    """One connection. When it ends, each of `on_lost` is called with the reason; commands that wait get no answer."""

    def __init__(self) -> None:
        """Wait for the transport."""
        self.on_lost: list[Callable[[str], None]] = []
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ErrorReply)
        self._waiting: deque[Answered] = deque()
        self._reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: from now on something can be sent."""
        # TCP, TLS and Unix sockets all have one that can write.
        self._transport = cast("asyncio.Transport", transport)

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._transport is None

    def send(self, data: bytes, answered: Iterable[Answered]) -> None:
        """Write packed commands, with a callback for the answer to each."""
        if self._transport is not None:
            self._waiting.extend(answered)
            self._transport.write(data)

    async def call_all(self, packed: Sequence[bytes], patience: float) -> list[Reply]:
        """Send packed commands at once, off the hot path; return the answers, errors among them.

        Raises Lost, also if they have not come within `patience` seconds.
        """
        replies: list[Reply] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(packed) and not done.done():
                done.set_result(None)

        def lost(reason: str) -> None:
            if not done.done():
                done.set_exception(Lost(reason))

        self.on_lost.append(lost)
        try:
            if self._transport is None:
                raise Lost(self._reason or "it was closed")
            self.send(b"".join(packed), [answered] * len(packed))
            async with asyncio.timeout(patience):
                await done
        except TimeoutError:
            self.abort("it does not answer")
            msg = "it accepts connections and does not answer"
            raise Lost(msg) from None
        finally:
            self.on_lost.remove(lost)
        return replies

    def data_received(self, data: bytes) -> None:
        """Hand each answer to its callback."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                # An answer without a question: it is no Redis, or not one that we understand.
                if not self._waiting:
                    self.abort("it answers without a question")
                    return
                self._waiting.popleft()(reply)
        except hiredis.ProtocolError:
            self.abort("it does not speak Redis's protocol")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell that it is over."""
        self._transport = None
        self._waiting.clear()
        self._reason = self._reason or ("it closed the connection" if error is None else f"{error}")
        for on_lost in tuple(self.on_lost):
            on_lost(self._reason)

    def abort(self, reason: str) -> None:
        """End it at once: what waits for an answer gets none."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
            self._waiting.clear()


async def open_connection(
    address: Address, tls: ssl.SSLContext | None, patience: float
) -> Connection:
    """Connect within so many seconds. Raises Lost."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            if address.path:
                _, connection = await loop.create_unix_connection(Connection, address.path)
            else:
                _, connection = await loop.create_connection(
                    Connection, address.host, address.port, ssl=tls
                )
    except TimeoutError:
        msg = "it does not accept connections"
        raise Lost(msg) from None
    except OSError as error:
        raise Lost(_reason(error)) from error
    return connection


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    # asyncio puts the address into the text; a name that is not known has no number that the system knows.
    number = error.errno or 0
    return (os.strerror(number) if number > 0 else error.strerror or f"{error}").lower()
