"""Keep the catalogue: `uvicorn services.products:app --port 8002`.

The gateway lets only administrators change it.
"""

import sqlite3
from decimal import Decimal
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel

from services.store import Store

__all__ = ["app"]

store = Store(
    "products",
    """
    CREATE TABLE IF NOT EXISTS products (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE,
        price TEXT NOT NULL, stock INTEGER NOT NULL
    );
    """,
)
app = FastAPI(title="Products service")


class NewProduct(BaseModel):
    """A product to keep."""

    name: str
    price: Decimal
    stock: int = 0


class Product(NewProduct):
    """A product of the catalogue."""

    id: int


@app.get("/products")
def products(
    name: str = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> list[Product]:
    """List the products by name."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM products WHERE instr(lower(name), lower(?)) ORDER BY name LIMIT ? OFFSET ?",
            (name, limit, offset),
        ).fetchall()
    return [_product(row) for row in rows]


@app.get("/products/{product}")
def product_of(product: int) -> Product:
    """Return one product."""
    with store.open() as database:
        row = database.execute("SELECT * FROM products WHERE id = ?", (product,)).fetchone()
    return _product(row)


@app.post("/products", status_code=201)
def add(new: NewProduct) -> Product:
    """Add a product."""
    return _write("INSERT INTO products (name, price, stock) VALUES (?, ?, ?) RETURNING *", new)


@app.put("/products/{product}")
def replace(product: int, new: NewProduct) -> Product:
    """Replace a product."""
    return _write(
        "UPDATE products SET name = ?, price = ?, stock = ? WHERE id = ? RETURNING *", new, product
    )


@app.delete("/products/{product}", status_code=204)
def remove(product: int) -> None:
    """Remove a product."""
    with store.open() as database:
        if not database.execute("DELETE FROM products WHERE id = ?", (product,)).rowcount:
            raise HTTPException(404, "No such product")


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM products")
    return {"status": "healthy"}


def _write(statement: str, new: NewProduct, *where: int) -> Product:
    with store.open() as database:
        try:
            row = database.execute(
                statement, (new.name, str(new.price), new.stock, *where)
            ).fetchone()
        except sqlite3.IntegrityError as error:
            raise HTTPException(409, "The catalogue has a product of this name") from error
    return _product(row)


def _product(row: sqlite3.Row | None) -> Product:
    if row is None:
        raise HTTPException(404, "No such product")
    return Product(id=row["id"], name=row["name"], price=row["price"], stock=row["stock"])
