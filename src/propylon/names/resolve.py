"""Cache what names resolve to, and refresh it by TTL, so that requests seldom wait for DNS.

    pool ─── addresses(host) ───► cache ─── no entry, or expired ───► a `Source` (`lookup`)
                                    ▲
    follow(host, on_change) ────────┘ refreshes the entry in the background when its TTL is over

Rules.

1. While DNS fails, the last known addresses stay: a name server that does not answer says nothing about the upstream.
2. "No such name" is an answer. It is cached for a few seconds (RFC 2308), and after half a minute the old addresses go.
3. While the gateway has no descriptor left, no lookup says anything: nothing is cached, and the next caller asks again.
4. A name is looked up once at a time, however many callers wait. While it is looked up, the expired answer is used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from propylon.errors import ConnectFailed, LocalFault
from propylon.loop.tasks import spawn
from propylon.names.addresses import parse_address
from propylon.names.exhausted import Faults

__all__ = [
    "LookupResult",
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

# Seconds. A TTL of 0 must not become a busy loop.
_LEAST_TTL = 1.0
# Docker gives a TTL of 600 s for names that may move at any moment, and nginx's users write
# `valid=10s` against that. A query each minute costs nothing.
_MOST_TTL = 60.0
# Seconds for which a name keeps its addresses after name servers say that it does not exist:
# HAProxy's `hold nx`.
_HOLD = 30.0
# Seconds until a query that failed is made again. RFC 2308, 7 allows up to five minutes, and
# section 5 up to hours for a name that does not exist; but an operator who starts a container waits
# for its name.
_RETRY = 5.0
# Entries of a cache. Names come from the configuration and from registrations, so this is far above
# what is in use.
_MAX_NAMES = 1024


@dataclass(frozen=True, slots=True)
class LookupResult(Generic[T]):
    """An answer and its TTL in seconds; without values: there is no such name."""

    values: tuple[T, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class SrvTarget:
    """One target of an SRV record (RFC 2782), and its share of the requests."""

    host: str
    port: int
    weight: int = 1


class Names(Protocol):
    """What a pool asks for the addresses of its host."""

    async def addresses(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`, one at least, in the order to try them. Raises ConnectFailed."""

    def mark_stale(self, host: str) -> None:
        """Expire the cached addresses of `host`, because no connection to them could be opened."""


class Source(Protocol):
    """What a `Resolver` asks when an answer has expired."""

    async def addresses(self, name: str) -> LookupResult[str]:
        """Return the addresses of a name; none: there is no such name. Raises ConnectFailed if the lookup fails."""

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """Return the targets of an SRV record; none: there is no such record. Raises ConnectFailed likewise."""


def unresolved(name: str, why: object) -> ConnectFailed:
    """Return the error for a name that could not be looked up; the name and `why` are for the log only."""
    return _failed(f"name lookup of {name}: {why}")


def no_such_name(name: str) -> ConnectFailed:
    """Return the error for a name that does not exist, or has no addresses."""
    return unresolved(name, "no such name")


def _failed(reason: str) -> ConnectFailed:
    # Names inside the network are no business of a client.
    msg = "The upstream's name does not resolve"
    return ConnectFailed(msg, reason=reason)


def split(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that count as separate instances; none: the name is one instance.

    A host that has an IPv4 and an IPv6 address is one instance, as localhost is: only IPv4 addresses count, or only IPv6
    ones if there are no others.
    """
    parsed = [address for address in map(parse_address, addresses) if address is not None]
    if not parsed:
        return ()
    family = min(address.version for address in parsed)
    # Sorted, because name servers rotate the order, and a new order is no new set of instances.
    chosen = sorted({address for address in parsed if address.version == family}, key=int)
    return tuple(map(str, chosen)) if len(chosen) > 1 else ()


class Resolver:
    """The cache of names: `Names` for the pools, and addresses to follow for `services.discovery`."""

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float],
        *,
        least_ttl: float = _LEAST_TTL,
        most_ttl: float = _MOST_TTL,
    ) -> None:
        """Ask `source`; `clock` is monotonic, in seconds; TTLs are kept between the two bounds."""
        ttls = (least_ttl, most_ttl)
        self._addresses: _Cache[str] = _Cache(source.addresses, clock, ttls)
        self._targets: _Cache[SrvTarget] = _Cache(source.targets, clock, ttls)
        self._following: set[asyncio.Task[None]] = set()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a name, from the cache or by a lookup.

        Raises ConnectFailed if there are none, LocalFault if the gateway cannot look them up.
        """
        return await self._addresses.get(host)

    def known(self, host: str) -> tuple[str, ...]:
        """Return the cached addresses, expired or not, without a lookup; empty if there are none."""
        return self._addresses.known(host)

    def known_targets(self, name: str) -> tuple[SrvTarget, ...]:
        """Return the cached targets of an SRV record, as `known` returns addresses."""
        return self._targets.known(name)

    def mark_stale(self, host: str) -> None:
        """Expire the addresses of `host`, unless they were looked up less than `least_ttl` ago."""
        self._addresses.mark_stale(host)

    def follow(self, host: str, on_change: Callable[[tuple[str, ...]], None]) -> asyncio.Task[None]:
        """Look a name up now and whenever its TTL is over, and call `on_change` each time.

        The caller cancels the returned task to stop.
        """
        return self._follow(self._addresses.follow(host, on_change))

    def follow_service(
        self, name: str, on_change: Callable[[tuple[SrvTarget, ...]], None]
    ) -> asyncio.Task[None]:
        """Look an SRV record up repeatedly, as `follow` does a name."""
        return self._follow(self._targets.follow(name, on_change))

    def _follow(self, following: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = spawn(following)
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return task

    def close(self) -> None:
        """Cancel all following and all lookups."""
        for task in list(self._following):
            task.cancel()
        self._addresses.close()
        self._targets.close()


def _mark_retrieved(lookup: asyncio.Task[Any]) -> None:
    """Look at a task's exception, so that asyncio does not log it as never retrieved."""
    if not lookup.cancelled():
        lookup.exception()


@dataclass(slots=True)
class _Entry(Generic[T]):
    """What the cache holds of one name; times are of its clock."""

    values: tuple[T, ...] = ()
    expires: float = 0.0
    asked: float = 0.0  # when the last lookup began
    missing: float | None = None  # when name servers first said that it does not exist
    failure: str = ""  # why the last lookup brought no values
    warned: bool = False  # lookups fail, and the log says so already
    lookup: asyncio.Task[tuple[T, ...]] | None = None


class _Cache(Generic[T]):
    """The answers to one kind of query, by name."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[LookupResult[T]]],
        clock: Callable[[], float],
        ttls: tuple[float, float],
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._least_ttl, self._most_ttl = ttls
        self._faults = Faults(clock)
        self._entries: dict[str, _Entry[T]] = {}

    async def get(self, name: str) -> tuple[T, ...]:
        """Return the cached answer, or a new one if it has expired. Raises ConnectFailed."""
        entry = self._entry(name)
        # While a lookup is under way, callers get the expired answer: only the first one waits.
        if entry.lookup is not None or self._clock() < entry.expires:
            if entry.values:
                return entry.values
            if entry.failure:
                raise _failed(entry.failure)
        return await self._refresh(name, entry)

    def known(self, name: str) -> tuple[T, ...]:
        """Return the cached answer, expired or not."""
        entry = self._entries.get(name)
        return entry.values if entry is not None else ()

    async def follow(self, name: str, on_change: Callable[[tuple[T, ...]], None]) -> None:
        """Pass each answer to `on_change`, for ever; an empty one if the name is gone or was never found."""
        while True:
            entry = self._entry(name)
            try:
                on_change(await self._refresh(name, entry))
            except ConnectFailed:
                on_change(())
            except LocalFault:
                log.debug("%s is not looked up now, for the gateway lacks what that needs", name)
            await asyncio.sleep(max(self._least_ttl, entry.expires - self._clock()))

    def mark_stale(self, name: str) -> None:
        """Expire the answer, unless its lookup began less than the least TTL ago."""
        # An upstream that is down is connected to many times a second. Not each failure may cause a
        # query.
        entry = self._entries.get(name)
        if entry is not None and entry.values and self._clock() - entry.asked >= self._least_ttl:
            entry.expires = 0.0

    def close(self) -> None:
        """Cancel the lookups that are under way."""
        for entry in self._entries.values():
            if entry.lookup is not None:
                entry.lookup.cancel()

    def _entry(self, name: str) -> _Entry[T]:
        entry = self._entries.get(name)
        if entry is None:
            if len(self._entries) >= _MAX_NAMES:
                del self._entries[next(iter(self._entries))]
            entry = self._entries[name] = _Entry()
        return entry

    async def _refresh(self, name: str, entry: _Entry[T]) -> tuple[T, ...]:
        """Look the name up, once for all callers. Raises ConnectFailed if there is no answer, old or new."""
        if entry.lookup is None:
            entry.lookup = spawn(self._look_up(name, entry))
            # When all callers have given up, no code awaits the task, and asyncio would log its
            # failure.
            entry.lookup.add_done_callback(_mark_retrieved)
        # Shielded: a caller that is cancelled must not cancel what the others wait for.
        return await asyncio.shield(entry.lookup)

    async def _look_up(self, name: str, entry: _Entry[T]) -> tuple[T, ...]:
        entry.asked = self._clock()
        try:
            self._store(name, entry, await self._ask(name))
        except ConnectFailed as error:
            fault = self._faults.now()
            if fault is not None and not entry.values:
                raise fault from error
            if fault is None:
                self._note_failure(name, entry, error.reason)
        finally:
            entry.lookup = None
        if not entry.values:
            raise _failed(entry.failure)
        return entry.values

    def _note_failure(self, name: str, entry: _Entry[T], reason: str) -> None:
        """Schedule the next try; warn once, and not again before a lookup has succeeded."""
        entry.expires = self._clock() + _RETRY
        entry.failure = reason
        if entry.warned:
            return
        entry.warned = True
        if entry.values:
            log.warning("%s is not looked up anew, its last addresses stay: %s", name, reason)
        else:
            log.warning("%s is not found, and is asked for again and again: %s", name, reason)

    def _store(self, name: str, entry: _Entry[T], found: LookupResult[T]) -> None:
        now = self._clock()
        if entry.warned:
            entry.warned = False
            log.warning("%s is looked up again: %s", name, found.values or "no such name")
        most = self._most_ttl if found.values else _RETRY
        entry.expires = now + min(max(found.ttl, self._least_ttl), most)
        if found.values:
            entry.values, entry.missing, entry.failure = found.values, None, ""
            return
        entry.failure = no_such_name(name).reason
        if entry.missing is None:
            entry.missing = now
        if entry.values and now - entry.missing >= _HOLD:
            log.warning("%s does not exist any more", name)
            entry.values = ()
