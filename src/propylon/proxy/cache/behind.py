"""Declare what stands behind the memory of a worker: answers that workers or machines share. Pure.

    memory of the worker ── miss ──► behind: look ──► a record that serves? ──► load its body ──► into the memory
                                               └────► none: lease ──► fetch ──► keep

A lease lets one worker of a machine ask the upstream for a key. It ends with the worker, however that ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from propylon.proxy.cache.deletion import Deletion
from propylon.proxy.cache.key import Key
from propylon.proxy.cache.stored import Stored

__all__ = ["UNKNOWN", "Behind", "Body", "Found", "Held", "Lease"]

UNKNOWN = -1
"""Instead of the number of a deletion: the store did not answer, and takes nothing that is fetched now."""

Body = bytes | tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """An answer in the store behind: its head, without the body, which `load` brings.

    `ident` names the body's pieces; without any the body is `inline`. `digest` is what the body must have.
    """

    stored: Stored
    length: int
    digest: bytes
    ident: bytes = b""
    pieces: int = 0
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class Found:
    """What is under a key, the newest first; `since` is the number of the last deletion then."""

    answers: tuple[Held, ...] = ()
    since: int = UNKNOWN


class Lease(Protocol):
    """The right to ask the upstream for a key, for one worker of the machine."""

    def release(self) -> None:
        """Let others ask; a no-op the second time."""


class Behind(Protocol):
    """A store behind the memories of workers. None of it fails: a store that is away has nothing, and takes nothing."""

    async def look(self, key: Key, route: str) -> Found:
        """Return what is there and was not deleted."""

    async def load(self, held: Held) -> Body | None:
        """Return the body; None: it is not there any more, or it is not what it was."""

    def keep(self, key: Key, stored: Stored, since: int, done: Callable[[], None]) -> None:
        """Keep an answer that was fetched after `look` had returned `since`; `done` is called when it can be found."""

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""

    def delete(self, deletion: Deletion) -> Awaitable[bool]:
        """Let go of answers, also of those that are fetched now; False: the store is away, and does it when it is back."""

    def lease(self, name: bytes) -> Lease | None:
        """Return the right to ask for what is named so; None: another worker has it."""

    def lone(self, name: bytes) -> bool:
        """Tell whether the last answer was for one client only, a short while ago: then nobody waits."""

    def note_lone(self, name: bytes) -> None:
        """Note that the answer was for one client only."""
