"""What a team's functions say of costs: asked once, in time, and believed only if it is a number of units."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import HTTPException

from propylon.control import costs
from propylon.control.costs import Answer, compose_charge, compose_price
from propylon.errors import GatewayError, InternalError, Refused, UpstreamTimeout
from propylon.proxy.principal import ANONYMOUS
from propylon.wire.message import NO_BODY, Response
from tests.proxy.doubles import request
from tests.proxy.limited import exchange


def priced(function: Callable[..., object]) -> int:
    """What a function says that a request costs."""

    async def ask() -> int:
        return await compose_price(function)(request(), ANONYMOUS)

    return asyncio.run(ask())


async def three(*_: object) -> int:
    """A price of three units."""
    return 3


def plain(*_: object) -> int:
    """The same as a plain function."""
    return 3


@pytest.mark.parametrize("function", [three, plain])
def test_price(function: Callable[..., object]) -> None:
    """`async def` or `def`, a number of units is the price."""
    assert priced(function) == 3


@pytest.mark.parametrize("units", [-1, 1.5, True, None, "3"])
def test_price_that_is_none(units: object) -> None:
    """Anything but a whole number of 0 or more refuses the request, and the log has the function's name."""

    async def wrong(*_: object) -> object:
        return units

    with pytest.raises(InternalError) as caught:
        priced(wrong)
    assert "wrong returned" in caught.value.reason


def test_price_that_refuses() -> None:
    """A price may refuse as a policy does."""

    async def refusing(*_: object) -> int:
        raise HTTPException(402, "Pay first")

    with pytest.raises(Refused) as caught:
        priced(refusing)
    assert (caught.value.status, caught.value.message) == (402, "Pay first")


def test_price_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that does not come in time refuses the request."""
    monkeypatch.setattr(costs, "_PRICE_TIME", 0.01)

    async def hanging(*_: object) -> int:
        await asyncio.sleep(600)
        return 1

    with pytest.raises(UpstreamTimeout):
        priced(hanging)


def charged(function: Callable[..., object], error: GatewayError | None = None) -> list[int]:
    """What a function charges for an answer."""
    paid: list[int] = []

    async def end() -> None:
        asked = exchange()
        asked.request, asked.status, asked.error = request(), 200, error
        asked.head = Response(200, b" 200 OK", b"\r\nX-Tokens: 7", NO_BODY, keep_alive=True)
        compose_charge(function)(asked, paid.append)
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(end())
    return paid


def test_charge() -> None:
    """The function gets the answer, and what it says is charged once; it may give back."""
    seen: list[Answer] = []

    async def tokens(_request: object, _principal: object, answer: Answer) -> int:
        seen.append(answer)
        return int(answer.header("x-TOKENS") or 0)

    assert charged(tokens) == [7]
    assert charged(tokens, InternalError("broken off")) == [7]
    assert [answer.complete for answer in seen] == [True, False]
    assert (seen[0].status, seen[0].headers, seen[0].header("a")) == (
        200,
        (("x-tokens", "7"),),
        None,
    )


@pytest.mark.parametrize("result", [None, "7", ZeroDivisionError("at work")])
def test_charge_that_fails(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A charge that fails costs nothing, and the log says which function it was."""

    async def failing(*_: object) -> object:
        if isinstance(result, Exception):
            raise result
        return result

    assert charged(failing) == []
    assert "failing" in caplog.text


@pytest.mark.parametrize("compose", [compose_price, compose_charge])
def test_what_is_no_cost(compose: Callable[..., object]) -> None:
    """What cannot be called with a request is refused where it is registered."""
    for wrong in (5, lambda: 1):
        with pytest.raises(TypeError):
            compose(wrong)
