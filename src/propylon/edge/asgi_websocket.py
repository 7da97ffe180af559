"""The portable edge's WebSockets: ASGI messages on the client's side, frames on the upstream's.

    server ── receive ──► SocketTurn ──► Bridge ── frames ──► upstream
           ◄── send ───── _queue  ◄────────┘  ◄── frames ────

Here the server has the client's frames: it answers pings, joins fragments and decompresses. The gateway gets whole messages.
It makes frames of them for the upstream with the sans-I/O core of `websockets`, over a connection that was opened and judged
as on the fast edge. So pings, fragments and extensions are those of each side; messages and close codes pass.
"""

from __future__ import annotations

import asyncio
import base64
from typing import cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from propylon.edge.asgi import AsgiTurn, Message, Receive, Scope, Send, serve_turn
from propylon.edge.asgi_server import restore_peer
from propylon.edge.body import Body
from propylon.edge.splice import ABNORMAL, part
from propylon.edge.state import EdgeState
from propylon.edge.websocket import agreed, inspector
from propylon.loop.signal import Signal
from propylon.proxy.exchange import Exchange
from propylon.upstream.handshakes import Switched
from propylon.upstream.ports import Answer
from propylon.wire.frames import NO_CODE
from propylon.wire.headers import fields, values
from propylon.wire.message import NO_BODY, Request

__all__ = ["serve_socket"]

# Bytes of one message, as uvicorn's `--ws-max-size`: the gateway holds a message while it is passed on.
_MAX_MESSAGE = 16 * 1024 * 1024
# Seconds in which the upstream has to answer a close frame.
_ANSWER_TIME = 2.0
_SCHEMES = {"ws": "http", "wss": "https"}
# Of a handshake, what is for one hop. The service is offered no extension: the server decompresses.
_HANDSHAKE = frozenset(
    {
        b"upgrade",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
    }
)
# What the server says itself in its 101. A subprotocol is told by the message.
_SERVERS_OWN = frozenset(
    {b"sec-websocket-accept", b"sec-websocket-protocol", b"sec-websocket-extensions"}
)
# RFC 6455, 7.4.1: these stand for what happened, and are never sent.
_NEVER_SENT = frozenset({NO_CODE, ABNORMAL, 1015})


async def serve_socket(edge: EdgeState, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI WebSocket. Raises AnswerCut."""
    await receive()  # websocket.connect
    restore_peer(scope, receive)
    request_scope = _as_request(edge, scope)
    # Servers log the scope's query: uvicorn does so for each WebSocket. A token may stand in it.
    scope["query_string"] = b""
    can_refuse = "websocket.http.response" in (scope.get("extensions") or {})
    turn = SocketTurn(edge, request_scope, receive, can_refuse=can_refuse)
    await serve_turn(edge, request_scope, turn, send)


def _as_request(edge: EdgeState, scope: Scope) -> Scope:
    """Return the scope of the GET that the handshake is, as over HTTP/1.1."""
    # The client's side of the handshake is the server's. The upstream's is another one, and HTTP/2 has none (RFC 8441).
    headers = [pair for pair in scope["headers"] if pair[0] not in _HANDSHAKE]
    key = base64.b64encode(edge.chance(128).to_bytes(16, "big"))
    headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    headers += [(b"sec-websocket-key", key), (b"sec-websocket-version", b"13")]
    scheme = scope.get("scheme", "ws")
    return {
        **scope,
        "method": "GET",
        "http_version": "1.1",
        "scheme": _SCHEMES.get(scheme, scheme),
        "headers": headers,
    }


class SocketTurn(AsgiTurn):
    """One handshake behind an ASGI server, and the socket that comes of it."""

    __slots__ = ("_bridge", "_can_refuse")

    def __init__(
        self, edge: EdgeState, scope: Scope, receive: Receive, *, can_refuse: bool
    ) -> None:
        """`can_refuse`: the server can answer a handshake with any status (`websocket.http.response`)."""
        super().__init__(edge, scope, receive, http1=True)
        self._can_refuse = can_refuse
        self._bridge: Bridge | None = None  # once the socket is open

    def expect(self, request: Request) -> None:
        """Leave the handshake as it is: it has no body, and its offer may be taken up."""

    async def upgrade(self, exchange: Exchange, answer: Answer, block: bytes) -> None:
        """Accept the socket, and wait for its end."""
        bridge = Bridge(self, self._edge, exchange, cast("Switched", answer))
        self.started = self.complete = True
        self._bridge = bridge
        self._enqueue(_accept(exchange, block))
        self.body = volume = Body(NO_BODY, self, None)
        volume.complete = True  # it only counts: no time runs for it
        socket = self._edge.sockets.open(bridge, exchange)
        self._start_receiving()
        try:
            exchange.close_code = await bridge.ended
        finally:
            self._edge.sockets.end(socket)
            volume.received, self.bytes_out = bridge.received, bridge.sent
            self._bridge = None

    def expire(self) -> None:
        """Act on the deadline of the handshake; an open socket has none here.

        The server tells how the client has closed, and may do so after it has closed the connection. An exchange that
        ended at the sight of the closed connection would keep that from the upstream.
        """
        if self._bridge is None:
            super().expire()

    def say(self, message: Message, size: int = 0) -> None:
        """Queue a message of the socket with so many bytes, and have the upstream wait if too much is queued."""
        self._queued_bytes += size
        message["size"] = size
        self._enqueue(message)
        if self.overfull and self._bridge is not None:
            self._bridge.pause_upstream()

    async def _send_all(self, send: Send) -> None:
        queue = self._queue
        while queue:
            message = queue.popleft()
            if message["type"].startswith("http.response."):
                await self._refuse(message, send)
                continue
            size = message.pop("size", 0)
            await send(message)
            self._queued_bytes -= size
            if not self._queued_bytes and self._bridge is not None:
                self._bridge.resume_upstream()

    async def _refuse(self, message: Message, send: Send) -> None:
        """Send a part of the answer that refuses the handshake; where the server has no message for it, it is a 403."""
        if self._can_refuse:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": int(CloseCode.POLICY_VIOLATION)})
        self._queued_bytes -= len(message.get("body", b"")) if self._queued_bytes else 0
        self._resume_flow_if_drained()

    async def _receive_body(self) -> None:
        """Pass the client's messages on, until it leaves."""
        while not self.over:
            if self._reading_resumed is not None:
                await self._reading_resumed
            message = await self._receive()
            bridge = self._bridge
            if message["type"] == "websocket.receive" and bridge is not None:
                bridge.from_client(message)
            elif message["type"] == "websocket.disconnect":
                if bridge is None:
                    self._client_left()
                else:
                    bridge.client_left(message.get("code") or NO_CODE, message.get("reason") or "")
                return


def _accept(exchange: Exchange, block: bytes) -> Message:
    handshake, _ = agreed(exchange)
    chosen = values(block, b"sec-websocket-protocol") or [handshake.chosen]
    pairs = [(name.lower(), value) for name, value in fields(block)]
    return {
        "type": "websocket.accept",
        "subprotocol": chosen[0].decode("ascii") or None,
        "headers": [pair for pair in pairs if pair[0] not in _SERVERS_OWN],
    }


class Bridge(asyncio.Protocol):
    """The upstream's side of a socket: frames there, messages here."""

    def __init__(
        self, turn: SocketTurn, edge: EdgeState, exchange: Exchange, answer: Switched
    ) -> None:
        """Take the upstream's connection over. Raises ConnectFailed if it is lost."""
        self.ended: Signal[int] = Signal(lambda _: self.cut())
        self.received = 0  # bytes of the client's messages
        self.sent = 0  # bytes of the upstream's messages
        self._turn = turn
        self._loop = edge.loop
        self._answer = answer
        _, rules = agreed(exchange)
        self._inspect = inspector(rules, edge.loop)
        self._frames = Protocol(Side.CLIENT, max_size=_MAX_MESSAGE)
        self._arrived = 0  # bytes from the upstream
        self._alive = -1
        self._message: list[bytes] = []
        self._kind = Opcode.BINARY
        self._closed = False  # the client has left, or was told to
        self._code = 0
        self._paused = False
        self._transport: asyncio.Transport | None = answer.take(self)
        if answer.rest:
            self._loop.call_soon(self.data_received, answer.rest)

    # The client's messages

    def from_client(self, message: Message) -> None:
        """Send a message on as one frame."""
        text = message.get("text")
        data: bytes = text.encode() if text is not None else message.get("bytes") or b""
        self.received += len(data)
        if self._inspect is not None and (code := self._inspect(Opcode.BINARY, len(data))):
            self.close(code, "too large" if code == CloseCode.MESSAGE_TOO_BIG else "too fast")
        elif self._frames.state is State.OPEN:
            send = self._frames.send_text if text is not None else self._frames.send_binary
            send(data)
            self._flush()

    def client_left(self, code: int, reason: str) -> None:
        """Tell the upstream how the client has closed."""
        self._closed = True
        self._code = self._code or code
        if code == ABNORMAL:
            self._end_upstream()
        else:
            self._say_goodbye(code, reason)

    # The upstream's frames: asyncio calls

    def data_received(self, data: bytes) -> None:
        """Read frames, and send the messages that are complete."""
        self._arrived += len(data)
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            self._take_frame(cast("Frame", event))
        self._flush()
        if self._frames.state is State.CLOSING and self._frames.close_sent is not None:
            # It has closed, or its frames are malformed and `websockets` has closed.
            self._tell_client(self._frames.close_sent.code, self._frames.close_sent.reason)
            self._loop.call_later(_ANSWER_TIME, self.cut)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kind, self._message = frame.opcode, []
        elif frame.opcode is not Opcode.CONT:
            return
        self._message.append(bytes(frame.data))
        if frame.fin:
            data, self._message = b"".join(self._message), []
            self._pass_message(data)

    def _pass_message(self, data: bytes) -> None:
        if self._closed:
            return
        self.sent += len(data)
        message: Message = {"type": "websocket.send", "bytes": data}
        if self._kind is Opcode.TEXT:
            try:
                message = {"type": "websocket.send", "text": data.decode()}
            except UnicodeDecodeError:  # RFC 6455, 8.1
                self.close(CloseCode.INVALID_DATA, "invalid UTF-8")
                return
        self._turn.say(message, len(data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Close the client's side, too."""
        self._transport = None
        self._answer.released()
        self._tell_client(CloseCode.INTERNAL_ERROR, "upstream gone")
        self.ended.set(self._code)

    def pause_writing(self) -> None:
        """Receive no message of the client while the upstream reads slowly (back-pressure)."""
        self._turn.pause()

    def resume_writing(self) -> None:
        """Receive the client's messages again."""
        self._turn.resume()

    def pause_upstream(self) -> None:
        """Read no frame while the client reads slowly."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_upstream(self) -> None:
        """Read frames of the upstream again: the client reads what it is sent."""
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = b"".join(self._frames.data_to_send())
        if data and self._transport is not None:
            self._transport.write(data)

    # The close

    def _tell_client(self, code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._code = self._code or code
        # ASGI has no close without a code.
        code = CloseCode.NORMAL_CLOSURE if code in _NEVER_SENT else code
        self._turn.say({"type": "websocket.close", "code": int(code), "reason": reason})

    def _say_goodbye(self, code: int, reason: str) -> None:
        if self._frames.state is State.OPEN:
            if code in _NEVER_SENT:
                self._frames.send_close()
            else:
                self._frames.send_close(code, reason)
            self._flush()
        self.resume_upstream()
        self._loop.call_later(_ANSWER_TIME, self.cut)

    def _end_upstream(self) -> None:
        if self._transport is not None:
            part(self._transport, self._loop)

    # Tunnel

    def activity(self) -> tuple[int, int]:
        """Return how much each side has sent; while the upstream waits for the client, that is how much it has read."""
        return (self.received, self._turn.unsent if self._paused else self._arrived)

    def close(self, code: int, reason: str) -> None:
        """Close both sides with this code."""
        self._code = self._code or code
        self._tell_client(code, reason)
        self._say_goodbye(code, reason)

    def ping(self, key: bytes) -> bool:  # noqa: ARG002 — `websockets` masks its frames itself
        """Ping the upstream; the client is pinged by the server. Return False if the upstream has sent nothing since."""
        alive = self._arrived != self._alive
        self._alive = self._arrived
        if self._frames.state is State.OPEN:
            self._frames.send_ping(b"")
            self._flush()
        return alive

    def cut(self) -> None:
        """Close the upstream's connection at once; the client is told."""
        if self._transport is not None:
            self._transport.abort()
