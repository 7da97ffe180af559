"""A scripted Redis, gateways that use it, and a loop on which waiting takes no time."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import hiredis

from propylon.proxy.limit.rule import Decision, Spend
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.target import Address, Kind, Login, Target

__all__ = ["Peer", "Warned", "decided", "gateway", "logged", "ok", "until"]

Command = list[bytes]
Answer = Callable[[Command], bytes | None]
BEGAN = 1_790_000_000_000_000


def ok(command: Command) -> bytes | None:
    """What a Redis answers that lets everything pass: each bucket owes one unit then."""
    name = command[0].upper()
    if name == b"PING":
        return b"+PONG\r\n"
    return granted(command) if name == b"EVALSHA" else b"+OK\r\n"


def granted(command: Command) -> bytes:
    """The script's answer: what is asked for is spent."""
    rules, numbers = json.loads(command[-1])
    told, at = [BEGAN], 0
    while at < len(numbers):
        kind, count = numbers[at : at + 2]
        width = 4 if kind == 2 else 2
        if kind == 0:
            told += [rules[numbers[at + 2 + 2 * spend] - 1][3] for spend in range(count)]
        at += 2 + width * count
    return b"*%d\r\n" % len(told) + b"".join(b":%d\r\n" % number for number in told)


class Peer:
    """A server that notes each command, and answers as `answer` says; None: not at all."""

    def __init__(self) -> None:
        self.answer: Answer = ok
        self.commands: list[Command] = []
        self.address = Address()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def listen(self, tls: ssl.SSLContext | None = None) -> Peer:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.address.port, ssl=tls
        )
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command)
                if (answer := self.answer(command)) is not None:
                    writer.write(answer)
        writer.close()

    @property
    def names(self) -> list[bytes]:
        """The commands that came, without their arguments."""
        return [command[0] for command in self.commands]

    def hang_up(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def close(self) -> None:
        """Accept no more, and close all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.hang_up()


class Warned(logging.Handler):
    """What the log says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if record.levelno >= logging.WARNING:
            self.lines.append(record.getMessage())


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the warnings."""
    handler, log = Warned(), logging.getLogger("propylon.stores.redis")
    log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        log.removeHandler(handler)


def gateway(
    *addresses: Address,
    kind: Kind = "server",
    login: Login | None = None,
    master: str = "",
) -> RedisLimits:
    """A gateway's store, with a store of its machine beside it."""
    loop = asyncio.get_running_loop()

    def clock() -> int:
        return round(loop.time() * 1e9)

    target = Target(kind, addresses, login or Login(), master=master)
    return RedisLimits(target, MemoryLimits(clock), loop=loop, chance=lambda: 0.5, clock=clock)


async def decided(store: RedisLimits, *spends: Spend) -> list[Decision]:
    """The decisions of one request."""
    found = store.decide(spends)
    return await found if isinstance(found, Awaitable) else found


async def passing(store: RedisLimits, spends: Sequence[Spend]) -> int:
    """How many of these requests pass, one after the other."""
    return sum([(await decided(store, spend))[0].allowed for spend in spends])


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is true, for a minute at the most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)
