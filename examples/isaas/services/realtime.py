"""Carry messages between users as they are written, and keep them: `uvicorn services.realtime:app --port 8004`.

A WebSocket on `/channels/NAME` gets every message of the channel, and what it sends is a message. `POST` sends one, too.
"""

import time
from collections import defaultdict
from typing import Annotated

from fastapi import FastAPI, Header, Query, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, ValidationError

from services.store import Store

__all__ = ["app"]

store = Store(
    "realtime",
    """
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY, channel TEXT NOT NULL, user TEXT NOT NULL, at REAL NOT NULL, text TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_channel ON messages (channel, id);
    """,
)
app = FastAPI(title="Realtime service")
listeners: dict[str, set[WebSocket]] = defaultdict(set)

Caller = Annotated[str, Header(alias="X-User-Id", description="Set by the gateway.")]


class Text(BaseModel):
    """What a user says."""

    text: str = Field(min_length=1, max_length=4000)


class Message(Text):
    """What a user has said, and when (Unix time)."""

    id: int
    user: str
    at: float


@app.get("/channels/{channel}")
def messages(channel: str, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Message]:
    """List the latest messages of a channel, in order."""
    with store.open() as database:
        rows = database.execute(
            "SELECT * FROM messages WHERE channel = ? ORDER BY id DESC LIMIT ?", (channel, limit)
        ).fetchall()
    found = [
        Message(id=row["id"], user=row["user"], at=row["at"], text=row["text"]) for row in rows
    ]
    return found[::-1]


@app.post("/channels/{channel}", status_code=201)
async def send(channel: str, caller: Caller, new: Text) -> Message:
    """Send a message to everybody who listens."""
    return await _publish(channel, caller, new.text)


@app.websocket("/channels/{channel}")
async def listen(socket: WebSocket, channel: str) -> None:
    """Send the client what others say, and others what the client says."""
    await socket.accept()
    listeners[channel].add(socket)
    user = socket.headers.get("x-user-id", "")
    try:
        async for text in socket.iter_text():
            try:
                said = Text(text=text)
            except ValidationError:
                await socket.send_json({"error": "a message has 1 to 4000 characters"})
                continue
            await _publish(channel, user, said.text)
    finally:
        listeners[channel].discard(socket)


@app.get("/health")
def health() -> dict[str, str]:
    """Tell whether the database can be read."""
    with store.open() as database:
        database.execute("SELECT count(*) FROM messages")
    return {"status": "healthy"}


async def _publish(channel: str, user: str, text: str) -> Message:
    with store.open() as database:
        row = database.execute(
            "INSERT INTO messages (channel, user, at, text) VALUES (?, ?, ?, ?) RETURNING id, at",
            (channel, user, time.time(), text),
        ).fetchone()
    message = Message(id=row["id"], user=user, at=row["at"], text=text)
    for listener in [*listeners[channel]]:
        try:
            await listener.send_text(message.model_dump_json())
        except (WebSocketDisconnect, RuntimeError):  # it has left, and its own task will notice
            listeners[channel].discard(listener)
    return message
