"""The API document of one gateway: how often it is made."""

import asyncio
from contextlib import nullcontext

from fastapi import FastAPI

from propylon.assembly.api_document import ApiDocument
from propylon.config.models.schema import GatewayConfig
from propylon.documents.in_force import InForce
from propylon.proxy.principal import ANONYMOUS, Principal


def holder(subject: str, *scopes: str) -> Principal:
    """Somebody with these scopes."""
    return Principal(subject, "", set(scopes), set(), {}, b"", "")


def test_callers_who_may_do_the_same_share_a_text() -> None:
    """A text that is made anew for each request would let anybody keep the gateway busy."""

    async def texts() -> list[tuple[bytes, ...]]:
        found = ApiDocument(FastAPI(), InForce(), nullcontext)
        found.apply(GatewayConfig(), {})
        callers = [
            None,
            ANONYMOUS,
            holder("ann", "read"),
            holder("bob", "read"),
            holder("ann", "write"),
        ]
        first = [await found.text("", caller) for caller in (*callers, ANONYMOUS)]
        many = [await found.text(f"/{number}", ANONYMOUS) for number in range(100)]
        assert len(set(many)) == 100
        return first

    everything, anybody, ann, bob, writer, again = asyncio.run(texts())
    assert anybody is again
    assert ann is bob
    assert len({id(one) for one in (everything, anybody, ann, writer)}) == 4
