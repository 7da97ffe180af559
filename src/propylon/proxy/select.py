"""Choose an instance by what the request is, where its service or route asks for that. Pure.

`forward` asks these for the instance of each attempt. Where a service is balanced by turns or by load, there is none of them,
and nothing of the request matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.services.hashing import Rendezvous
from propylon.services.service import Instance
from propylon.services.warmup import Warmup
from propylon.wire.message import Request

__all__ = ["ByKey", "Candidates"]

Candidates = tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class ByKey:
    """Sends requests of one key to one instance. `read` returns the key of a request, its principal and its client's address."""

    read: Callable[[Request, Principal, str], str]
    hashing: Rendezvous
    warmup: Warmup | None = None

    def choose(self, exchange: Exchange, request: Request, candidates: Candidates) -> Instance:
        """Return the instance of the request's key, or of those that are left, the next one."""
        key = self.read(request, exchange.principal, exchange.downstream.origin.client)
        weigh = None if self.warmup is None else self.warmup.weigh
        return self.hashing.choose(key, candidates, weigh)

    def narrowed(
        self,
        exchange: Exchange,  # noqa: ARG002 — as `Selects`
        request: Request,  # noqa: ARG002
        candidates: Candidates,
    ) -> Candidates:
        """Return the candidates: where one has no room, the request goes to the next one of its key."""
        return candidates

    def left(
        self,
        exchange: Exchange,  # noqa: ARG002 — as `Selects`
        request: Request,  # noqa: ARG002
        untried: Candidates,
    ) -> Candidates:
        """Return the instances that may get a further attempt: any that was not tried."""
        return untried
