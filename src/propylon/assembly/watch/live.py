"""Tell viewers the state, and then what changes of it, as lines of JSON.

    {"generation": …, "seq": 7, "full": true,  "set": {section: {key: entry}}, "gone": {}}
    {"generation": …, "seq": 8, "full": false, "set": {…what has changed…},    "gone": {section: [key]}}

A viewer that comes back with the generation and the number of the last line that it got, gets the lines that it has missed, if
they are still known here; else a full one, which takes the place of all that it had. Entries are set, never added: a line
that comes twice does no harm.

Rules.

1. Nothing is gathered while nobody looks.
2. A viewer that does not read is cut off: it has a short backlog, and the next line ends its stream.
3. A stream ends after a minute, and the viewer comes again: so a token that has expired or was taken back ends it, too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from propylon.assembly.watch.state import Section
from propylon.errors import ServiceUnavailable
from propylon.loop.tasks import spawn

__all__ = ["Live", "difference"]

_EVERY = 1.0  # seconds between two lines; longer where it takes long to gather what they say
_KNOWN = 30  # lines that are kept for those who come back
_BACKLOG = 8
_LASTS = 60.0
_GRACE = 5.0  # seconds for which the lines go on without a viewer: one may be about to come back
_MOST_VIEWERS = 32

Sections = Mapping[str, Section]


class Live:
    """The viewers of one worker."""

    def __init__(
        self,
        gather: Callable[[], Awaitable[dict[str, Section]]],
        generation: Callable[[], str],
        watched: Callable[[int], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`gather` returns everything. `watched` is told that there is a viewer (1) or none any more (-1)."""
        self._gather = gather
        self._new_generation = generation
        self._watched = watched
        self._clock = clock
        self._generation = generation()
        self._seq = 0
        self._state: dict[str, Section] = {}
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=_KNOWN)
        self._viewers: set[asyncio.Queue[bytes | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for viewer in self._viewers:
            _end(viewer)

    async def overview(self) -> bytes:
        """Return everything now, as one line."""
        await self._refresh()
        return self._full()

    async def lines(self, generation: str = "", seq: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the lines for a viewer that has got all until `seq` of a generation. Raises ServiceUnavailable."""
        if self._closed:
            msg = "The gateway stops"
            raise ServiceUnavailable(msg)
        if len(self._viewers) >= _MOST_VIEWERS:
            msg = "Too many look at this gateway"
            raise ServiceUnavailable(msg, reason=f"more than {_MOST_VIEWERS} viewers of one worker")
        with self._viewer() as viewer:
            missed = self._missed(generation, seq)
            if missed is None:
                await self._refresh()
                missed = [self._full()]
                while not viewer.empty():  # what came meanwhile is in it
                    viewer.get_nowait()
            for line in missed:
                yield line
            ends = time.monotonic() + _LASTS
            while (line_or_end := await _next(viewer, ends)) is not None:
                yield line_or_end

    @contextmanager
    def _viewer(self) -> Iterator[asyncio.Queue[bytes | None]]:
        viewer: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        self._viewers.add(viewer)
        self._start()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def _start(self) -> None:
        if self._task is None:
            self._generation, self._seq, self._state = self._new_generation(), 0, {}
            self._lines.clear()
            self._watched(1)
            self._task = spawn(self._run())

    async def _run(self) -> None:
        alone_since: float | None = None
        try:
            while alone_since is None or time.monotonic() - alone_since < _GRACE:
                began = time.monotonic()
                await self._refresh()
                took = time.monotonic() - began
                await asyncio.sleep(max(_EVERY - took, took))
                if self._viewers:
                    alone_since = None
                elif alone_since is None:
                    alone_since = time.monotonic()
        finally:
            self._task = None
            self._watched(-1)
            for viewer in self._viewers:
                _end(viewer)

    async def _refresh(self) -> None:
        async with self._turn:
            state = await self._gather()
            changed, gone = difference(self._state, state)
            self._state = state
            # A line without changes, too: the viewer knows by it that the stream lives.
            self._seq += 1
            line = self._line(changed, gone, full=False)
            self._lines.append((self._seq, line))
        for viewer in [*self._viewers]:
            if viewer.full():
                self._viewers.discard(viewer)
                _end(viewer)
            else:
                viewer.put_nowait(line)

    def _missed(self, generation: str, seq: int) -> list[bytes] | None:
        """Return the lines behind `seq`; None if not all of them are known."""
        if generation != self._generation or not self._lines or seq + 1 < self._lines[0][0]:
            return None
        return [line for number, line in self._lines if number > seq]

    def _full(self) -> bytes:
        return self._line(self._state, {}, full=True)

    def _line(self, entries: Sections, gone: Mapping[str, list[str]], *, full: bool) -> bytes:
        line: dict[str, Any] = {
            "generation": self._generation,
            "seq": self._seq,
            "time": self._clock(),
            "full": full,
            "set": entries,
            "gone": gone,
        }
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def difference(
    before: Sections, after: Sections
) -> tuple[dict[str, Section], dict[str, list[str]]]:
    """Return the entries that are new or have changed, and the keys of those that are gone, by section."""
    changed: dict[str, Section] = {}
    gone: dict[str, list[str]] = {}
    for name, section in after.items():
        old = before.get(name, {})
        if old is section:
            continue
        entries = {key: entry for key, entry in section.items() if old.get(key) != entry}
        left = [key for key in old if key not in section]
        if entries:
            changed[name] = entries
        if left:
            gone[name] = left
    return changed, gone


async def _next(viewer: asyncio.Queue[bytes | None], ends: float) -> bytes | None:
    # A timeout does not interrupt who need not wait: a viewer that is always a line behind would have no end.
    if time.monotonic() >= ends:
        return None
    try:
        async with asyncio.timeout(ends - time.monotonic()):
            return await viewer.get()
    except TimeoutError:
        return None


def _end(viewer: asyncio.Queue[bytes | None]) -> None:
    """Have the stream of a viewer end with what it has got."""
    while not viewer.empty():
        viewer.get_nowait()
    viewer.put_nowait(None)
