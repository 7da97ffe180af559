"""Make the answer to one client out of a stored one: the whole, a part, or that it has not changed."""

from __future__ import annotations

from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.filling import Budget, Replay
from propylon.proxy.cache.stored import Stored, not_modified, part
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply

__all__ = ["serve"]


def serve(stored: Stored, asking: Asking, now: float, wall: float, budget: Budget) -> Answer:
    """Return the answer; a long body counts in `budget` while it is read."""
    if not asking.plain:
        # RFC 9110, 13.2.2: the conditions first, then the range.
        unchanged = not_modified(stored, asking, now, wall)
        if unchanged is not None:
            return Reply(unchanged, b"", None)
        if asking.ranged and (piece := part(stored, asking, now, wall)) is not None:
            return Reply(piece[0], piece[1], None)
    head = stored.head(now)
    if isinstance(stored.body, bytes):
        return Reply(head, stored.body, None)
    return Replay(head, stored.body, budget)
