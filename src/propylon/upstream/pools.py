"""Keep the pools of a process, one for each address, so that a reload finds its connections again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.names.addresses import AddressFilter
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.client_pool import ClientPool
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.ports import Upstream

__all__ = ["Pools"]


class Pools:
    """Creates pools that share a loop, its ticker, its outbox and its resolver."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ticker: Ticker,
        outbox: Outbox,
        names: Names = SYSTEM,
    ) -> None:
        """Start without a pool; `names` resolves the hosts of all pools."""
        self._loop = loop
        self._ticker = ticker
        self._outbox = outbox
        self._names = names
        # By address and limit: services that share an address with another limit are meant to be
        # kept apart. TLS and the PROXY protocol are part of the address: a connection that was
        # opened by one service's rules never carries the requests of another.
        self._shared: dict[tuple[Address, int], Pool] = {}

    def connect(self, address: Address, limit: int) -> Pool:
        """Return the shared pool of an address, with at most `limit` connections; create it if there is none."""
        pool = self._shared.get((address, limit))
        if pool is None:
            pool = self._shared[address, limit] = self.fresh(address, limit)
        return pool

    def fresh(self, address: Address, limit: int, permit: AddressFilter | None = None) -> Pool:
        """Return a new pool that is not shared, and connects only to what `permit` admits; the caller closes it."""
        # For probes, which must not wait in the queue of the requests, and for registered
        # instances, whose addresses come from clients.
        kind = Pool if address.proxy is None else ClientPool
        return kind(
            address,
            limit=limit,
            ticker=self._ticker,
            outbox=self._outbox,
            loop=self._loop,
            names=self._names,
            permit=permit,
        )

    def drop(self, pool: Upstream) -> None:
        """Close a shared pool; exchanges under way may end, and the next `connect` creates a new pool."""
        self.keep(other for other in self._shared.values() if other is not pool)

    def keep(self, used: Iterable[Upstream]) -> None:
        """Close every shared pool but these, after a reload that leaves the others unused."""
        # By identity: two pools of one address may differ in their limit, and both may be in use.
        kept = {id(pool) for pool in used}
        for key, pool in list(self._shared.items()):
            if id(pool) not in kept:
                del self._shared[key]
                pool.close()

    def close(self) -> None:
        """Close every shared pool, for the stop."""
        self.keep(())
