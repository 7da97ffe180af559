"""Ask the Docker Engine over its Unix socket: which containers run, and when that changes. It is only read: every request is a GET.

Facts. The API is versioned by its path, and the daemon says which versions it speaks. What is read here has been the same since 1.24. The events
have no heartbeat: a daemon that says nothing for long may be idle or hang, so the stream ends after a while, and everything is
asked anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from propylon.upstream.fetch import fetch
from propylon.upstream.lines import Lines, open_lines
from propylon.upstream.ports import Upstream

__all__ = ["Engine", "UnusableEngine"]

_OK = 200
_ANSWER = 5.0  # seconds
_IDLE = 60.0  # seconds without an event, after which everything is asked anew
_LARGEST = 32 * 1024 * 1024
_LARGEST_EVENT = 1024 * 1024
_BLOCK = b"\r\nHost: docker\r\nAccept: application/json\r\nUser-Agent: propylon"
_OLDEST, _NEWEST = (1, 24), (1, 44)  # of the API: the newest that this was written for
_EVENTS = {
    "type": ["container", "network"],
    "event": [
        "start",
        "die",
        "pause",
        "unpause",
        "health_status",
        "rename",
        "connect",
        "disconnect",
    ],
}


class UnusableEngine(Exception):
    """The engine has answered, and not what was asked for."""


class Engine:
    """One Docker Engine."""

    def __init__(self, upstream: Upstream) -> None:
        """Ask over this upstream."""
        self._upstream = upstream
        self._version = ""

    async def containers(self) -> list[object]:
        """Return the containers that run, paused ones included. Raises GatewayError and UnusableEngine."""
        found = await self._get(f"{await self._prefix()}/containers/json")
        if not isinstance(found, list):
            msg = "the list of containers is no list"
            raise UnusableEngine(msg)
        return found

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Lines]:
        """Yield the events, a line for each, once they have begun; a minute of silence is UpstreamTimeout.

        Raises what `open_lines` raises, and UnusableEngine.
        """
        target = f"{await self._prefix()}/events?filters={quote(json.dumps(_EVENTS), safe='')}"
        async with open_lines(
            self._upstream,
            _line(target),
            _BLOCK,
            within=_ANSWER,
            silence=_IDLE,
            limit=_LARGEST_EVENT,
        ) as lines:
            if lines.status != _OK:
                msg = f"the events are answered with {lines.status}"
                raise UnusableEngine(msg)
            yield lines

    async def _prefix(self) -> str:
        """Return what paths begin with: the version of the API that both sides speak."""
        if not self._version:
            said = await self._get("/version")
            known = said if isinstance(said, dict) else {}
            newest = _number(known.get("ApiVersion")) or _NEWEST
            oldest = _number(known.get("MinAPIVersion")) or _OLDEST
            self._version = "/v{}.{}".format(*max(oldest, min(newest, _NEWEST)))
        return self._version

    async def _get(self, target: str) -> object:
        answer = await fetch(self._upstream, _line(target), _BLOCK, within=_ANSWER, limit=_LARGEST)
        if answer.status != _OK:
            self._version = ""  # a daemon that was replaced may speak other versions
            msg = f"{target.partition('?')[0]} is answered with {answer.status}"
            raise UnusableEngine(msg)
        try:
            return await asyncio.to_thread(json.loads, answer.body)
        except (ValueError, RecursionError) as error:
            msg = f"the answer to {target.partition('?')[0]} is no JSON"
            raise UnusableEngine(msg) from error


def _line(target: str) -> bytes:
    return f"GET {target}".encode("ascii")


def _number(text: object) -> tuple[int, ...]:
    major, _, minor = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not (major.isascii() and major.isdecimal() and minor.isascii() and minor.isdecimal()):
        return ()
    return int(major[:4]), int(minor[:4])
