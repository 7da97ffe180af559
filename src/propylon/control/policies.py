"""Run a team's policies, which are ordinary coroutine functions, before a route's request goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException

from propylon.control.errors import code_of
from propylon.errors import InternalError, Refused
from propylon.loop.tasks import spawn
from propylon.proxy.principal import Principal
from propylon.wire.grammar import FIELD_VALUE_TEXT, OWS, TOKEN_TEXT
from propylon.wire.message import Request

__all__ = ["Policy", "composed"]

_OWS = OWS.decode("ascii")
# What the gateway itself says of its answer.
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "cache-control",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-error-source",
        "x-request-id",
    }
)

Policy = Callable[[Request, Principal], Awaitable[None]]


def composed(policies: Iterable[Policy]) -> Policy:
    """Return one policy that asks all of them, in order.

    They run in a task: what they await (timeouts, HTTP clients, databases) needs one, and an exchange
    is none. A client that leaves cancels it.
    """
    several = tuple(policies)

    async def ask_all(request: Request, principal: Principal) -> None:
        for policy in several:
            await policy(request, principal)

    async def before(request: Request, principal: Principal) -> None:
        task = spawn(ask_all(request, principal))
        try:
            await task
        except HTTPException as error:
            raise _refused(error) from error
        except asyncio.CancelledError as error:
            # Not the client's leaving, which arrives as ClientGone: something that the policy awaited.
            msg = "A policy was cancelled"
            raise InternalError(msg) from error
        except BaseException as error:
            # What is no Exception (a group of them, a library's own) would end nobody's exchange.
            if isinstance(error, Exception) or not task.done():
                raise
            msg = "A policy failed"
            raise InternalError(msg) from error

    return before


def _refused(error: HTTPException) -> Refused:
    """Translate what FastAPI's users raise."""
    # A value that a policy took from the request must not make another header.
    headers = tuple(
        (name.encode("ascii"), value.encode("latin-1"))
        for name, sent in (error.headers or {}).items()
        if TOKEN_TEXT.fullmatch(name)
        and FIELD_VALUE_TEXT.fullmatch(value := sent.strip(_OWS))
        and name.lower() not in _OURS
    )
    return Refused(
        error.status_code, code_of(error.status_code), str(error.detail), headers=headers
    )
