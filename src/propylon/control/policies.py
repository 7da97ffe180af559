"""Run a team's policies before the gateway forwards a route's request.

A policy is an ordinary function, `async def` or `def`: it returns nothing to let the request pass, and raises to refuse
it. Coroutine functions run in a task, because what they await (timeouts, HTTP clients, database drivers) needs one, and
an exchange has no task. Plain functions run in a thread, as FastAPI runs plain endpoints. Both see the ContextVars of
the exchange.

A policy guards a route, so every doubt refuses: a value that is returned, a status that is no refusal, a policy that
does not end in time. The operator finds the policy's name in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException

from propylon.control.errors import code_of
from propylon.errors import InternalError, Refused, UpstreamTimeout
from propylon.loop.tasks import in_task
from propylon.proxy.exchange import CURRENT, PolicyRun
from propylon.proxy.principal import Principal
from propylon.proxy.route import Before
from propylon.wire.grammar import FIELD_VALUE_TEXT, OWS, TOKEN_TEXT
from propylon.wire.message import Request

__all__ = [
    "Policy",
    "check_policy",
    "compose_policies",
    "name_of",
    "refusal_of",
    "runner_of",
]

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
# A refusal is a redirect or an error with a body. 1xx and 2xx refuse nothing, and 304 has no body (RFC 9110, 15.4.5).
_REFUSALS = frozenset(range(300, 600)) - {304}

# `async def` or `def`. What it returns must be nothing; anything else is refused when it is returned.
Policy = Callable[[Request, Principal], object]


def check_policy(policy: object) -> None:
    """Raise TypeError for what cannot be called as a policy: with a request and a principal."""
    if not callable(policy):
        msg = f"a policy is a function of a request and a principal, and {policy!r} is none"
        raise TypeError(msg)
    try:
        inspect.signature(policy).bind(None, None)
    except TypeError as error:
        msg = f"the policy {name_of(policy)} must take a request and a principal: {error}"
        raise TypeError(msg) from error
    except ValueError:  # a callable of C tells no signature
        return


def compose_policies(policies: Iterable[Policy], total: float) -> Before:
    """Return a policy that runs all of these, in order, for `total` seconds at most.

    If the client leaves, the running one is cancelled. It raises Refused for an HTTPException, UpstreamTimeout when the
    time is over, InternalError for what a policy must not do, and passes any other exception on.
    """
    ordered = [(policy, runner_of(policy), name_of(policy)) for policy in policies]

    async def run_all(request: Request, principal: Principal) -> None:
        async with asyncio.timeout(total) as timer:
            for policy, runner, name in ordered:
                await _noted(_run(partial(runner, policy, request, principal), name, timer), name)

    async def before(request: Request, principal: Principal) -> None:
        await in_task(run_all(request, principal))

    return before


# Calls a team's function with what it is to get.
Runner = Callable[..., Coroutine[Any, Any, object]]


def runner_of(policy: Callable[..., object]) -> Runner:
    """Return what runs a team's function: a coroutine function in the loop, a plain one in a thread."""
    call = type(policy).__call__  # an object whose __call__ is a coroutine function is one, too
    is_async = inspect.iscoroutinefunction(policy) or inspect.iscoroutinefunction(call)
    return _await if is_async else _run_in_thread


async def _await(policy: Callable[..., object], *given: object) -> object:
    returned = policy(*given)
    return await returned if inspect.isawaitable(returned) else returned


async def _run_in_thread(policy: Callable[..., object], *given: object) -> object:
    # Abandoned when the exchange ends: a thread cannot be cancelled, and nothing waits for it any more.
    returned = await anyio.to_thread.run_sync(policy, *given, abandon_on_cancel=True)
    return await returned if inspect.isawaitable(returned) else returned


async def _noted(running: Awaitable[None], name: str) -> None:
    """Wait for a policy, and note for a trace how long it took."""
    exchange = CURRENT.get(None)
    notes = None if exchange is None else exchange.notes
    if notes is None:
        await running
        return
    began, failure = time.perf_counter(), "CancelledError"
    try:
        await running
        failure = ""
    except Exception as error:
        failure = type(error).__name__
        raise
    finally:
        notes.policies += (PolicyRun(name, began, time.perf_counter(), failure),)


async def _run(run: Callable[[], Awaitable[object]], name: str, timer: asyncio.Timeout) -> None:
    """Run one policy. Its failures are named: the operator must find it among several."""
    try:
        returned = await run()
    except HTTPException as error:
        raise refusal_of(error, name) from error
    except asyncio.CancelledError as error:
        if timer.expired():
            msg = "A policy did not end in time"
            raise UpstreamTimeout(msg, details={"policy": name}, reason=name) from error
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the client has left
        raise _failed(name, "was cancelled by something that it awaited") from error
    except (Exception, GeneratorExit):
        raise  # the pipeline's business: its own errors refuse, a bug is a 500 with its traceback
    except BaseException as error:
        # An exception group or a library's own would pass the pipeline unhandled; SystemExit would end the process.
        raise _failed(name, f"raised {type(error).__name__}") from error
    if returned is not None:
        raise _failed(
            name, f"returned {returned!r:.40}; a policy raises to refuse, and returns nothing"
        )


def _failed(name: str, what: str) -> InternalError:
    return InternalError("A policy failed", reason=f"{name} {what}")


def name_of(policy: object) -> str:
    """Return what the log calls a team's function."""
    return getattr(policy, "__qualname__", None) or type(policy).__qualname__


def refusal_of(error: HTTPException, name: str) -> Refused | InternalError:
    """Translate the HTTPException that FastAPI users know."""
    if error.status_code not in _REFUSALS:
        return _failed(
            name, f"raised HTTPException with status {error.status_code}, which refuses nothing"
        )
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
