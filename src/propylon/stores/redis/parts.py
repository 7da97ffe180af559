"""Join the decisions of a request whose keys are in several slots of a Cluster. Pure.

If one part refuses, what the others have spent is given back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from propylon.errors import GatewayError
from propylon.loop.signal import Signal
from propylon.proxy.limit.rule import Decision, Rule, Spend, refused

__all__ = ["Parts"]

_Part = tuple[Sequence[Spend], Signal[list[Decision]]]


class Parts:
    """A request in several parts. `answer` has the decisions in the order of the spends, when all parts are decided."""

    def __init__(
        self,
        spends: Sequence[Spend],
        parts: Sequence[_Part],
        charge: Callable[[Sequence[Spend]], None],
    ) -> None:
        """Wait for all parts; `charge` gives back by negative costs."""
        self.answer: Signal[list[Decision]] = Signal()
        self._spends = spends
        self._charge = charge
        self._decided: list[tuple[Sequence[Spend], Sequence[Decision]]] = []
        self._missing = len(parts)
        self._error: GatewayError | None = None
        for part, found in parts:
            if found.done:
                self._take(part, found)
            else:
                found.attach(partial(self._take, part))

    def _take(self, part: Sequence[Spend], done: Signal[list[Decision]]) -> None:
        try:
            self._add(part, done.result())
        except GatewayError as error:  # closed while its node is away: the others give back
            self._error = error
            self._add(part, ())

    def _add(self, part: Sequence[Spend], decisions: Sequence[Decision]) -> None:
        if decisions:
            self._decided.append((part, decisions))
        self._missing -= 1
        if not self._missing:
            self._join()

    def _join(self) -> None:
        refuses = self._error is not None or any(refused(*one) for one in self._decided)
        joined: dict[Rule, Decision] = {}
        for part, decisions in self._decided:
            given_back = refuses and not refused(part, decisions)
            for spend, one in zip(part, decisions, strict=True):
                back = spend.cost if given_back and one.allowed else 0
                joined[spend.rule] = one._replace(remaining=one.remaining + back)
                if back:
                    self._charge([spend._replace(cost=-back)])
        if self._error is not None:
            self.answer.fail(self._error)
        else:
            self.answer.set([joined[spend.rule] for spend in self._spends])
