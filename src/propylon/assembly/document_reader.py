"""Read a service's document beside the requests: a small one in slices, a large one in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator, Iterable
from io import BytesIO

from propylon.documents.document import BrokenDocument, Document
from propylon.documents.parts import from_lines
from propylon.documents.read import Source, read
from propylon.loop.slices import in_slices

__all__ = ["DocumentReader"]

# Bytes that are parsed, and an operation of them copied, in two milliseconds.
_SMALL = 64 * 1024
# Seconds. The largest document takes two of a processor's time, of which the process lets itself have twenty. It comes
# behind the requests, so where all processors are busy this takes a while.
_PATIENCE = 120.0
_MODULE = "propylon.documents.child"


class DocumentReader:
    """Reads documents, one after the other: a start with many services must not start as many processes."""

    def __init__(self, small: int = _SMALL) -> None:
        """Read documents of up to `small` bytes in this process."""
        self._small = small
        self._turn = asyncio.Lock()

    async def read(self, source: Source, body: bytes) -> Document:
        """Return the document. Raises BrokenDocument."""
        async with self._turn:
            if len(body) <= self._small:
                return await in_slices(_guarded(read(source, body)))
            return await in_slices(from_lines(await self._lines(source, body)))

    async def _lines(self, source: Source, body: bytes) -> Iterable[bytes]:
        # A thread waits for the process, because it gives way: to hand over 5 MB, and to take back 10, holds a loop.
        reading = _Child(source)
        try:
            return await asyncio.to_thread(reading.lines, body)
        finally:
            reading.kill()


class _Child:
    """A process that reads one document."""

    def __init__(self, source: Source) -> None:
        self._arguments = ("-m", _MODULE, source.service, source.path, source.base)
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def lines(self, body: bytes) -> Iterable[bytes]:
        """Return what the process says of the document. Raises BrokenDocument."""
        try:
            # `-P`: nothing is imported from the directory that the gateway was started in.
            self._process = subprocess.Popen(  # noqa: S603 — our own module
                (sys.executable, "-P", *self._arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            msg = f"no process could be started to read it: {error.strerror}"
            raise BrokenDocument(msg) from error
        with self._process as process:
            try:
                if self._killed:  # while it was started
                    process.kill()
                out, _ = process.communicate(body, _PATIENCE)
            except subprocess.TimeoutExpired as error:
                process.kill()
                msg = f"took more than {_PATIENCE:g} s to read"
                raise BrokenDocument(msg) from error
        return BytesIO(
            out
        )  # ten megabytes, whose lines are cut off one by one: all at once takes as many milliseconds

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._killed = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def _guarded(work: Generator[None, None, Document]) -> Generator[None, None, Document]:
    try:
        return (yield from work)
    except RecursionError as error:
        msg = "is nested too deeply"
        raise BrokenDocument(msg) from error
