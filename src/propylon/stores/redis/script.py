"""Read the Lua script, and pack the commands that load and call it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from propylon.stores.redis.connection import pack

__all__ = ["Script"]


class Script:
    """A script by its source; without one: `limits.lua`."""

    __slots__ = ("_digest", "_load")

    def __init__(self, source: bytes | None = None) -> None:
        """Name it as Redis does, by the SHA-1 of its source."""
        if source is None:
            source = self.source()
        self._digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
        self._load = pack("SCRIPT", "LOAD", source)

    @staticmethod
    def source(name: str = "limits.lua") -> bytes:
        """Return the text of a script."""
        return Path(__file__).with_name(name).read_bytes()

    def load(self) -> bytes:
        """Return the command that loads it: a server that was restarted has forgotten it."""
        return self._load

    def call(self, keys: list[bytes], *arguments: bytes | int) -> bytes:
        """Return the command that calls it for these keys."""
        return pack(b"EVALSHA", self._digest, len(keys), *keys, *arguments)
