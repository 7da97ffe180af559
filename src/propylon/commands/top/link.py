"""Read the stream of a gateway, come back when it breaks, and do what the operator says.

The gateway ends each stream after a minute, and a restart ends it, too: the next one begins where the last one ended, or anew.
Requests are HTTP/1.0, so that an answer ends with its connection; no redirect is followed.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from propylon.commands.reach import NotReached, connect, in_words
from propylon.commands.top.words import shown
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.schema import GatewayConfig
from propylon.edge.trust import Trust
from propylon.process.sockets import CannotListen, wanted

__all__ = ["Link", "LinkLost", "Place", "of_this_machine", "of_url"]

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_LARGEST = 64 * 1024 * 1024  # a line about 5,000 routes has a megabyte
_PATIENCE = 10.0  # seconds until the gateway answers; the stream has a line each second, and more rarely under load
_REFUSALS = {
    401: "the token is not accepted: it is missing, has expired or was revoked",
    403: "the token has not the scope that it needs (admin.scope), or this address may not (admin.allow)",
    404: "there is no such endpoint here: the endpoints of the admin may be on another listener (admin.listen)",
}


class LinkLost(Exception):
    """The gateway cannot be asked, or refuses; the message says why, for the operator."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is: how to connect, and what it is called."""

    name: str
    host: str
    connect: Callable[[], Any]


def of_this_machine(config: GatewayConfig) -> Place:
    """Return the place of the gateway that this configuration starts here. Raises LinkLost."""
    edge = config.admin.listen or PUBLIC
    trust = Trust.of(config.server.trusted_proxies)
    for one in wanted(config):
        if one.edge == edge:
            return Place(str(one.address), "localhost", partial(connect, one, trust))
    msg = "the file names no listener that can be asked; write --url"
    raise LinkLost(msg)


def of_url(url: str) -> Place:
    """Return the place of a URL. Raises LinkLost."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or port == 0 or parts.username is not None:
        msg = "--url is no URL of the form http://HOST:PORT"
        raise LinkLost(msg)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    number = port or (443 if secure else 80)

    def opened() -> Any:
        return asyncio.open_connection(host, number, ssl=secure, limit=_LARGEST)

    return Place(shown(parts.netloc), parts.netloc, opened)


class Link:
    """Asks one gateway."""

    def __init__(self, place: Place, prefix: str, token: Callable[[], str]) -> None:
        """`token` returns the token; it is asked each time, because the file may hold a new one. It raises ValueError."""
        self.place = place
        self._prefix = prefix
        self._token = token

    async def lines(self, generation: str, seq: int) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the lines of one stream, until the gateway ends it. Raises LinkLost."""
        query = urlencode({"generation": generation, "seq": seq})
        async with self._asked("GET", f"/gateway/live?{query}", b"") as (status, reader):
            if status != 200:
                raise LinkLost(_refusal(status, b""))
            while line := await _line(reader):
                try:
                    yield json.loads(line)
                except ValueError:
                    msg = "what answers there is not this gateway: a line is no JSON"
                    raise LinkLost(msg) from None

    async def drain(self, service: str, instance: str, *, drained: bool) -> None:
        """Send no new requests to an instance, or send them again. Raises LinkLost."""
        path = f"/services/{quote(service, safe='')}/{quote(instance, safe='')}/drain"
        await self._do("PUT" if drained else "DELETE", path, b"")

    async def change(self, service: str, state: str) -> None:
        """Open or close a breaker. Raises LinkLost."""
        await self._do(
            "PUT", f"/circuits/{quote(service, safe='')}", json.dumps({"state": state}).encode()
        )

    async def _do(self, method: str, path: str, body: bytes) -> None:
        async with self._asked(method, path, body) as (status, reader):
            if status != 204:
                raise LinkLost(_refusal(status, await reader.read(65536)))

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: bytes
    ) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
        """Send a request and read the head of its answer. Raises LinkLost, also for what happens inside."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await self.place.connect()
                writer.write(self._head(method, path, body) + body)
                status = await _status(reader)
            yield status, reader
        except TimeoutError:
            msg = "it does not answer"
            raise LinkLost(msg) from None
        except (NotReached, CannotListen, ValueError) as error:
            raise LinkLost(shown(error)) from None
        except OSError as error:
            raise LinkLost(in_words(error)) from None
        finally:
            if writer is not None:
                writer.transport.abort()

    def _head(self, method: str, path: str, body: bytes) -> bytes:
        token = self._token()
        lines = [
            f"{method} {self._prefix}{path} HTTP/1.0",
            f"Host: {self.place.host}",
            "User-Agent: propylon-top",
        ]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    found = _STATUS.match(await reader.readline())
    if found is None:
        msg = "what listens there speaks no HTTP, or closed the connection"
        raise NotReached(msg)
    while (await reader.readline()).strip():
        pass  # the headers
    return int(found[1])


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line; nothing at the end. Raises TimeoutError where the stream is silent."""
    parts: list[bytes] = []
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                return b"".join([*parts, await reader.readuntil(b"\n")])
            except asyncio.IncompleteReadError:
                return b""  # a part of a line, of a gateway that was ended
            except asyncio.LimitOverrunError as error:
                parts.append(await reader.readexactly(error.consumed))
                if sum(map(len, parts)) > _LARGEST:
                    msg = "a line is longer than 64 MiB"
                    raise NotReached(msg) from None


def _refusal(status: int, body: bytes) -> str:
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = ""
    known = _REFUSALS.get(status, f"it answers {status}")
    return f"{known}: {shown(said)}" if said else known
