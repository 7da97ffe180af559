"""Write lines to a file descriptor without ever making the loop wait for it.

A pipe whose reader is stuck blocks `write`; the gateway must not stop for it. Lines are collected for
a moment, then a thread writes them. What would not fit into memory is dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import threading
from queue import SimpleQueue

import orjson

__all__ = ["LineWriter"]

# Often enough that a batch is written in a fraction of a millisecond: on one core the thread's work
# is the loop's pause.
_BATCH_INTERVAL = 0.02
# A few seconds of full load; more than that is a log nobody reads.
_MAX_WAITING = 16 * 1024 * 1024


class LineWriter:
    """Collect lines, and hand them to a thread in batches."""

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        """Write to an open file descriptor, which stays the caller's to close."""
        self._descriptor = descriptor
        self._loop = loop
        self._lines: list[bytes] = []
        self._handle: asyncio.TimerHandle | None = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # Bytes; each is changed by one thread only.
        self._handed_over = 0
        self._written = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="propylon-log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that the thread has not written yet."""
        return self._handed_over - self._written

    def write(self, line: bytes) -> None:
        """Take a line with its newline; it is out well within 200 ms."""
        self._lines.append(line)
        if self._handle is None:
            self._handle = self._loop.call_later(_BATCH_INTERVAL, self.flush)

    def flush(self) -> None:
        """Hand what has been collected to the thread."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        if self.waiting > _MAX_WAITING:
            self._dropped += len(lines)
            return
        if self._dropped:
            lines.append(_dropped(self._dropped))
            self._dropped = 0
        batch = b"".join(lines)
        self._handed_over += len(batch)
        self._queue.put(batch)

    def close(self) -> None:
        """Write what is left, as long as the reader takes it within a second."""
        self.flush()
        if self._dropped:
            self._queue.put(_dropped(self._dropped))
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            view = memoryview(batch)
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    threading.Event().wait(0.01)  # somebody made the descriptor non-blocking
                except OSError:
                    break  # the reader has gone: there is no place left to say so
            self._written += len(batch)


def _dropped(count: int) -> bytes:
    return orjson.dumps({"level": "warning", "event": "log lines dropped", "count": count}) + b"\n"
