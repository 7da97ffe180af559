"""Tell what a user will do next, from what the user did before: `uvicorn services.prediction:app --port 8003`."""

from collections import Counter
from itertools import pairwise
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from services.store import Store

__all__ = ["app"]

store = Store(
    "prediction",
    """
    CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, user TEXT NOT NULL, action TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS by_user ON events (user, id);
    """,
)
app = FastAPI(title="Prediction service")

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]


class Event(BaseModel):
    """Something that a user has done."""

    action: str = Field(min_length=1, max_length=100)


class Prediction(BaseModel):
    """What a user will do next, and in what share of the cases it was so before."""

    action: str
    probability: float


@app.post("/events", status_code=201)
def note(caller: Caller, event: Event) -> Event:
    """Note what the caller has done."""
    with store.open() as database:
        database.execute("INSERT INTO events (user, action) VALUES (?, ?)", (caller, event.action))
    return event


@app.get("/events")
def events(caller: Caller) -> list[Event]:
    """List what the caller has done, in order."""
    with store.open() as database:
        rows = database.execute(
            "SELECT action FROM events WHERE user = ? ORDER BY id", (caller,)
        ).fetchall()
    return [Event(action=row["action"]) for row in rows]


@app.get("/next")
def following(caller: Caller) -> Prediction:
    """Tell what the caller will do: what most often came after what the caller did last."""
    done = [event.action for event in events(caller)]
    after = Counter(later for earlier, later in pairwise(done) if earlier == done[-1])
    if not after:
        raise HTTPException(409, "Too little is known yet: POST /events")
    action, times = after.most_common(1)[0]
    return Prediction(action=action, probability=round(times / after.total(), 3))


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM events")
    return {"status": "healthy"}
