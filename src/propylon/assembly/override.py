"""What a team's tests put in the place of the real thing, and how they end it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Override"]

T = TypeVar("T")


class Override(Generic[T]):
    """What `override_principal` and `override_service` return: a `with` block that ends it, or nothing to care about."""

    def __init__(self, put: Callable[[T | None], None], before: T | None) -> None:
        """Put `before` back at the end."""
        self._put = put
        self._before = before

    def __enter__(self) -> None:
        """It holds already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back what held before."""
        self._put(self._before)
