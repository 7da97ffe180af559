"""The services of this directory, through the gateway."""

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.conftest import token

pytestmark = pytest.mark.usefixtures("services")

ANN, BOB = token(sub="ann"), token(sub="bob")


def test_contexts_are_kept(client: TestClient) -> None:
    """For each user their own, the latest first."""
    for activity in ("reading", "walking"):
        sent = {"activity": activity, "details": {"place": "park"}}
        assert client.post("/api/v1/context", json=sent, headers=ANN).status_code == 201
    found = client.get("/api/v1/context", headers=ANN).json()
    assert [context["activity"] for context in found] == ["walking", "reading"]
    assert found[0]["details"] == {"place": "park"}
    assert len(client.get("/api/v1/context?activity=reading", headers=ANN).json()) == 1
    path = f"/api/v1/context/{found[0]['id']}"
    assert client.get(path, headers=ANN).json() == found[0]
    assert client.get(path, headers=BOB).status_code == 404


def test_intents_are_learned(client: TestClient) -> None:
    """The service knows nothing but what it was taught."""
    question = {"text": "please switch on the lamp"}
    assert client.post("/api/v1/intent/analyze", json=question, headers=ANN).status_code == 409
    taught = {"light": "switch the lamp on", "music": "play a song by Bach"}
    for intent, text in taught.items():
        sent = {"intent": intent, "text": text}
        assert client.post("/api/v1/intent/examples", json=sent, headers=ANN).status_code == 201
    answer = client.post("/api/v1/intent/analyze", json=question, headers=ANN).json()
    assert answer["intent"] == "light"
    assert 0.5 < answer["confidence"] < 1
    assert len(client.get("/api/v1/intent/examples", headers=BOB).json()) == 2


def test_predictions_come_from_what_was_done(client: TestClient) -> None:
    """By the same user."""
    assert client.get("/api/v1/predict/next", headers=ANN).status_code == 409
    for action in ("wake", "coffee", "wake", "coffee", "wake", "tea", "wake"):
        client.post("/api/v1/predict/events", json={"action": action}, headers=ANN)
    answer = client.get("/api/v1/predict/next", headers=ANN).json()
    assert answer == {"action": "coffee", "probability": 0.667}
    assert client.get("/api/v1/predict/next", headers=BOB).status_code == 409


def test_messages_arrive_as_they_are_written(client: TestClient) -> None:
    """Over a WebSocket, from another one and from a POST; and they are kept."""
    path = "/api/v1/realtime/channels/news"
    with (
        client.websocket_connect(path, headers=ANN) as ann,
        client.websocket_connect(path, headers=BOB) as bob,
    ):
        ann.send_text("hello")
        for socket in (ann, bob):
            got = socket.receive_json()
            assert (got["user"], got["text"]) == ("ann", "hello")
        assert client.post(path, json={"text": "again"}, headers=BOB).status_code == 201
        assert ann.receive_json()["user"] == "bob"
        bob.receive_json()
        bob.send_text("")
        assert "error" in bob.receive_json()
    kept = client.get(path, headers=ANN).json()
    assert [message["text"] for message in kept] == ["hello", "again"]


def test_a_socket_needs_a_token(client: TestClient) -> None:
    """In the header, or where a page can put it: in the query, or as a subprotocol."""
    path = "/api/v1/realtime/channels/private"
    value = ANN["Authorization"].removeprefix("Bearer ")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass
    with client.websocket_connect(f"{path}?token={value}") as socket:
        socket.send_text("by the query")
        assert socket.receive_json()["user"] == "ann"
    with client.websocket_connect(path, subprotocols=[f"bearer.{value}", "chat"]) as socket:
        socket.send_text("by a subprotocol")
        assert socket.receive_json()["user"] == "ann"
