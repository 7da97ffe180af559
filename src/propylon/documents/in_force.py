"""Hold the documents in force, and answer what they say of a request. Pure.

All of one document comes into force by one assignment: what `/openapi.json` shows and what is enforced are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from propylon.documents.document import Document, Operation
from propylon.proxy.check.operation import OperationCheck
from propylon.proxy.rewrite import Rewrite
from propylon.wire.spellings import is_plain, readings

__all__ = ["InForce"]

_NONE: Mapping[str, Document] = MappingProxyType({})


class InForce:
    """The documents of all services that have one. `current` is replaced, never changed."""

    __slots__ = ("current",)

    def __init__(self, documents: Mapping[str, Document] = _NONE) -> None:
        """Begin with these documents, by service."""
        self.current = documents

    def put(self, document: Document) -> None:
        """Put a document into force in the place of its service's last one."""
        self.current = MappingProxyType({**self.current, document.service: document})

    def keep(self, services: frozenset[str]) -> None:
        """Drop the documents of all other services."""
        if not self.current.keys() <= services:
            kept = {name: one for name, one in self.current.items() if name in services}
            self.current = MappingProxyType(kept)

    def of(self, service: str) -> Document | None:
        """Return the document of a service; None: none has been read yet."""
        return self.current.get(service)

    def operations(
        self, service: str, rewrite: Rewrite | None, method: str, path: bytes
    ) -> tuple[Operation, ...] | None:
        """Return the operations that a request may reach at a service; None while there is no document.

        `rewrite` is that of the request's route, and `path` is the client's, as it was sent. Services read one path in several ways, and a document does not say which
        of two operations comes first: all that may be meant are returned, those of the path as it was sent first. Raises
        InvalidRequest for a path that has no safe reading.
        """
        document = self.current.get(service)
        if document is None:
            return None
        upstream = path if rewrite is None else rewrite.apply(path, b"")
        return tuple({one.key: one for one in _found(document, method, upstream)}.values())

    def checks(
        self, service: str, rewrite: Rewrite | None, method: str, path: bytes
    ) -> tuple[tuple[OperationCheck | None, dict[str, str]], ...] | None:
        """Return the checks of the operations that a request may reach, each with the values of its path's parameters.

        None while no document is in force, or none that was compiled for checks. The rest is as above.
        """
        document = self.current.get(service)
        if document is None or document.checks is None:
            return None
        upstream = path if rewrite is None else rewrite.apply(path, b"")
        if is_plain(upstream):
            text = upstream.decode("utf-8", "replace")
            return tuple(
                [
                    (document.checks[one.key], _values(one, text))
                    for one in document.find(method, text)
                ]
            )
        found = [
            (document.checks[one.key], _values(one, text))
            for reading in readings(upstream)
            for text in (reading.decode("utf-8", "replace"),)
            for one in document.find(method, text)
        ]
        return tuple(found)


def _values(operation: Operation, path: str) -> dict[str, str]:
    """Return the values of the parameters that are a whole segment each."""
    if not operation.whole:
        return {}
    sent = path.strip("/").split("/")
    return {name: sent[at] for at, name in operation.whole}


def _found(document: Document, method: str, path: bytes) -> Iterator[Operation]:
    for reading in (path,) if is_plain(path) else readings(path):
        yield from document.find(method, reading.decode("utf-8", "replace"))
