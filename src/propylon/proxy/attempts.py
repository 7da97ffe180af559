"""ATTEMPT: hold what was tried for a request, and what could be tried next; choose the instance of each attempt."""

from __future__ import annotations

import copy
from collections.abc import Awaitable
from dataclasses import dataclass, field

from propylon.errors import GatewayError, NoInstance, StaleConnection, UpstreamBusy
from propylon.proxy.exchange import Attempt, Exchange
from propylon.proxy.outgoing import address, renumbered
from propylon.proxy.route import Route
from propylon.services.service import Instance
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.grammar import date_time
from propylon.wire.message import Request

__all__ = ["Attempts", "chosen"]


@dataclass(slots=True)
class Attempts:
    """What was tried, and what could be tried next."""

    exchange: Exchange
    request: Request
    route: Route
    sent: Outgoing
    common: bytes
    reconnected: bool = False
    number: int = 1
    instance: Instance = field(init=False)
    tried: tuple[Instance, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.exchange.instance is None:
            msg = "the first attempt comes first"
            raise RuntimeError(msg)
        self.instance = self.exchange.instance
        self.tried = (self.instance,)

    def note(self, answer: Answer | None, error: GatewayError | None, now: float) -> None:
        """Keep for a trace how an attempt has ended."""
        exchange, notes = self.exchange, self.exchange.notes
        if notes is not None:
            status = 0 if answer is None else answer.head.status
            began = notes.began or exchange.upstream_began
            notes.attempts += (Attempt(self.instance, began, now, status, error),)

    def send(self) -> Awaitable[Answer]:
        """Send the request to the instance that was chosen."""
        return self.instance.upstream.send(self.sent, self.exchange.downstream)

    def begin(self, now: float) -> Awaitable[Answer]:
        """Choose another instance, if there is one, and send the request there."""
        service = self.route.service
        candidates = self.others() or service.fleet.candidates()
        self.instance = chosen(self.exchange, self.request, self.route, candidates)
        self.exchange.instance = self.instance
        self.tried += (self.instance,)
        self.number += 1
        self.exchange.attempts += 1
        if self.exchange.notes is not None:
            self.exchange.notes.began = now
        common = renumbered(self.common, self.exchange)
        address(self.exchange, self.sent, self.request, self.route, self.instance, common)
        return self.send()

    def beside(self, sink: Sink) -> Awaitable[Answer]:
        """Send the request to another instance, too, while this one has not answered."""
        self.instance = chosen(self.exchange, self.request, self.route, self.others())
        self.tried += (self.instance,)
        self.number += 1
        self.exchange.attempts += 1
        sent = copy.copy(self.sent)
        common = renumbered(self.common, self.exchange)
        address(self.exchange, sent, self.request, self.route, self.instance, common)
        return self.instance.upstream.send(sent, sink)

    def deadline(self, now: float) -> float:
        """Return when the final answer's head is due; the first attempt may have suspended that."""
        sent = self.sent
        return (
            sent.deadline
            if sent.body is not None and not sent.body.complete
            else sent.begin_waiting(now)
        )

    def others(self) -> tuple[Instance, ...]:
        """Return the instances that were not tried yet."""
        untried = self.route.service.fleet.untried(self.tried)
        select = self.route.select
        return untried if select is None else select.left(self.exchange, self.request, untried)

    def come_free(self, error: GatewayError | None) -> bool:
        """Tell whether the next attempt is no retry, because the last one was no failure of an instance."""
        if isinstance(error, UpstreamBusy):
            return self._pass_over(error)
        return isinstance(error, StaleConnection) and self._reconnect()

    def _pass_over(self, error: UpstreamBusy) -> bool:
        """Go on to an instance that may have a free connection: this one had none, and was not asked."""
        if not self.others() or not self.repeatable(error):
            return False
        self.number -= 1
        return True

    def _reconnect(self) -> bool:
        """Replace a kept-alive connection that the upstream had closed: nothing was received.

        Once: the pool closes those that were idle for as long, so the next connection is new or proven.
        """
        if self.reconnected or not self.repeatable(None):
            return False
        self.reconnected = True
        self.exchange.flags += ("stale_connection",)
        self.number -= 1
        self.tried = self.tried[:-1]
        return True

    def repeatable(self, error: GatewayError | None) -> bool:
        """Tell whether the request can be sent again, and does no harm if it arrives twice."""
        unsent = error is not None and error.unsent
        if not self.route.service.retry.allows(self.request.method, unsent=unsent):
            return False
        body = self.sent.body
        return body is None or body.replayable


def chosen(
    exchange: Exchange, request: Request, route: Route, candidates: tuple[Instance, ...]
) -> Instance:
    """Return the instance to ask. Raises NoInstance if there is none."""
    service = route.service
    if candidates and route.select is not None:
        return route.select.choose(exchange, request, candidates)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        return service.balance(candidates)
    checked = service.fleet.last_check
    last = None if checked is None else date_time(checked)
    what = "no healthy instance" if service.instances else "no instance"
    msg = f'The service "{service.name}" has {what}'
    raise NoInstance(msg, details={"service": service.name, "last_check": last})
