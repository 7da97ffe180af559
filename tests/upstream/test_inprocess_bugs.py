"""What no `except Exception` catches, from code of a team's own."""

import asyncio
from typing import Any

import pytest

from propylon.errors import InternalError
from tests.support.virtual import run
from tests.upstream.test_inprocess_ends import WHENS, Call, falling


class Odd(BaseException):
    """An error of some library that wants not to be caught."""


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize(
    "error",
    [BaseExceptionGroup("g", [asyncio.CancelledError(), KeyError("k")]), Odd(), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_an_app_ends_by(error: BaseException, when: str) -> None:
    """The caller that waits for the answer gets the error at once."""

    async def main() -> None:
        call = Call(falling(error, when))
        with pytest.raises(InternalError) as caught:
            answer: Any = await call.answered()
            await answer.pipe(call.sink)
        assert (call.seconds, caught.value.__cause__) == (1.0, error)
        await call.is_over()

    run(main())
