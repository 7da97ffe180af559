"""Write lines to a file descriptor in a thread, so that the event loop never waits for it.

If the reader of a pipe hangs, `write` blocks, and the gateway must not stop for its log. Lines are collected for a
moment and then written in one call by a thread. Lines beyond the memory limit are dropped, and their number logged.
"""

from __future__ import annotations

import asyncio
import os
import threading
from queue import SimpleQueue

import orjson

__all__ = ["LineWriter"]

# Seconds. Short, so that a batch is written in a fraction of a millisecond: on one core the thread's work is the
# loop's pause.
_BATCH_INTERVAL = 0.02
# Bytes: a few seconds of lines under full load. A reader that is further behind will not catch up.
_MAX_WAITING = 16 * 1024 * 1024


class LineWriter:
    """Collects lines and hands them to a thread in batches."""

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        """Write to an open file descriptor; the caller closes it."""
        self._descriptor = descriptor
        self._loop = loop
        self._lines: list[bytes] = []
        self._handle: asyncio.TimerHandle | None = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # Bytes. Each counter is changed by one thread only, so no lock is needed.
        self._handed_over = 0
        self._written = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="propylon-log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that were handed to the thread and are not written yet."""
        return self._handed_over - self._written

    def write(self, line: bytes) -> None:
        """Take a line with its newline; it is written within 200 ms unless the reader hangs."""
        self._lines.append(line)
        if self._handle is None:
            self._handle = self._loop.call_later(_BATCH_INTERVAL, self.flush)

    def flush(self) -> None:
        """Hand the collected lines to the thread."""
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
        """Write the remaining lines, if the reader takes them within a second."""
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
                    threading.Event().wait(0.01)  # another process made the descriptor non-blocking
                except OSError:
                    break  # the reader is gone (EPIPE), and there is nowhere to report it
            self._written += len(batch)


def _dropped(count: int) -> bytes:
    return orjson.dumps({"level": "warning", "event": "log lines dropped", "count": count}) + b"\n"
