"""Try once whether Redis can be used, for `propylon check --connect`."""

from __future__ import annotations

from propylon.stores.redis.connection import Connection, ErrorReply, Lost, pack
from propylon.stores.redis.encoding import PROBE, Names
from propylon.stores.redis.login import open_logged_in
from propylon.stores.redis.script import Script
from propylon.stores.redis.target import Address, Target
from propylon.stores.redis.topology import SentinelFinder, find_ranges

__all__ = ["try_redis"]


async def try_redis(target: Target) -> None:
    """Connect to each server as the gateway would, log in, load the script, and write. Raises Lost."""
    script = Script()
    write = script.call([Names(target.namespace).probe(b"check")], PROBE)
    # A Cluster has many masters, and only one of them has the key.
    used = pack("PING") if target.kind == "cluster" else write
    for address in await _find(target):
        try:
            connection = await open_logged_in(address, target.login, target.tls, target.patience)
        except Lost as error:
            msg = f"{address} cannot be used: {error}"
            raise Lost(msg) from error
        try:
            await _use(connection, address, [script.load(), used], target.patience)
        finally:
            connection.abort("it was tried")


async def _find(target: Target) -> list[Address]:
    if target.kind == "cluster":
        login, tls, patience = target.login, target.tls, target.patience
        ranges = await find_ranges(target.addresses, login, tls, patience)
        return [*dict.fromkeys(one.address for one in ranges)]
    if target.kind != "sentinel":
        return [target.addresses[0]]
    finder = SentinelFinder(target)
    try:
        return [await finder.find()]
    finally:
        finder.close()


async def _use(
    connection: Connection, address: Address, commands: list[bytes], patience: float
) -> None:
    for reply in await connection.call_all(commands, patience):
        if isinstance(reply, ErrorReply):
            msg = f"{address} answers with an error: {reply.shown}"
            raise Lost(msg)
