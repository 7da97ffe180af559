"""Hold a configuration that was built, and is not in force yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propylon.assembly.carry import ServiceSet
from propylon.compile.table import Compiled
from propylon.config.reading.load import Loaded

# Databases and cryptography take half a second to load: only who verifies tokens needs them.
if TYPE_CHECKING:
    from propylon.compile.authentication import Authentication

__all__ = ["Change"]


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration with everything that was built from it, not yet in force."""

    loaded: Loaded
    authentication: Authentication | None
    verifying: Authentication | None  # in force until `authentication` has its keys
    services: ServiceSet
    compiled: Compiled
