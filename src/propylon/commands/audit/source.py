"""Get the text of `/metrics`: from a file, from a URL, or from the gateway that runs on this machine.

No redirect is followed: a token goes to the address that the operator named, and to no other.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from propylon.commands.audit.scrape import NoMetrics
from propylon.commands.reach import NotReached, connect, in_words
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import parse_listen
from propylon.edge.trust import Trust
from propylon.process.sockets import CannotListen, Wanted, wanted
from propylon.telemetry.selection import printable

__all__ = ["Scrape", "from_place", "from_this_machine"]

_PATH = "/metrics"
_LARGEST = 64 * 1024 * 1024  # ten thousand routes have a tenth of it
_OK = 200
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_REFUSALS = {
    401: "it wants a token: write --token-file, or set PROPYLON_TOKEN",
    403: "the token does not open it: it needs the scope of admin.scope, or of admin.scopes.metrics",
    404: "there are no metrics: /metrics may be on another listener (metrics.listen, admin.listen)",
}


@dataclass(frozen=True, slots=True)
class Scrape:
    """A text of metrics, where it came from, and when it was taken (seconds since 1970)."""

    text: str
    place: str
    taken: float


def from_place(place: str, token: str, timeout: float) -> Scrape:
    """Return the text of a file, or of a URL; `timeout` (seconds) is for each read. Raises NoMetrics."""
    if re.match(r"https?://", place):
        return Scrape(_fetched(place, token, timeout), place, time.time())
    file = Path(place)
    try:
        if file.stat().st_size > _LARGEST:
            _refuse(place, "it is larger than 64 MiB")
        return Scrape(file.read_text(encoding="utf-8"), place, file.stat().st_mtime)
    except UnicodeDecodeError:
        _refuse(place, "it is not UTF-8")
    except OSError as error:
        _refuse(place, (error.strerror or str(error)).lower())


def _refuse(place: str, why: str) -> NoReturn:
    msg = f"{place} cannot be read: {why}"
    raise NoMetrics(msg)


def _fetched(url: str, token: str, timeout: float) -> str:
    parts = urlsplit(url)
    if parts.username is not None or not parts.hostname:
        msg = "is no URL of the form http://HOST:PORT/metrics"
        raise NoMetrics(msg)
    connection = _connection(parts, timeout)
    target = (parts.path or _PATH) + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers=_headers(token))
        answer = connection.getresponse()
        body = answer.read(_LARGEST + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        _refuse(url, _said(error))
    finally:
        connection.close()
    return _checked(url, answer.status, body)


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise NoMetrics(str(error)) from None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _headers(token: str) -> dict[str, str]:
    headers = {"User-Agent": "propylon-audit", "Accept": "text/plain"}
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _said(error: Exception) -> str:
    """Return what went wrong, in words for operators."""
    if isinstance(error, OSError):
        return printable(in_words(error))
    return printable(str(error)) or type(error).__name__


def _checked(place: str, status: int, body: bytes) -> str:
    if status != _OK:
        _refuse(place, _REFUSALS.get(status, f"the answer is {status}"))
    if len(body) > _LARGEST:
        _refuse(place, "it is larger than 64 MiB")
    return body.decode("utf-8", "replace")


def from_this_machine(config: GatewayConfig, token: str, timeout: float) -> Scrape:
    """Return what the gateway of this configuration answers here; `timeout` (seconds) is for all. Raises NoMetrics."""
    trust = Trust.of(config.server.trusted_proxies)
    why = "the file names no listener that can be asked"
    for one in _listeners(config):
        place = str(one.address)
        try:
            text = asyncio.run(_within(one, trust, token, timeout))
        except (NotReached, CannotListen) as error:
            why = f"{place}: {error}"
        except (OSError, ValueError) as error:
            why = f"{place}: {_said(error)}"
        else:
            return Scrape(text, place, time.time())
    raise NoMetrics(why)


def _listeners(config: GatewayConfig) -> Iterator[Wanted]:
    """Yield the listeners that have the metrics: one of their own, else that of the admin, else the public ones."""
    own = config.metrics.listen or config.admin.listen
    if own is None:
        yield from (one for one in wanted(config) if one.edge == PUBLIC)
        return
    address = Tcp(*parse_listen(own))
    yield from (one for one in wanted(config) if one.edge != PUBLIC and one.address == address)


async def _within(one: Wanted, trust: Trust, token: str, seconds: float) -> str:
    async with asyncio.timeout(seconds):
        return await _asked(one, trust, token)


async def _asked(one: Wanted, trust: Trust, token: str) -> str:
    reader, writer = await connect(one, trust)
    try:
        lines = [f"{name}: {value}\r\n" for name, value in _headers(token).items()]
        # HTTP/1.0: the answer is not chunked, and ends with the connection.
        head = f"GET {_PATH} HTTP/1.0\r\nHost: localhost\r\n{''.join(lines)}\r\n"
        writer.write(head.encode("latin-1"))
        status = _STATUS.match(await reader.readline())
        if status is None:
            msg = "what listens there speaks no HTTP"
            raise NotReached(msg)
        while (await reader.readline()).strip():
            pass  # the headers
        body = b""
        while chunk := await reader.read(65536):
            body += chunk
            if len(body) > _LARGEST:
                break
    finally:
        writer.transport.abort()
    return _checked(str(one.address), int(status[1]), body)
