"""Keep the games that each user has: `uvicorn services.library:app --port 8003`."""

import sqlite3
from typing import Annotated, Literal

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "library",
    """
    CREATE TABLE IF NOT EXISTS entries (
        user TEXT NOT NULL, game INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (user, game)
    );
    """,
)
app = FastAPI(title="Library service")

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]
State = Literal["wanted", "owned", "playing", "finished"]


class Entry(BaseModel):
    """A game in a library."""

    game: int = Field(ge=1, description="Its id in the catalogue.")
    state: State = "owned"


class Change(BaseModel):
    """What changes of an entry."""

    state: State


@app.get("/")
def library(caller: Caller, state: State | None = None) -> list[Entry]:
    """List the caller's games, all or those in one state."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM entries WHERE user = ? AND (? IS NULL OR state = ?) ORDER BY game",
            (caller, state, state),
        ).fetchall()
    return [Entry(game=row["game"], state=row["state"]) for row in rows]


@app.post("/", status_code=201)
def add(caller: Caller, new: Entry) -> Entry:
    """Add a game to the caller's library."""
    with store.open() as database:
        try:
            database.execute("INSERT INTO entries VALUES (?, ?, ?)", (caller, new.game, new.state))
        except sqlite3.IntegrityError as error:
            raise HTTPException(409, "The library has this game already") from error
    return new


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM entries")
    return {"status": "healthy"}


@app.patch("/{game}")
def change(caller: Caller, game: int, wanted: Change) -> Entry:
    """Say what the caller does with a game."""
    with store.open() as database:
        changed = database.execute(
            "UPDATE entries SET state = ? WHERE user = ? AND game = ?",
            (wanted.state, caller, game),
        )
        if not changed.rowcount:
            raise HTTPException(404, "The library does not have this game")
    return Entry(game=game, state=wanted.state)


@app.delete("/{game}", status_code=204)
def remove(caller: Caller, game: int) -> None:
    """Remove a game from the caller's library."""
    with store.open() as database:
        gone = database.execute("DELETE FROM entries WHERE user = ? AND game = ?", (caller, game))
        if not gone.rowcount:
            raise HTTPException(404, "The library does not have this game")
