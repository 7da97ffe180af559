"""Keep profiles and favourite tracks: `uvicorn services.user:app --port 8002`."""

import sqlite3
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "user",
    """
    CREATE TABLE IF NOT EXISTS profiles (user TEXT PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tracks (
        id INTEGER PRIMARY KEY, user TEXT NOT NULL, artist TEXT NOT NULL, title TEXT NOT NULL,
        UNIQUE (user, artist, title)
    );
    """,
)
app = FastAPI(title="User service")

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]


class Profile(BaseModel):
    """What a user tells of themselves."""

    name: str = Field(min_length=1, max_length=100)
    bio: str = Field(default="", max_length=1000)


class NewTrack(BaseModel):
    """A track to remember."""

    artist: str = Field(min_length=1, max_length=200)
    title: str = Field(min_length=1, max_length=200)


class Track(NewTrack):
    """A favourite track."""

    id: int


@app.get("/profile")
def profile(caller: Caller) -> Profile:
    """Return the caller's profile."""
    with store.open() as database:
        row = database.execute("SELECT * FROM profiles WHERE user = ?", (caller,)).fetchone()
    if row is None:
        raise HTTPException(404, "No profile yet")
    return Profile(name=row["name"], bio=row["bio"])


@app.put("/profile")
def write_profile(caller: Caller, new: Profile) -> Profile:
    """Write the caller's profile."""
    with store.open() as database:
        database.execute(
            "INSERT INTO profiles VALUES (?, ?, ?) ON CONFLICT (user)"
            " DO UPDATE SET name = excluded.name, bio = excluded.bio",
            (caller, new.name, new.bio),
        )
    return new


@app.delete("/profile", status_code=204)
def drop_profile(caller: Caller) -> None:
    """Delete the caller's profile."""
    with store.open() as database:
        database.execute("DELETE FROM profiles WHERE user = ?", (caller,))


@app.get("/tracks")
def tracks(caller: Caller, artist: Annotated[str | None, Query()] = None) -> list[Track]:
    """List the caller's favourite tracks, all or those of one artist."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM tracks WHERE user = ? AND (? IS NULL OR artist = ?) ORDER BY id",
            (caller, artist, artist),
        ).fetchall()
    return [_track(row) for row in rows]


@app.post("/tracks", status_code=201)
def add_track(caller: Caller, new: NewTrack) -> Track:
    """Add a favourite track."""
    with store.open() as database:
        try:
            row = database.execute(
                "INSERT INTO tracks (user, artist, title) VALUES (?, ?, ?) RETURNING *",
                (caller, new.artist, new.title),
            ).fetchone()
        except sqlite3.IntegrityError as error:
            raise HTTPException(409, "This track is a favourite already") from error
    return _track(row)


@app.delete("/tracks/{track}", status_code=204)
def remove_track(caller: Caller, track: int) -> None:
    """Remove a favourite track. A user cannot remove those of another one."""
    with store.open() as database:
        gone = database.execute("DELETE FROM tracks WHERE id = ? AND user = ?", (track, caller))
        if not gone.rowcount:
            raise HTTPException(404, "No such track")


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM profiles")
    return {"status": "healthy"}


def _track(row: sqlite3.Row) -> Track:
    return Track(id=row["id"], artist=row["artist"], title=row["title"])
