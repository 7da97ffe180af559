"""Ask all workers for their part of an answer: whichever worker is asked, it answers for all.

    worker 1 ─── "who has circuits?" ──► all others
             ◄── parts, in pieces ────── each of them

A worker that does not answer in time (it is stopped by a debugger, or was killed a moment ago) is left out: an operator who
asks what is wrong must get an answer then, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message

__all__ = ["CIRCUITS", "INSTANCES", "LIMITS", "Census", "Part"]

Part = dict[str, Any]

# What can be asked for.
CIRCUITS = "circuits"
INSTANCES = "instances"
LIMITS = "limits"

_TOPIC = "census"
# Seconds. A worker answers in the turn of its loop in which it is asked; a turn of a busy one takes milliseconds.
_PATIENCE = 0.25
# Parts in one message, which has a largest size: an instance with its metadata may take a few kilobytes.
_PIECE = 16


class Census:
    """Collects parts of answers from all workers, and gives this worker's to those that ask."""

    def __init__(self, workers: Facts) -> None:
        """Answer for this worker alone until it joins the others."""
        self._workers = workers
        self._offers: dict[str, Callable[[], Sequence[Part]]] = {}
        self._asked = 0
        self._open: dict[int, _Question] = {}

    def join(self) -> None:
        """Answer the others from now on."""
        self._workers.hear(_TOPIC, self._hear)

    def offer(self, subject: str, parts: Callable[[], Sequence[Part]]) -> None:
        """Call `parts` for what this worker says on a subject; JSON must be able to hold it."""
        self._offers[subject] = parts

    async def gather(self, subject: str) -> list[Part]:
        """Return the parts of all workers, this one's first; those of a worker that is silent are missing."""
        mine = [*self._offers[subject]()]
        expected = self._workers.others
        if not expected:
            return mine
        self._asked += 1
        number, question = self._asked, _Question(expected)
        self._open[number] = question
        try:
            message = {
                "op": "ask",
                "subject": subject,
                "from": self._workers.name,
                "number": number,
            }
            self._workers.tell(_TOPIC, message)
            async with asyncio.timeout(_PATIENCE):
                await question.complete.wait()
        except TimeoutError:
            pass  # what has come by now is the answer
        finally:
            del self._open[number]
        return mine + question.parts

    def _hear(self, message: Message) -> None:
        if message["op"] == "ask":
            self._answer(message)
        elif message["op"] != MISSED["op"] and (question := self._open.get(message["number"])):
            question.take(message["parts"], last=message["last"])

    def _answer(self, message: Message) -> None:
        offered = self._offers.get(message["subject"])
        parts = [] if offered is None else offered()
        for begin in range(0, max(1, len(parts)), _PIECE):
            piece = {
                "op": "parts",
                "number": message["number"],
                "parts": parts[begin : begin + _PIECE],
                "last": begin + _PIECE >= len(parts),
            }
            self._workers.tell(_TOPIC, piece, to=message["from"])


class _Question:
    """One that is waited for."""

    def __init__(self, expected: int) -> None:
        self.parts: list[Part] = []
        self.complete = asyncio.Event()
        self._missing = expected

    def take(self, parts: list[Part], *, last: bool) -> None:
        """Add what a worker said."""
        self.parts += parts
        self._missing -= last
        if not self._missing:
            self.complete.set()
