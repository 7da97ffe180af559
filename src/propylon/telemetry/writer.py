"""Write lines without ever making the loop wait for the reader.

A pipe whose reader is stuck blocks `write`, and the gateway must not stop for it. Lines are collected for a moment,
then a thread writes them to an output. What would not fit into memory is dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import orjson

from propylon.wire.grammar import date_time

__all__ = ["STDOUT", "LineWriter", "Output", "to_descriptor", "to_stdout"]

STDOUT = 1
"""The descriptor of standard output: written to it, lines go past Python's buffers."""

# Seconds. Short, so that a batch is written in a fraction of a millisecond: on one core the thread's work is the
# loop's pause.
_BATCH_INTERVAL = 0.02
# Bytes: a few seconds of lines under full load. A reader that is further behind will not catch up.
_MAX_WAITING = 16 * 1024 * 1024


# Writes a batch of whole lines and returns when they are out, or when their reader has gone; called in a thread.
Output = Callable[[bytes], None]


def to_descriptor(descriptor: int, *, raises: bool = False) -> Output:
    """Return the output that writes to an open file descriptor, which stays the caller's to close.

    `raises`: a failure is an OSError, which the caller reports.
    """

    def write(batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                threading.Event().wait(0.01)  # another process made the descriptor non-blocking
            except OSError:
                if raises:
                    raise
                return  # the reader has gone: there is no place left to say so

    return write


def to_stdout(batch: bytes) -> None:
    """Write to what `sys.stdout` is at this moment: in a host's process it may be a capture or a file of the host's."""
    stream = sys.stdout
    if stream is None:  # a process without a console
        return
    try:
        stream.write(batch.decode("utf-8"))
        stream.flush()
    except (OSError, ValueError):
        return  # the reader has gone, or the host has closed the stream


class LineWriter:
    """Collects lines and hands them to a thread in batches."""

    def __init__(
        self,
        output: Output,
        loop: asyncio.AbstractEventLoop,
        *,
        render: Callable[[dict[str, Any]], bytes] | None = None,
        reopen: Callable[[], None] | None = None,
        lost: Callable[[int], None] | None = None,
    ) -> None:
        """Write to `output`; `loop` is the one that lines come from.

        `render` turns a notice of the writer's own into a line; `reopen` has the output open its file anew; `lost` hears how
        many lines did not fit into memory.
        """
        self._output = output
        self._render = render
        self._reopen = reopen
        self._lost = lost
        self._loop = loop
        self._lines: list[bytes] = []
        self._handle: asyncio.TimerHandle | None = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()  # an empty batch: open anew
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
            if self._lost is not None:
                self._lost(len(lines))
            return
        if self._dropped:
            lines.append(self._notice(self._dropped))
            self._dropped = 0
        batch = b"".join(lines)
        self._handed_over += len(batch)
        self._queue.put(batch)

    def reopen(self) -> None:
        """Have the output open its file anew; what was taken so far goes into the old one."""
        self.flush()
        if self._reopen is not None:
            self._queue.put(b"")

    def close(self) -> None:
        """Write the remaining lines, if the reader takes them within a second."""
        self.flush()
        if self._dropped:
            self._queue.put(self._notice(self._dropped))
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            if not batch and self._reopen is not None:
                self._reopen()
                continue
            self._output(batch)
            self._written += len(batch)

    def _notice(self, count: int) -> bytes:
        fields: dict[str, Any] = {"level": "warning", "event": "log lines dropped", "count": count}
        if self._render is None:
            return orjson.dumps(fields) + b"\n"
        return self._render({"time": date_time(int(time.time())), **fields})
