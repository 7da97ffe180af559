"""Keep what a user was doing: `uvicorn services.context:app --port 8001`."""

import json
import sqlite3
import time
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "context",
    """
    CREATE TABLE IF NOT EXISTS contexts (
        id INTEGER PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL,
        activity TEXT NOT NULL, details TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_user ON contexts (user, at);
    """,
)
app = FastAPI(title="Context service")

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]


class NewContext(BaseModel):
    """What a user is doing."""

    activity: str = Field(min_length=1, max_length=100)
    details: dict[str, Any] = {}


class Context(NewContext):
    """What a user was doing, and when (Unix time)."""

    id: int
    at: float


@app.post("/", status_code=201)
def add(caller: Caller, new: NewContext) -> Context:
    """Note what the caller is doing."""
    with store.open() as database:
        row = database.execute(
            "INSERT INTO contexts (user, at, activity, details) VALUES (?, ?, ?, ?) RETURNING *",
            (caller, time.time(), new.activity, json.dumps(new.details)),
        ).fetchone()
    return _context(row)


@app.get("/")
def contexts(
    caller: Caller,
    activity: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[Context]:
    """List what the caller was doing, the latest first."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM contexts WHERE user = ? AND (? IS NULL OR activity = ?)"
            " ORDER BY id DESC LIMIT ?",
            (caller, activity, activity, limit),
        ).fetchall()
    return [_context(row) for row in rows]


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM contexts")
    return {"status": "healthy"}


@app.get("/{context}")
def context_of(caller: Caller, context: int) -> Context:
    """Return one context of the caller."""
    with store.open() as database:
        row = database.execute(
            "SELECT * FROM contexts WHERE id = ? AND user = ?", (context, caller)
        ).fetchone()
    if row is None:
        raise HTTPException(404, "No such context")
    return _context(row)


def _context(row: sqlite3.Row) -> Context:
    return Context(
        id=row["id"],
        at=row["at"],
        activity=row["activity"],
        details=json.loads(row["details"]),
    )
