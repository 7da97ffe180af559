"""Read one document in this process, which does nothing else: `python -m propylon.documents.child SERVICE PATH BASE`.

The document comes on stdin, and goes as lines to stdout. To parse a document of 5 MB holds the interpreter for 50 ms, in a
thread, too; a gateway must not stop for so long.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator

import orjson

from propylon.documents.document import BrokenDocument
from propylon.documents.parts import to_lines
from propylon.documents.read import LARGEST, Source, read
from propylon.loop.slices import at_once

__all__ = ["answer", "main"]

_NICE = 10  # requests come first
_MOST_TIME = 20  # seconds of a processor


def answer(source: Source, body: bytes) -> Iterator[bytes]:
    """Yield the lines of the document, or the one that says what is wrong with it."""
    try:
        yield from to_lines(at_once(read(source, body)))
    except BrokenDocument as error:
        yield orjson.dumps({"broken": str(error)})
    except RecursionError:
        yield orjson.dumps({"broken": "is nested too deeply"})


def main(arguments: list[str]) -> None:
    """Read stdin, and write stdout."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_TIME, _MOST_TIME))
    service, path, base = arguments
    body = sys.stdin.buffer.read(LARGEST + 1)
    for line in answer(Source(service, path, base), body):
        sys.stdout.buffer.write(line + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
