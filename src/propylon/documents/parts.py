"""Write a document that was read as lines, and make it of such lines again. Pure.

A large document is read in a process of its own, and this is how it comes back: a line for each few operations, so that
the loop takes up one at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from propylon.documents.document import BrokenDocument, Document, Operation, Security

__all__ = ["from_lines", "to_lines"]

# Parts on a line. An operation takes a kilobyte or two: a line is read in a tenth of a millisecond.
_PIECE = 32


def to_lines(document: Document) -> Iterator[bytes]:
    """Yield the lines of a document, the head first."""
    yield orjson.dumps(
        {
            "service": document.service,
            "title": document.title,
            "version": document.version,
            "openapi": document.openapi,
            "digest": document.digest,
            "notes": document.notes,
        }
    )
    components = [*document.components.items()]
    for begin in range(0, len(components), _PIECE):
        yield orjson.dumps({"components": dict(components[begin : begin + _PIECE])})
    for begin in range(0, len(document.operations), _PIECE):
        piece = document.operations[begin : begin + _PIECE]
        yield orjson.dumps({"operations": [*map(_written, piece)]})


def from_lines(lines: Iterable[bytes]) -> Generator[None, None, Document]:
    """Return the document of its lines, in slices. Raises BrokenDocument for the line `{"broken": …}`."""
    document: Document | None = None
    for line in lines:
        said: dict[str, Any] = orjson.loads(line)
        if "broken" in said:
            raise BrokenDocument(said["broken"])
        if document is None:
            document = Document(**{**said, "notes": tuple(said["notes"])})
            continue
        document.components.update(said.get("components", {}))
        for operation in map(_made, said.get("operations", ())):
            document.add(operation)
        yield
    if document is None:
        msg = "was not read to its end"
        raise BrokenDocument(msg)
    return document


def _written(operation: Operation) -> dict[str, Any]:
    security = operation.security
    return {
        "method": operation.method,
        "segments": operation.segments,
        "id": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "alternatives": [sorted(one) for one in security.alternatives],
        "optional": security.optional,
        "path_parameters": dict(operation.path_parameters),
        "parameters": operation.parameters,
        "body": operation.body,
        "members": operation.members,
        "responses": dict(operation.responses),
        "required": sorted(operation.required),
        "returned": sorted(operation.returned),
    }


def _made(said: dict[str, Any]) -> Operation:
    alternatives, optional = said.pop("alternatives"), said.pop("optional")
    operation = Operation(
        **{**said, "security": Security(tuple(map(frozenset, alternatives)), optional)}
    )
    return replace(
        operation,
        segments=tuple(operation.segments),
        parameters=tuple(operation.parameters),
        required=frozenset(operation.required),
        returned=frozenset(operation.returned),
    )
