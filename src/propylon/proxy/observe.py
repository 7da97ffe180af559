"""OBSERVE: tell every sink about every exchange, whatever happened."""

from __future__ import annotations

from collections.abc import Callable

from propylon.proxy.exchange import Exchange

__all__ = ["Sink"]

# Called once per exchange, synchronously, after it has ended; must be quick and must not raise.
Sink = Callable[[Exchange], None]
