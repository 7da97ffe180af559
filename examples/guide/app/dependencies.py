"""Inject services and callers into endpoints."""

from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException, Path, Query
from pydantic import TypeAdapter

from propylon import Principal, Service, ServiceResponse, current_principal, require_roles, service

__all__ = [
    "Admin",
    "Caller",
    "Id",
    "Limit",
    "Offset",
    "Orders",
    "Products",
    "Users",
    "content",
    "part",
]

T = TypeVar("T")

Users = Annotated[Service, service("users")]
Products = Annotated[Service, service("products")]
Orders = Annotated[Service, service("orders")]
Caller = Annotated[Principal, current_principal]
Admin = Annotated[Principal, require_roles("admin")]
Id = Annotated[int, Path(ge=1, description="The number of the resource.")]
Limit = Annotated[int, Query(ge=1, le=100, description="How many at the most.")]
Offset = Annotated[int, Query(ge=0, description="How many to leave out.")]


def content(answer: ServiceResponse) -> Any:
    """Return the JSON of an answer.

    What the client has asked wrongly stays the client's error (404, 409 ...); an error of the service becomes 502.
    """
    if 400 <= answer.status_code < 500:
        raise HTTPException(answer.status_code, answer.json().get("detail"))
    answer.raise_for_status()
    return answer.json() if answer.content else None


async def part(kind: type[T], call: Awaitable[ServiceResponse]) -> T:
    """Return what a call answers as this model: an answer that does not fit is a part that failed."""
    answer = await call
    return TypeAdapter(kind).validate_json(answer.raise_for_status().content)
