"""Keep what each user has ordered: `uvicorn services.orders:app --port 8003`."""

import json
import sqlite3
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query
from pydantic import BaseModel

from services.store import Store

__all__ = ["app"]

store = Store(
    "orders",
    """
    CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user TEXT NOT NULL, lines TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS by_user ON orders (user, id);
    """,
)
app = FastAPI(title="Orders service")

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]


class Line(BaseModel):
    """A product in an order."""

    product: int
    quantity: int


class NewOrder(BaseModel):
    """What a user orders."""

    lines: list[Line]

    @property
    def text(self) -> str:
        """The lines, as they stand in the database."""
        return json.dumps([line.model_dump() for line in self.lines])


class Order(NewOrder):
    """An order."""

    id: int


@app.get("/orders")
def orders(
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> list[Order]:
    """List the caller's orders, the latest first."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM orders WHERE user = ? ORDER BY id DESC LIMIT ? OFFSET ?",
            (caller, limit, offset),
        ).fetchall()
    return [_order(row) for row in rows]


@app.get("/orders/{order}")
def order_of(caller: Caller, order: int) -> Order:
    """Return one order of the caller."""
    with store.open() as database:
        row = database.execute(
            "SELECT * FROM orders WHERE id = ? AND user = ?", (order, caller)
        ).fetchone()
    return _order(row)


@app.post("/orders", status_code=201)
def add(caller: Caller, new: NewOrder) -> Order:
    """Add an order."""
    with store.open() as database:
        row = database.execute(
            "INSERT INTO orders (user, lines) VALUES (?, ?) RETURNING *", (caller, new.text)
        ).fetchone()
    return _order(row)


@app.put("/orders/{order}")
def replace(caller: Caller, order: int, new: NewOrder) -> Order:
    """Replace the lines of an order."""
    with store.open() as database:
        row = database.execute(
            "UPDATE orders SET lines = ? WHERE id = ? AND user = ? RETURNING *",
            (new.text, order, caller),
        ).fetchone()
    return _order(row)


@app.delete("/orders/{order}", status_code=204)
def remove(caller: Caller, order: int) -> None:
    """Remove an order."""
    with store.open() as database:
        gone = database.execute("DELETE FROM orders WHERE id = ? AND user = ?", (order, caller))
        if not gone.rowcount:
            raise HTTPException(404, "No such order")


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM orders")
    return {"status": "healthy"}


def _order(row: sqlite3.Row | None) -> Order:
    if row is None:
        raise HTTPException(404, "No such order")
    return Order(id=row["id"], lines=json.loads(row["lines"]))
