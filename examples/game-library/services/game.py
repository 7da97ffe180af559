"""Keep the catalogue of games: `uvicorn services.game:app --port 8002`.

The gateway lets only administrators reach what is below `/admin`.
"""

import sqlite3
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "game",
    """
    CREATE TABLE IF NOT EXISTS games (
        id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE COLLATE NOCASE, year INTEGER NOT NULL
    );
    """,
)
app = FastAPI(title="Game service")


class NewGame(BaseModel):
    """A game to add to the catalogue."""

    title: str = Field(min_length=1, max_length=200)
    year: int = Field(ge=1950, le=2100, description="The year of its release.")


class Game(NewGame):
    """A game of the catalogue."""

    id: int


@app.get("/")
def games(
    title: Annotated[str, Query(description="A part of the title.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> list[Game]:
    """List the games by title."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM games WHERE instr(lower(title), lower(?)) ORDER BY title LIMIT ? OFFSET ?",
            (title, limit, offset),
        ).fetchall()
    return [_game(row) for row in rows]


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM games")
    return {"status": "healthy"}


@app.get("/{game}")
def game_of(game: int) -> Game:
    """Return one game."""
    with store.open() as database:
        row = database.execute("SELECT * FROM games WHERE id = ?", (game,)).fetchone()
    if row is None:
        raise HTTPException(404, "No such game")
    return _game(row)


@app.post("/admin", status_code=201)
def add(new: NewGame) -> Game:
    """Add a game."""
    with store.open() as database:
        try:
            row = database.execute(
                "INSERT INTO games (title, year) VALUES (?, ?) RETURNING *", (new.title, new.year)
            ).fetchone()
        except sqlite3.IntegrityError as error:
            raise HTTPException(409, "The catalogue has this game already") from error
    return _game(row)


@app.delete("/admin/{game}", status_code=204)
def remove(game: int) -> None:
    """Remove a game."""
    with store.open() as database:
        if not database.execute("DELETE FROM games WHERE id = ?", (game,)).rowcount:
            raise HTTPException(404, "No such game")


def _game(row: sqlite3.Row) -> Game:
    return Game(id=row["id"], title=row["title"], year=row["year"])
