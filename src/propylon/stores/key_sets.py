"""Keep the published key sets that a worker has fetched, for the other workers and for those that replace them.

A source that is slow or down must not make a replaced worker refuse good tokens that its siblings accept. So each worker
keeps what it fetched in memory that the process before the fork has made (a `Slot`), and tells its siblings. A worker that
starts takes what is in the slot. Under another server there is no slot, so it asks its siblings as well.

The documents are public. They come only from workers of the same gateway, over sockets and memory that no other process
can reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from propylon.proxy.authenticate.jwks import Kept
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message
from propylon.stores.slot import Slot

__all__ = ["KeySets"]

_TOPIC = "key sets"
# Bytes of a document that is told. A message has at most 128 KiB, and quotation marks need an escape in it; the large
# identity providers publish less than 20 KB. A larger set is only in the slot.
_LONGEST_TOLD = 56 * 1024
# Sets that are remembered. A gateway follows a few; each reload may name another one.
_REMEMBERED = 16


class KeySets:
    """The documents of all sources, by their URL."""

    def __init__(self, slot: Slot | None, facts: Facts) -> None:
        """Take what is in the slot, and ask the other workers for what they have."""
        self._slot = slot
        self._facts = facts
        found = None if slot is None else slot.load()
        self._documents: dict[str, str] = {} if found is None else orjson.loads(found)
        self._callbacks: dict[str, Callable[[bytes], None]] = {}
        facts.hear(_TOPIC, self._hear)
        self._ask()

    def of(self, url: str) -> Kept:
        """Return what is kept of one source."""
        return _KeySet(self, url)

    def find(self, url: str) -> bytes | None:
        """Return the document of a source that was fetched last; None if there is none."""
        document = self._documents.get(url)
        return None if document is None else document.encode()

    def keep(self, url: str, document: bytes) -> None:
        """Keep a document, and tell the other workers."""
        self._remember(url, document.decode())
        if self._slot is not None:
            self._slot.save(orjson.dumps(self._documents))
        self._tell(url)

    def listen(self, url: str, callback: Callable[[bytes], None]) -> None:
        """Call back with each document of a source that another worker has fetched."""
        self._callbacks[url] = callback

    def _remember(self, url: str, document: str) -> None:
        self._documents.pop(url, None)
        self._documents[url] = document
        if len(self._documents) > _REMEMBERED:
            del self._documents[next(iter(self._documents))]

    def _ask(self) -> None:
        self._facts.tell(_TOPIC, {"op": "who", "from": self._facts.name})

    def _tell(self, url: str, to: str | None = None) -> None:
        document = self._documents[url]
        if len(document) <= _LONGEST_TOLD:
            self._facts.tell(_TOPIC, {"op": "fetched", "url": url, "document": document}, to)

    def _hear(self, message: Message) -> None:
        op = message["op"]
        if op == "who":
            for url in self._documents:
                self._tell(url, message["from"])
        elif op == "fetched":
            self._remember(message["url"], message["document"])
            if (callback := self._callbacks.get(message["url"])) is not None:
                callback(message["document"].encode())
        elif op == MISSED["op"]:
            self._ask()


@dataclass(frozen=True, slots=True)
class _KeySet:
    """One source: what `PublishedKeys` needs."""

    _sets: KeySets
    _url: str

    def find(self) -> bytes | None:
        return self._sets.find(self._url)

    def keep(self, document: bytes) -> None:
        self._sets.keep(self._url, document)

    def hear(self, callback: Callable[[bytes], None]) -> None:
        self._sets.listen(self._url, callback)
