"""Follow the OpenAPI documents of services: fetch, compare, put in force, report.

Every worker fetches for itself, over the service's own pool: a worker then enforces only what it has read. When one of them
finds a new document, it tells the others, and they ask at once:

    worker 1: new document, in force, logged ─── "orders has changed" ───► worker 2: fetch, in force

A service is asked every `documents.interval`, with If-None-Match, and at once when an instance comes or is healthy again.
One that fails is asked again sooner, but never without a pause.

Rules. One instance is asked as long as it may be asked: during a deployment old and new instances answer side by side, and
the document would change with each question. What was read last stays in force until something better is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from propylon.assembly.document_reader import DocumentReader
from propylon.documents.checks import compile_checks
from propylon.documents.difference import Change, differences
from propylon.documents.document import BrokenDocument, Document
from propylon.documents.in_force import InForce
from propylon.documents.read import LARGEST, Source, digest_of
from propylon.errors import GatewayError
from propylon.loop.slices import in_slices, released
from propylon.loop.tasks import spawn_forever
from propylon.services.service import Instance, Service
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message
from propylon.upstream.fetch import Fetched, fetch
from propylon.wire.grammar import FIELD_VALUE
from propylon.wire.headers import render, values

__all__ = ["Documents", "Followed"]

log = logging.getLogger(__name__)

_TOPIC = "documents"
# Seconds for one fetch. A framework makes a large document in one or two.
_PATIENCE = 10.0
# Seconds from one fetch to the next, whatever happens: instances may come and go all the time.
_PAUSE = 0.2
# Seconds until a service that failed is asked again: twice as long each time, up to the interval.
_FIRST_RETRY = 1.0
_MOST_CHANGES = 40
_MOST_REVISIONS = 5
_LONGEST_ETAG = 256
_UNCHANGED = 304
_GOOD = 200


@dataclass(frozen=True, slots=True)
class Revision:
    """What has changed when a document replaced another one; `at` in seconds since 1970."""

    old: str
    new: str
    at: float
    changes: tuple[Change, ...]
    more: int = 0  # changes that are not listed


@dataclass(slots=True)
class Followed:
    """One service whose document is followed, and what is known of it."""

    service: str
    path: str
    etag: bytes = b""
    instance: str = ""
    problem: str | None = None
    asked_at: float | None = None
    read_at: float | None = None
    failures: int = 0
    revisions: list[Revision] = field(default_factory=list)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Documents:
    """Follows the documents of all services that have one; a listener of instances, too."""

    def __init__(
        self,
        in_force: InForce,
        facts: Facts,
        find: Callable[[str], Service | None],
        quietly: Callable[[], AbstractContextManager[None]],
        reader: DocumentReader | None = None,
    ) -> None:
        """Put documents in force in `in_force`. `find` returns a service that there is now.

        Long work is done within `quietly()`, which keeps the rest of the process from holding the loop meanwhile.
        """
        self._in_force = in_force
        self._facts = facts
        self._find = find
        self._quietly = quietly
        self._reader = reader or DocumentReader()
        self._interval = 30.0
        self._checked: frozenset[str] = frozenset()
        self._announced: dict[str, str] = (
            {}
        )  # by service, the digest that another worker has logged
        self.followed: dict[str, Followed] = {}

    def join(self) -> None:
        """Hear the other workers from now on."""
        self._facts.hear(_TOPIC, self._hear)

    def apply(
        self,
        paths: Mapping[str, str],
        interval: float,
        checked: frozenset[str] = frozenset(),
    ) -> None:
        """Follow these services from now on, each at its path; `interval` in seconds.

        Requests to those that are `checked` are checked against the document.
        """
        self._interval = interval
        self._checked = checked
        for name, known in [*self.followed.items()]:
            if paths.get(name) != known.path:
                self._forget(known)
        self._in_force.keep(frozenset(paths))
        for name, path in paths.items():
            if name not in self.followed:
                new = self.followed[name] = Followed(name, path)
                new.task = spawn_forever(self._follow(new))
            elif self._is_unchecked(name):
                self.followed[name].etag = b""  # what is in force was read without the checks
                self.changed(name)

    def _is_unchecked(self, service: str) -> bool:
        """Whether the checks of a service's document are asked for, and were not compiled."""
        document = self._in_force.of(service)
        return service in self._checked and document is not None and document.checks is None

    def close(self) -> None:
        """End it all."""
        for known in [*self.followed.values()]:
            self._forget(known)

    def _forget(self, known: Followed) -> None:
        del self.followed[known.service]
        if known.task is not None:
            known.task.cancel()

    def changed(self, service: str) -> None:
        """Ask a service at once: an instance has come, or is healthy again."""
        known = self.followed.get(service)
        if known is not None:
            known.due.set()

    def _hear(self, message: Message) -> None:
        if message["op"] == MISSED["op"]:
            for known in self.followed.values():
                known.due.set()
        elif message["op"] == "changed":
            self._announced[message["service"]] = message["digest"]
            self.changed(message["service"])

    # One service

    async def _follow(self, known: Followed) -> None:
        while True:
            known.due.clear()
            await self._ask(known)
            await asyncio.sleep(_PAUSE)
            wait = self._interval
            if known.failures:
                wait = min(wait, _FIRST_RETRY * 2 ** min(known.failures - 1, 16))
            try:
                async with asyncio.timeout(wait):
                    await known.due.wait()
            except TimeoutError:
                pass  # the interval is over

    async def _ask(self, known: Followed) -> None:
        service = self._find(known.service)
        instance = None if service is None else _chosen(service, known)
        if service is None or instance is None:
            self._failed(known, "no instance may be asked now")
            return
        if instance.id != known.instance:
            known.instance, known.etag = instance.id, b""
        known.asked_at = time.time()
        try:
            fetched = await _fetched(service, instance, known)
            await self._take(known, instance, fetched)
        except GatewayError as error:
            self._failed(
                known, f"{error.message}: {error.reason}" if error.reason else error.message
            )
        except BrokenDocument as error:
            self._failed(known, str(error))
        else:
            if known.problem is not None:
                log.info('document of "%s": read again', known.service)
            known.problem, known.failures = None, 0

    def _failed(self, known: Followed, problem: str) -> None:
        known.failures += 1
        if problem == known.problem:
            return
        known.problem = problem
        stays = self._in_force.of(known.service) is not None
        then = "the last good one stays in force" if stays else "there is none in force"
        log.warning('document of "%s", %s: %s; %s', known.service, known.path, problem, then)

    async def _take(self, known: Followed, instance: Instance, fetched: Fetched) -> None:
        """Put what was fetched in force, if it is new. Raises BrokenDocument."""
        old = self._in_force.of(known.service)
        if fetched.status == _UNCHANGED and old is not None:
            if self._is_unchecked(known.service):  # a reload has asked for the checks meanwhile
                known.etag = b""
                known.due.set()
            return
        if fetched.status != _GOOD:
            msg = f"the service answers {fetched.status}"
            raise BrokenDocument(msg)
        # In a thread, which gives way: the digest of 5 MB takes ten milliseconds.
        digest = await asyncio.to_thread(digest_of, fetched.body)
        if old is None or digest != old.digest or self._is_unchecked(known.service):
            source = Source(known.service, known.path, instance.base.decode("ascii"))
            with self._quietly():
                document = await self._reader.read(source, fetched.body)
                new = old is None or digest != old.digest
                revision = None
                if old is not None and new:
                    revision = await in_slices(_compared(old, document))
                notes = await self._compile(document)
                self._in_force.put(document)
            known.read_at = time.time()
            for note in notes:
                log.warning('document of "%s": not checked: %s', known.service, note)
            if new:
                self._say(known, document, revision)
            if old is not None:
                holding = await in_slices(old.pieces())
                del old
                await in_slices(released(holding))
        # Only now: what could not be read must not be called unchanged the next time.
        known.etag = _etag(fetched.block)

    async def _compile(self, document: Document) -> tuple[str, ...]:
        """Compile the checks of requests, if a route asks for them; return what cannot be checked."""
        if document.service not in self._checked:
            return ()
        document.checks, notes = await in_slices(compile_checks(document))
        return notes

    def _say(self, known: Followed, document: Document, revision: Revision | None) -> None:
        elsewhere = self._announced.pop(known.service, None) == document.digest
        if revision is not None:
            known.revisions = [*known.revisions, revision][-_MOST_REVISIONS:]
        if elsewhere:
            return  # the worker that told it has logged it
        self._facts.tell(
            _TOPIC, {"op": "changed", "service": known.service, "digest": document.digest}
        )
        count = len(document.operations)
        log.info('document of "%s": %d operations in force', known.service, count)
        for note in document.notes:
            log.warning('document of "%s": left out: %s', known.service, note)
        for change in () if revision is None else revision.changes:
            if change.breaking:
                log.warning('document of "%s": breaking change: %s', known.service, change)

    # For operators

    def parts(self) -> list[dict[str, Any]]:
        """Return what this worker knows, in small pieces: messages between workers have a largest size."""
        found: list[dict[str, Any]] = []
        for known in self.followed.values():
            found.append({"service": known.service, "state": self._state(known)})
            document = self._in_force.of(known.service)
            notes = () if document is None else document.notes
            found += [{"service": known.service, "note": note} for note in notes]
            found += [
                {"service": known.service, "revision": piece}
                for revision in known.revisions
                for piece in _pieces(revision)
            ]
        return found

    def _state(self, known: Followed) -> dict[str, Any]:
        document = self._in_force.of(known.service)
        return {
            "path": known.path,
            "problem": known.problem,
            "asked_at": known.asked_at,
            "read_at": known.read_at,
            "digest": None if document is None else document.digest,
            "title": None if document is None else document.title,
            "version": None if document is None else document.version,
            "openapi": None if document is None else document.openapi,
            "operations": 0 if document is None else len(document.operations),
        }


def _chosen(service: Service, known: Followed) -> Instance | None:
    candidates = service.fleet.candidates()
    same = (one for one in candidates if one.id == known.instance)
    return next(same, candidates[0] if candidates else None)


async def _fetched(service: Service, instance: Instance, known: Followed) -> Fetched:
    fields = [
        (b"Host", service.host or instance.host),
        (b"Accept", b"application/json"),
        (b"User-Agent", b"propylon"),
    ]
    if known.etag:
        fields.append((b"If-None-Match", known.etag))
    line = b"GET " + instance.base + known.path.encode("ascii")
    return await fetch(instance.upstream, line, render(fields), within=_PATIENCE, limit=LARGEST)


def _etag(block: bytes) -> bytes:
    found = values(block, b"etag")
    good = len(found) == 1 and len(found[0]) <= _LONGEST_ETAG and FIELD_VALUE.fullmatch(found[0])
    return found[0] if good else b""


def _compared(old: Document, new: Document) -> Generator[None, None, Revision]:
    listed: list[Change] = []
    more = 0
    for change in differences(old, new):
        if change is None:
            yield
        elif len(listed) < _MOST_CHANGES:
            listed.append(change)
        else:
            more += 1
    return Revision(old.digest, new.digest, time.time(), tuple(listed), more)


def _pieces(revision: Revision) -> list[dict[str, Any]]:
    head = {"old": revision.old, "new": revision.new, "at": revision.at, "more": revision.more}
    return [
        {
            **head,
            "number": number,
            "kind": change.kind,
            "breaking": change.breaking,
            "method": change.method,
            "path": change.path[:200],
            "detail": change.detail[:200],
        }
        for number, change in enumerate(revision.changes)
    ] or [{**head, "number": -1}]
