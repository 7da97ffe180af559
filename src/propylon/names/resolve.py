"""Turn names into addresses, again and again: as often as their TTL says, and hardly ever in a request's way.

    pool ─── addresses(host) ───► what is remembered ─── nothing, or too old ───► a source
                                        ▲                                        (`lookup`)
    follow(host, changed) ──────────────┘ asked again in the background when the TTL is over

Who cannot be asked is not believed to be gone: while DNS fails, the last known addresses stay. That there are
none is remembered as well, for a few seconds (RFC 2308).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from propylon.errors import ConnectFailed
from propylon.loop.tasks import spawn
from propylon.names.addresses import is_loopback, parse_address

__all__ = [
    "Found",
    "Names",
    "Resolver",
    "Source",
    "SrvTarget",
    "no_such_name",
    "split",
    "unresolved",
]

T = TypeVar("T")

log = logging.getLogger(__name__)

# A TTL of 0 must not become a busy loop. Docker says 600 s of names that may move at any moment, and
# nginx's users write `valid=10s` against it: asking once a minute costs nothing.
_LEAST_TTL = 1.0
_MOST_TTL = 60.0
# How long a name keeps its addresses after it was said not to exist any more: HAProxy's `hold nx`.
_HOLD = 30.0
# Seconds until a question that nobody answered is asked again. RFC 2308 allows five minutes of it, and hours
# for a name that does not exist; but a container that has just been started is waited for.
_RETRY = 5.0
_MAX_NAMES = 1024


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """An answer, and for how many seconds it holds; no values: there is no such name, for so long."""

    values: tuple[T, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class SrvTarget:
    """Where a service is, as an SRV record says."""

    host: str
    port: int
    weight: int = 1


class Names(Protocol):
    """Who knows the addresses of names."""

    async def addresses(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`, one at least. Raises ConnectFailed."""

    def mark_stale(self, host: str) -> None:
        """Note that nobody was there: what is remembered of `host` may be out of date."""


class Source(Protocol):
    """Who is asked about names."""

    async def addresses(self, name: str) -> Found[str]:
        """Return the addresses of a name. Raises ConnectFailed if nobody could say."""

    async def targets(self, name: str) -> Found[SrvTarget]:
        """Return where a service is. Raises ConnectFailed if nobody could say."""


def unresolved(name: str, why: object) -> ConnectFailed:
    """Return the error for a name whose addresses nobody could say; clients are not told the name."""
    return _failed(f"name lookup of {name}: {why}")


def no_such_name(name: str) -> ConnectFailed:
    """Return the error for a name that has no addresses."""
    return unresolved(name, "no such name")


def _failed(reason: str) -> ConnectFailed:
    msg = "The upstream's name does not resolve"
    return ConnectFailed(msg, reason=reason)


def split(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that are instances of their own; none: the name is one instance.

    A host with addresses of both families is one host: IPv4 counts, IPv6 where there is no other.
    """
    parsed = [address for address in map(parse_address, addresses) if address is not None]
    if all(is_loopback(address) for address in parsed):
        return ()
    family = min(address.version for address in parsed)
    # In the order of their numbers: name servers rotate theirs.
    chosen = sorted({address for address in parsed if address.version == family}, key=int)
    return tuple(map(str, chosen)) if len(chosen) > 1 else ()


class Resolver:
    """Remember what names stand for, and ask `source` again when that is over."""

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float],
        *,
        least_ttl: float = _LEAST_TTL,
        most_ttl: float = _MOST_TTL,
    ) -> None:
        """Take a monotonic clock, in seconds, and the bounds that a TTL is kept within."""
        ttls = (least_ttl, most_ttl)
        self._addresses: _Memory[str] = _Memory(source.addresses, clock, ttls)
        self._targets: _Memory[SrvTarget] = _Memory(source.targets, clock, ttls)
        self._following: set[asyncio.Task[None]] = set()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a name. Raises ConnectFailed if none is known."""
        return await self._addresses.get(host)

    def known(self, host: str) -> tuple[str, ...]:
        """Return the last known addresses, without asking; none, if none are known."""
        return self._addresses.known(host)

    def known_targets(self, name: str) -> tuple[SrvTarget, ...]:
        """Return the last known targets of an SRV record, as `known` does addresses."""
        return self._targets.known(name)

    def mark_stale(self, host: str) -> None:
        """Look `host` up at its next use, unless that was done a moment ago."""
        self._addresses.mark_stale(host)

    def follow(self, host: str, on_change: Callable[[tuple[str, ...]], None]) -> asyncio.Task[None]:
        """Tell the addresses of a name now and whenever its TTL is over; cancel the task to stop."""
        return self._follow(self._addresses.follow(host, on_change))

    def follow_service(
        self, name: str, on_change: Callable[[tuple[SrvTarget, ...]], None]
    ) -> asyncio.Task[None]:
        """Tell the targets of an SRV record, as `follow` tells addresses."""
        return self._follow(self._targets.follow(name, on_change))

    def _follow(self, following: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = spawn(following)
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return task

    def close(self) -> None:
        """Follow nothing any more, and give up what is being asked."""
        for task in list(self._following):
            task.cancel()
        self._addresses.close()
        self._targets.close()


def _heard(asking: asyncio.Task[Any]) -> None:
    if not asking.cancelled():
        asking.exception()


@dataclass(slots=True)
class _Known(Generic[T]):
    """What is remembered of one name; times are the clock's."""

    values: tuple[T, ...] = ()
    expires: float = 0.0
    asked: float = 0.0
    missing: float | None = None  # since when it is said not to exist
    failure: str = ""  # why the last question brought no values
    silent: bool = False  # nobody answers, and the log has said so
    asking: asyncio.Task[tuple[T, ...]] | None = None


class _Memory(Generic[T]):
    """The last answers to one kind of question."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Found[T]]],
        clock: Callable[[], float],
        ttls: tuple[float, float],
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._least_ttl, self._most_ttl = ttls
        self._known: dict[str, _Known[T]] = {}

    async def get(self, name: str) -> tuple[T, ...]:
        """Return the last answer, if it still holds. Raises ConnectFailed."""
        known = self._entry(name)
        # While it is looked up, what was known is good enough: nobody waits but the first.
        if known.asking is not None or self._clock() < known.expires:
            if known.values:
                return known.values
            if known.failure:
                raise _failed(known.failure)
        return await self._renew(name, known)

    def known(self, name: str) -> tuple[T, ...]:
        """Return the last answer, whether it still holds or not."""
        known = self._known.get(name)
        return known.values if known is not None else ()

    async def follow(self, name: str, on_change: Callable[[tuple[T, ...]], None]) -> None:
        """Tell each answer, for ever; an empty one when the name is gone or was never found."""
        while True:
            known = self._entry(name)
            try:
                on_change(await self._renew(name, known))
            except ConnectFailed:
                on_change(())
            await asyncio.sleep(max(self._least_ttl, known.expires - self._clock()))

    def mark_stale(self, name: str) -> None:
        """Let the answer count no longer, unless it is new."""
        known = self._known.get(name)
        if known is not None and known.values and self._clock() - known.asked >= self._least_ttl:
            known.expires = 0.0

    def close(self) -> None:
        """Give up what is being asked."""
        for known in self._known.values():
            if known.asking is not None:
                known.asking.cancel()

    def _entry(self, name: str) -> _Known[T]:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MAX_NAMES:
                del self._known[next(iter(self._known))]
            known = self._known[name] = _Known()
        return known

    async def _renew(self, name: str, known: _Known[T]) -> tuple[T, ...]:
        """Ask, once for all who want to know. Raises ConnectFailed if nothing is known."""
        if known.asking is None:
            known.asking = spawn(self._answer(name, known))
            # When all who asked have given up, nobody is left to hear of a failure.
            known.asking.add_done_callback(_heard)
        # Shielded: one impatient request must not cancel what others wait for.
        return await asyncio.shield(known.asking)

    async def _answer(self, name: str, known: _Known[T]) -> tuple[T, ...]:
        known.asked = self._clock()
        try:
            self._remember(name, known, await self._ask(name))
        except ConnectFailed as error:
            self._miss(name, known, error.reason)
        finally:
            known.asking = None
        if not known.values:
            raise _failed(known.failure)
        return known.values

    def _miss(self, name: str, known: _Known[T], reason: str) -> None:
        """Note that nobody answered; say so once, and not again before somebody has."""
        known.expires = self._clock() + _RETRY
        known.failure = reason
        if known.silent:
            return
        known.silent = True
        if known.values:
            log.warning("%s is not looked up anew, its last addresses stay: %s", name, reason)
        else:
            log.warning("%s is not found, and is asked for again and again: %s", name, reason)

    def _remember(self, name: str, known: _Known[T], found: Found[T]) -> None:
        now = self._clock()
        if known.silent:
            known.silent = False
            log.warning("%s is looked up again: %s", name, found.values or "no such name")
        most = self._most_ttl if found.values else _RETRY
        known.expires = now + min(max(found.ttl, self._least_ttl), most)
        if found.values:
            known.values, known.missing, known.failure = found.values, None, ""
            return
        known.failure = no_such_name(name).reason
        if known.missing is None:
            known.missing = now
        if known.values and now - known.missing >= _HOLD:
            log.warning("%s does not exist any more", name)
            known.values = ()
