"""A copy that its mirror's breaker would refuse is not even begun: it would cost as much as the request itself."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from propylon.proxy.mirror import Mirror, MirrorRules
from propylon.services.circuit import State


def test_an_open_breaker_spares_the_gateway_too() -> None:
    """It is counted, no exchange is made for it, and the client's answer is the service's."""
    counted: list[tuple[str, str, str]] = []
    shadow = SimpleNamespace(name="shadow", breaker=SimpleNamespace(state=State.OPEN))
    there: Any = SimpleNamespace(service=shadow, circuit=True)

    async def then(*_: object) -> object:
        return "the answer"

    def never(*_: object) -> Any:
        raise AssertionError("a copy was begun")

    mirror = Mirror(
        MirrorRules(share=1.0, max_body=1000, most=10),
        then,
        shadow,
        lambda _: there,
        never,
        never,
        lambda *told: counted.append(cast("tuple[str, str, str]", told)),
        never,
        lambda: 0.0,
        never,
    )
    exchange: Any = SimpleNamespace(body=None, attempts=1)
    request: Any = SimpleNamespace(handshake=None, length=0)
    route: Any = SimpleNamespace(name="route")
    assert asyncio.run(cast("Any", mirror(exchange, request, route))) == "the answer"
    assert counted == [("route", "shadow", "open-circuit")]
    assert mirror.room.taken == 0
