"""Gather the answers of several services into one, also where some of them fail.

A part that fails becomes an error object in its place, and the answer says `partial: true`. What fails is the service: an
error status, a broken or late answer, an open breaker, a body that is not what was expected. A mistake of the endpoint's own code
is none of these. It ends the request with 500 and cancels the other parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.exceptions import HTTPException

from propylon.control.called import ServiceResponse
from propylon.control.errors import code_of
from propylon.control.schemas import ErrorBody
from propylon.control.service import ANSWER
from propylon.errors import GatewayError, UpstreamError
from propylon.loop.tasks import spawn

__all__ = ["PartError", "Parts", "gather_parts"]

_OK = 200
_STATUSES = frozenset({_OK, 207})
_UNFIT = "The answer of a service is not what the endpoint expects"
_LATE = "The part was not there in time"
_EXAMPLE: dict[str, JsonValue] = {"code": "UPSTREAM_TIMEOUT", "message": _LATE, "details": {}}


class PartError(BaseModel):
    """Stands in the place of a part that failed. `orders: list[Order] | PartError` types it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"error": _EXAMPLE}})

    error: ErrorBody = Field(description="What went wrong, as in the error envelope.")


class Parts(dict[str, Any]):
    """The parts by name, with `partial`: a dict, so that FastAPI types it by the endpoint's model."""

    @property
    def partial(self) -> bool:
        """Whether a part failed."""
        return bool(self["partial"])


async def gather_parts(*, status: int = 200, **parts: Awaitable[object]) -> Parts:
    """Await all parts at the same time; return them by name, and `partial`: whether one of them failed.

    A part is what an awaitable returns: of a `ServiceResponse` its JSON, once its status is a 2xx. A part that failed is
    `{"error": {"code", "message", "details"}}`. `status=207` answers with 207 where a part failed; the default is 200.

    Raises UpstreamError (502) if all parts failed, and whatever an awaitable raises that is no failure of a service.
    """
    if status not in _STATUSES:
        msg = f"status={status!r}: an answer with a part that failed is 200 or 207"
        raise ValueError(msg)
    if not parts or "partial" in parts:
        msg = 'gather_parts takes one or more parts by name, and none of them is named "partial"'
        raise TypeError(msg)
    tasks = {name: spawn(_part(awaitable)) for name, awaitable in parts.items()}
    try:
        found = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    finally:
        for task in tasks.values():
            task.cancel()
    failed = {name: part for name, part in found.items() if isinstance(part, _Failed)}
    if len(failed) == len(parts):
        details = {"parts": {name: part.described for name, part in failed.items()}}
        msg = "No part of the answer could be had"
        raise UpstreamError(msg, details=details)
    if failed and status != _OK and (answer := ANSWER.get()) is not None:
        answer.status_code = status
    told = {
        name: {"error": part.described} if isinstance(part, _Failed) else part
        for name, part in found.items()
    }
    return Parts(told, partial=bool(failed))


class _Failed:
    """A part that failed: what the client is told."""

    def __init__(self, code: str, message: str, details: Mapping[str, object]) -> None:
        self.described = {"code": code, "message": message, "details": dict(details)}


async def _part(awaitable: Awaitable[object]) -> object:
    try:
        value = await awaitable
        return _content(value) if isinstance(value, ServiceResponse) else value
    except GatewayError as error:
        return _Failed(error.code, error.message, error.details)
    except HTTPException as error:
        return _Failed(code_of(error.status_code), str(error.detail), {})
    except ValidationError:
        return _Failed(UpstreamError.code, _UNFIT, {})
    except TimeoutError:
        return _Failed("UPSTREAM_TIMEOUT", _LATE, {})


def _content(response: ServiceResponse) -> object:
    """Return the JSON of an answer; None where it has no body (204)."""
    response.raise_for_status()
    return response.json() if response.content else None
