"""Let go of stored answers when an unsafe request changes what they are of (RFC 9111, 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

from propylon.proxy.cache.behind import Behind
from propylon.proxy.cache.deletion import Deletion
from propylon.proxy.cache.judgement import read_answer
from propylon.proxy.cache.key import Target, normal_path
from propylon.proxy.cache.store import AnswerStore
from propylon.proxy.exchange import Exchange
from propylon.proxy.route import Forwards, Route
from propylon.upstream.ports import Answer
from propylon.wire.grammar import REFERENCE
from propylon.wire.message import Request

__all__ = ["Invalidation"]

# RFC 9110, 9.2.1. Any other method may change something, also one that nobody here knows.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OK, _ERRORS = 200, 400


@dataclass(frozen=True, slots=True)
class Invalidation:
    """A forward stage that invalidates: the target of an unsafe request, and what its answer points to.

    For routes with a cache, and for those whose paths lie among the paths of one.
    """

    forward: Forwards
    store: AnswerStore
    behind: Behind | None = None

    async def __call__(self, exchange: Exchange, request: Request, route: Route) -> Answer:
        """Forward the request; a successful unsafe one invalidates."""
        answer = await self.forward(exchange, request, route)
        if request.method not in _SAFE and _OK <= answer.head.status < _ERRORS:
            targets = _targets(exchange, request, answer.head.block)
            for target in targets:
                self.store.invalidate(target)
            if self.behind is not None:
                # All are on their way before one is awaited. The client must not see what it has changed.
                for deleted in [self.behind.delete(Deletion.of_target(one)) for one in targets]:
                    await deleted
        return answer


def _targets(exchange: Exchange, request: Request, block: bytes) -> set[Target]:
    """Return the resource that was changed, and those of the same host that the answer names."""
    host = (exchange.downstream.origin.host or request.host).lower()
    targets = {(host, normal_path(request.path), request.query)}
    found = read_answer(block)
    for line in (*found.get(b"location", ()), *found.get(b"content-location", ())):
        match = REFERENCE.fullmatch(line)
        if match is None or (match["authority"] is not None and match["authority"].lower() != host):
            continue  # RFC 9111, 4.4: another host could empty this cache otherwise
        path = match["path"]
        if not path.startswith(b"/"):
            path = request.path[: request.path.rfind(b"/") + 1] + path
        query = match["rest"].partition(b"#")[0]
        targets.add((host, normal_path(path), query))
    return targets
