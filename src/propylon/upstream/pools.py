"""Keep the pools of a process: one for each address, found again after a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.names.addresses import AddressFilter
from propylon.names.lookup import SYSTEM
from propylon.names.resolve import Names
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.ports import Upstream

__all__ = ["Pools"]


class Pools:
    """Makes pools that share a loop, its ticker, its outbox, and whoever knows the addresses of names."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ticker: Ticker,
        outbox: Outbox,
        names: Names = SYSTEM,
    ) -> None:
        """Start with none."""
        self._loop = loop
        self._ticker = ticker
        self._outbox = outbox
        self._names = names
        self._shared: dict[tuple[Address, int], Pool] = {}

    def connect(self, address: Address, limit: int) -> Pool:
        """Return the pool of an address, the same to whoever asks for it."""
        pool = self._shared.get((address, limit))
        if pool is None:
            pool = self._shared[address, limit] = self.fresh(address, limit)
        return pool

    def fresh(self, address: Address, limit: int, permit: AddressFilter | None = None) -> Pool:
        """Return a pool that nobody else has, and that nobody but its owner closes."""
        return Pool(
            address,
            limit=limit,
            ticker=self._ticker,
            outbox=self._outbox,
            loop=self._loop,
            names=self._names,
            permit=permit,
        )

    def drop(self, pool: Upstream) -> None:
        """Close a shared pool; who still has it may finish, who asks for the address gets a new one."""
        self.keep(one for one in self._shared.values() if one is not pool)

    def keep(self, used: Iterable[Upstream]) -> None:
        """Close every shared pool but these: a reload left nobody who would ask it."""
        kept = {id(one) for one in used}
        for key, pool in list(self._shared.items()):
            if id(pool) not in kept:
                del self._shared[key]
                pool.close()

    def close(self) -> None:
        """Close every shared pool."""
        self.keep(())
