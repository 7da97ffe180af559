"""Run a team's policies before the gateway forwards a route's request.

A policy is an ordinary coroutine function: it returns to let the request pass, and raises to refuse it. It runs in a
task, because what it awaits (timeouts, HTTP clients, database drivers) needs one, and an exchange has no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException

from propylon.control.errors import code_of
from propylon.errors import InternalError, Refused
from propylon.loop.tasks import in_task
from propylon.proxy.principal import Principal
from propylon.wire.grammar import FIELD_VALUE_TEXT, OWS, TOKEN_TEXT
from propylon.wire.message import Request

__all__ = ["Policy", "compose_policies"]

_OWS = OWS.decode("ascii")
# The headers of a refusal that the gateway sets itself.
_RESERVED = frozenset(
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


def compose_policies(policies: Iterable[Policy]) -> Policy:
    """Return a policy that runs all of these, in order. If the client leaves, the running one is cancelled.

    It raises Refused for an HTTPException, InternalError for a cancellation or a failure that is no Exception, and
    passes any other exception on.
    """
    ordered = tuple(policies)

    async def run_all(request: Request, principal: Principal) -> None:
        for policy in ordered:
            await policy(request, principal)

    async def before(request: Request, principal: Principal) -> None:
        try:
            await in_task(run_all(request, principal))
        except HTTPException as error:
            raise _refused(error) from error
        except asyncio.CancelledError as error:
            # A client that leaves arrives here as ClientGone. So something that the policy awaited was cancelled.
            msg = "A policy was cancelled"
            raise InternalError(msg) from error
        except (Exception, GeneratorExit):
            raise  # the pipeline's business; and the end of an exchange that is given up
        except BaseException as error:
            # A BaseException (an exception group, a library's own) would pass the pipeline unhandled.
            msg = "A policy failed"
            raise InternalError(msg) from error

    return before


def _refused(error: HTTPException) -> Refused:
    """Translate the HTTPException that FastAPI users know."""
    # RFC 9110, 5.1 and 5.5. A policy may copy a value from the request: it must not start another header line.
    headers = tuple(
        (name.encode("ascii"), value.encode("latin-1"))
        for name, sent in (error.headers or {}).items()
        if TOKEN_TEXT.fullmatch(name)
        and FIELD_VALUE_TEXT.fullmatch(value := sent.strip(_OWS))
        and name.lower() not in _RESERVED
    )
    return Refused(
        error.status_code, code_of(error.status_code), str(error.detail), headers=headers
    )
