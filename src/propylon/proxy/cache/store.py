"""Declare where answers are kept, and choose among those of one key (RFC 9111, 4.1). Pure."""

from __future__ import annotations

from typing import Protocol

from propylon.proxy.cache.asking import Asking
from propylon.proxy.cache.key import Key, Target
from propylon.proxy.cache.rules import CacheRules
from propylon.proxy.cache.stored import Stored
from propylon.proxy.exchange import Exchange
from propylon.wire.headers import fields
from propylon.wire.message import Request

__all__ = ["AnswerStore", "Variant", "names_of", "values_of", "written"]

Variant = tuple[tuple[bytes, bytes], ...]
"""Headers that choose an answer, with their values in one request."""


class AnswerStore(Protocol):
    """Where answers are kept: the port that a store fills."""

    def get(self, key: Key) -> tuple[Stored, ...]:
        """Return the answers under a key, the newest first."""

    def generation(self, key: Key) -> int:
        """Return a number that changes when answers of the key's path are deleted.

        What was asked for before that must not be stored after it, nor be given to who asks after it.
        """

    def put(self, key: Key, stored: Stored, generation: int) -> None:
        """Keep an answer in place of the ones that the same requests would get, unless its generation is over."""

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""

    def invalidate(self, target: Target) -> None:
        """Let go of the answers of one resource, of all callers (RFC 9111, 4.4)."""


def names_of(answers: tuple[Stored, ...], rules: CacheRules) -> tuple[bytes, ...]:
    """Return the headers by which the answers of a key are known to vary."""
    if not answers:
        return rules.vary
    return tuple(sorted({*rules.vary, *(name for one in answers for name, _ in one.vary)}))


def written(exchange: Exchange, request: Request, rules: CacheRules) -> dict[bytes, bytes]:
    """Return the headers that the gateway itself writes about the caller, where the caller is not in the key."""
    if rules.by == "caller":
        return {}
    block = exchange.principal.block + exchange.downstream.origin.certificate
    found = {name.lower(): value for name, value in fields(block)}
    if request.vouched is not None:
        found |= {name: value for name, (_, value) in request.vouched.items()}
    return found


def values_of(names: tuple[bytes, ...], asking: Asking, said: dict[bytes, bytes]) -> Variant:
    """Return the values that a request has of some headers."""
    return tuple([(name, said[name] if name in said else asking.value(name)) for name in names])
