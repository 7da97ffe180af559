"""Run a team's functions that say what a request costs, before it is counted, and what its answer has cost.

A price decides about a request, so every doubt refuses: a value that is no number, a function that does not end in time.
A charge comes when the client has its answer already: one that fails is logged with its name, and nothing is spent.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.exceptions import HTTPException

from propylon.control.policies import name_of, refusal_of, runner_of
from propylon.errors import InternalError, UpstreamTimeout
from propylon.loop.tasks import in_task, spawn
from propylon.proxy.exchange import Exchange
from propylon.proxy.limit.stage import Charge, Price
from propylon.proxy.principal import Principal
from propylon.wire.headers import fields
from propylon.wire.message import Request

__all__ = ["Answer", "Cost", "compose_charge", "compose_price"]

log = logging.getLogger(__name__)

Cost = TypeVar("Cost", bound=Callable[..., object])
"""A team's function: returns units."""
# Seconds. A price keeps the client waiting, and is mostly made of the request alone; a charge may ask a service.
_PRICE_TIME = 5.0
_CHARGE_TIME = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the service that was sent to the client, for functions that say what it has cost.

    `headers` are those of the service, names in lower case. `bytes_out` are the bytes of its body that were sent;
    `complete` is False for an answer that broke off.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    bytes_out: int
    complete: bool

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None; the name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)


def compose_price(function: Callable[..., object]) -> Price:
    """Return what asks a function for the price of a request. Raises TypeError for what cannot be called so."""
    _check(function, 2)
    run, name = runner_of(function), name_of(function)

    async def ask(request: Request, principal: Principal) -> int:
        try:
            async with asyncio.timeout(_PRICE_TIME):
                units = await run(function, request, principal)
        except HTTPException as error:
            raise refusal_of(error, name) from error
        except TimeoutError as error:
            msg = "The cost of the request was not known in time"
            raise UpstreamTimeout(msg, details={"cost": name}, reason=name) from error
        if type(units) is not int or units < 0:
            msg = "The cost of the request is not known"
            raise InternalError(msg, reason=f"{name} returned {units!r:.40}; units are 0 or more")
        return units

    async def price(request: Request, principal: Principal) -> int:
        return await in_task(ask(request, principal))

    return price


def compose_charge(function: Callable[..., object]) -> Charge:
    """Return what asks a function what an answer has cost. Raises TypeError for what cannot be called so."""
    _check(function, 3)
    run, name = runner_of(function), name_of(function)

    async def ask(exchange: Exchange, pay: Callable[[int], None]) -> None:
        try:
            async with asyncio.timeout(_CHARGE_TIME):
                units = await run(function, exchange.request, exchange.principal, answer(exchange))
        except Exception:  # the client has its answer, so the team's log is the only place left
            log.exception("%s failed, so nothing is charged for an answer", name)
            return
        if type(units) is int:
            pay(units)
        else:
            log.error("%s returned %.40r, so nothing is charged: units are a number", name, units)

    def charge(exchange: Exchange, pay: Callable[[int], None]) -> None:
        spawn(ask(exchange, pay))

    return charge


def answer(exchange: Exchange) -> Answer:
    """Return the answer of an exchange that has ended."""
    block = b"" if exchange.head is None else exchange.head.block
    return Answer(
        exchange.status,
        tuple(
            (key.lower().decode("ascii"), value.decode("latin-1")) for key, value in fields(block)
        ),
        exchange.downstream.bytes_out,
        complete=exchange.error is None,
    )


def _check(function: object, arguments: int) -> None:
    if not callable(function):
        msg = f"what says a cost is a function, and {function!r} is none"
        raise TypeError(msg)
    try:
        inspect.signature(function).bind(*(None for _ in range(arguments)))
    except TypeError as error:
        given = ("a request, a principal", "an answer")[: arguments - 1]
        msg = f"{name_of(function)} must take {' and '.join(given)}: {error}"
        raise TypeError(msg) from error
    except ValueError:  # a callable of C tells no signature
        return
