"""Look at samples of answers when there is time, and tell operators where they are not what the service's document says.

Bounds. A few samples wait, and what comes while there are so many is not looked at. They are looked at one by one, and
the loop gets ten times as long for requests as each has taken. What is wrong is logged once for each place of a
document, and for a hundred places at the most; the metric counts all of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from propylon.compile.samples import Sample
from propylon.documents.checks import compile_answers
from propylon.documents.document import Document, Operation
from propylon.documents.in_force import InForce
from propylon.errors import InvalidRequest
from propylon.loop.slices import in_slices
from propylon.loop.tasks import spawn_forever
from propylon.proxy.check import DRIFT, FITS, NO_DOCUMENT, UNCHECKED, UNDOCUMENTED
from propylon.proxy.check.answer import Verdict
from propylon.proxy.counts import Counts

__all__ = ["Drift"]

log = logging.getLogger(__name__)

# Of 64 KiB each.
_MOST_WAITING = 16
# How many times as long as a check takes requests have the loop for themselves behind it.
_REST = 10
_MOST_TOLD = 100
# Where an answer may be that of several operations, the best that is said of it counts.
_BEST_FIRST = (FITS, UNCHECKED, UNDOCUMENTED, DRIFT)


class Drift:
    """Takes samples of answers; see `compile.samples`."""

    def __init__(
        self,
        documents: InForce,
        counts: Callable[[str], Counts],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Hold them against `documents`; `counts` returns the row of a route."""
        self._documents = documents
        self._counts = counts
        self._clock = clock
        self._waiting: deque[Sample] = deque()
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        # By service, the digest of the document that places are of, and what was said of them.
        self._told: dict[str, tuple[str, set[tuple[str, ...]]]] = {}

    def take(self, sample: Sample) -> None:
        """Take a sample; one too many is only counted."""
        if len(self._waiting) >= _MOST_WAITING:
            self._counts(sample.route)[UNCHECKED] += 1
            return
        self._waiting.append(sample)
        self._due.set()
        if self._task is None:
            self._task = spawn_forever(self._work())

    def close(self) -> None:
        """Look at no more."""
        if self._task is not None:
            self._task.cancel()
        self._waiting.clear()

    async def _work(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self._waiting:
                began = self._clock()
                await self._look(self._waiting.popleft())
                await asyncio.sleep((self._clock() - began) * _REST)

    async def _look(self, sample: Sample) -> None:
        counts = self._counts(sample.route)
        document = self._documents.of(sample.service)
        if document is None:
            counts[NO_DOCUMENT] += 1
            return
        try:
            operations = self._documents.operations(
                sample.service, sample.rewrite, sample.method, sample.path
            )
        except InvalidRequest:
            operations = ()
        if not operations:
            counts[UNDOCUMENTED] += 1
            return
        verdicts = [await self._verdict(document, one, sample) for one in operations]
        best = min(verdicts, key=lambda one: _BEST_FIRST.index(one.result))
        counts[best.result] += 1
        operation = operations[verdicts.index(best)]
        said = (operation.method, operation.path, str(sample.answer.status))
        for fault in best.faults:
            self._tell(document, (*said, *fault))

    async def _verdict(self, document: Document, operation: Operation, sample: Sample) -> Verdict:
        key = operation.key
        if key not in document.answers:
            document.answers[key] = await in_slices(compile_answers(document, operation))
        check = document.answers[key]
        return Verdict(UNCHECKED) if check is None else check.judge(sample.answer)

    def _tell(self, document: Document, said: tuple[str, ...]) -> None:
        digest, told = self._told.get(document.service, ("", set()))
        if digest != document.digest:
            digest, told = self._told[document.service] = (document.digest, set())
        if said in told or len(told) >= _MOST_TOLD:
            return
        told.add(said)
        method, path, status, place, why = said
        log.warning(
            'answers of "%s": %s %s, %s: %s %s, as the document says',
            document.service,
            method,
            path,
            status,
            place,
            why,
        )
