"""Compile `compress` and `decompress`: stages that stand before all that answers a route's requests."""

from __future__ import annotations

from propylon.config.models.route import RouteConfig
from propylon.proxy.coding.codecs import encoder
from propylon.proxy.coding.compress import Compress, CompressRules
from propylon.proxy.coding.decoders import decoders
from propylon.proxy.coding.decompress import Decompress, DecompressRules, MakeBody
from propylon.proxy.coding.stream import Room
from propylon.proxy.route import Forwards

__all__ = ["compressing", "decompressing"]

# Of a worker, whatever is reloaded: 280 MB at the most, if all of them are large and in Brotli or Zstandard.
_ROOM = Room(256)


def compressing(written: RouteConfig, then: Forwards) -> Forwards:
    """Return the stage of a route, before `then`; `then` itself, if its answers are not compressed."""
    asked = written.compress
    if not asked:
        return then
    rules = CompressRules(
        tuple(coding.encode("ascii") for coding in asked.encodings),
        tuple(kind.encode("ascii") for kind in asked.types),
        int(asked.min_size),
        asked.level,
    )
    encoders = {coding.encode("ascii"): encoder(coding, asked.level) for coding in asked.encodings}
    return Compress(rules, then, encoders, _ROOM)


def decompressing(written: RouteConfig, then: Forwards, make: MakeBody | None) -> Forwards:
    """Return the stage of a route, before `then`; `then` itself, if its requests are not unpacked.

    `make` makes plain bodies; None: in a dry run, no body comes.
    """
    asked = written.decompress
    if not asked:
        return then
    rules = DecompressRules(int(asked.max_size), asked.max_ratio)
    return Decompress(rules, then, decoders(), make)
