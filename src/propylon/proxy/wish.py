"""Say what a client wishes to be kept of its request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["NOTHING", "Level", "Wish"]

Level = Literal["strict", "standard", "permissive"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client wishes: a level, if any, and the block that tells the upstream."""

    level: Level | None
    block: bytes

    @property
    def strict(self) -> bool:
        """Whether nothing that tells who asked may be kept."""
        return self.level == "strict"


NOTHING = Wish(None, b"")
