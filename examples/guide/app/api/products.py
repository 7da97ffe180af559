"""Serve the products: everybody may look at them, administrators change them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.dependencies import Admin, Id, Limit, Offset, Products, content
from app.schemas import NewProduct, Product
from propylon import public

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/products", tags=["products"])


@router.get("", response_model=list[Product], dependencies=[public])
async def list_products(
    products: Products,
    name: Annotated[str, Query(description="A part of the name.")] = "",
    limit: Limit = 20,
    offset: Offset = 0,
) -> Any:
    """List products by name."""
    wanted = {"name": name, "limit": limit, "offset": offset}
    return content(await products.get("/products", params=wanted))


@router.get("/{product}", response_model=Product, dependencies=[public])
async def get_product(products: Products, product: Id) -> Any:
    """Return one product."""
    return content(await products.get(f"/products/{product}"))


@router.post("", response_model=Product, status_code=201)
async def create_product(products: Products, new: NewProduct, _: Admin) -> Any:
    """Add a product."""
    return content(await products.post("/products", json=new))


@router.put("/{product}", response_model=Product)
async def update_product(products: Products, product: Id, new: NewProduct, _: Admin) -> Any:
    """Replace a product."""
    return content(await products.put(f"/products/{product}", json=new))


@router.delete("/{product}", status_code=204)
async def delete_product(products: Products, product: Id, _: Admin) -> None:
    """Delete a product."""
    content(await products.delete(f"/products/{product}"))
