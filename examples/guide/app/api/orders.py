"""Serve the orders: everybody sees and changes their own."""

from typing import Any

from fastapi import APIRouter

from app.dependencies import Id, Limit, Offset, Orders, content
from app.schemas import NewOrder, Order
from propylon import current_principal

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], dependencies=[current_principal])


@router.get("", response_model=list[Order])
async def list_orders(orders: Orders, limit: Limit = 20, offset: Offset = 0) -> Any:
    """List the caller's orders, the latest first."""
    return content(await orders.get("/orders", params={"limit": limit, "offset": offset}))


@router.get("/{order}", response_model=Order)
async def get_order(orders: Orders, order: Id) -> Any:
    """Return one order of the caller."""
    return content(await orders.get(f"/orders/{order}"))


@router.post("", response_model=Order, status_code=201)
async def create_order(orders: Orders, new: NewOrder) -> Any:
    """Order something."""
    return content(await orders.post("/orders", json=new))


@router.put("/{order}", response_model=Order)
async def update_order(orders: Orders, order: Id, new: NewOrder) -> Any:
    """Change an order of the caller."""
    return content(await orders.put(f"/orders/{order}", json=new))


@router.delete("/{order}", status_code=204)
async def delete_order(orders: Orders, order: Id) -> None:
    """Cancel an order of the caller."""
    content(await orders.delete(f"/orders/{order}"))
