"""Serve the first page, which is made of three services."""

from typing import Any

from fastapi import APIRouter, Response

from app.dependencies import Caller, Orders, Products, Users, part
from app.schemas import Account, Order, Overview, Product
from propylon import gather_parts

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["overview"])


@router.get("/overview", response_model=Overview)
async def overview(
    response: Response, users: Users, products: Products, orders: Orders, _: Caller
) -> Any:
    """Ask the three services at the same time. Where one fails, the others' parts are still there."""
    response.headers["Cache-Control"] = "private, max-age=10"
    return await gather_parts(
        user=part(Account, users.get("/me")),
        products=part(list[Product], products.get("/products", params={"limit": 5})),
        orders=part(list[Order], orders.get("/orders", params={"limit": 5})),
    )
