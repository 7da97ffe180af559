"""Read a service's document beside the requests: a small one in slices, a large one in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import suppress

from propylon.documents.document import BrokenDocument, Document
from propylon.documents.parts import from_lines
from propylon.documents.read import Source, read
from propylon.loop.slices import in_slices

__all__ = ["DocumentReader"]

# Bytes that are parsed, and an operation of them copied, in two milliseconds.
_SMALL = 64 * 1024
# Seconds. The largest document takes two.
_PATIENCE = 20.0


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

    async def _lines(self, source: Source, body: bytes) -> list[bytes]:
        arguments = ("-m", "propylon.documents.child", source.service, source.path, source.base)
        try:
            # `-P`: nothing is imported from the directory that the gateway was started in.
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            msg = f"no process could be started to read it: {error.strerror}"
            raise BrokenDocument(msg) from error
        try:
            async with asyncio.timeout(_PATIENCE):
                out, _ = await child.communicate(body)
        except TimeoutError as error:
            msg = f"took more than {_PATIENCE:g} s to read"
            raise BrokenDocument(msg) from error
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.kill()
                    await child.wait()
        return out.splitlines()


def _guarded(work: Generator[None, None, Document]) -> Generator[None, None, Document]:
    try:
        return (yield from work)
    except RecursionError as error:
        msg = "is nested too deeply"
        raise BrokenDocument(msg) from error
