"""The traffic of soak.py: what callers ask, what they must get, and a list of everything that was lost."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from client import Answer, Connection, Failed, Pace
from tokens import Tokens
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

TIMEOUT = 10.0
PREFIX = "/api/v1"
# s. Whoever had the connection may notice it only when it asks again.
NOTICED = 30.0
# A connection stays with its worker: callers open a new one now and then, so a replacement gets its share.
KEPT_FOR = 20
# s that a WebSocket or a stream lasts.
LIVES = (10.0, 60.0)
# Twenty at once are allowed, and ten a second.
BURST = 60
NORMAL = 1000  # RFC 6455, 7.4.1
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


@dataclass(frozen=True)
class Loss:
    """A request that did not get what it must get, and why."""

    kind: str
    reason: str
    port: int
    at: float


@dataclass
class Ledger:
    """Every outcome. What was on a connection of a killed worker is told from what was lost."""

    begun: float = field(default_factory=time.monotonic)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    cut: list[Loss] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    # By the client's port: when the worker that had the connection was killed.
    severed: dict[int, float] = field(default_factory=dict)

    def got(self, kind: str, outcome: object) -> None:
        self.outcomes[kind, str(outcome)] += 1

    def miss(self, kind: str, reason: str, port: int, opened: float) -> None:
        now = time.monotonic()
        killed = self.severed.get(port, 0.0)
        by_the_kill = opened < killed and now - killed < NOTICED
        outcome = "cut by the kill" if by_the_kill else f"LOST: {reason}"
        self.got(kind, outcome)
        loss = Loss(kind, reason, port, now - self.begun)
        (self.cut if by_the_kill else self.lost).append(loss)


@dataclass(frozen=True)
class Ask:
    """A request, and the statuses that are right for it."""

    kind: str
    method: str
    path: str
    right: frozenset[int]
    body: str = ""
    # "": the caller's own; else a name of Tokens.refused, or "none".
    token: str = ""

    def bytes(self, token: str) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: isaas.example.com"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if self.body:
            form = "x-www-form-urlencoded" if self.body[0] != "{" else "json"
            lines += [f"Content-Type: application/{form}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", self.body]).encode()


def ask(kind: str, line: str, *right: int, token: str = "", **body: object) -> Ask:
    method, path = line.split()
    data = json.dumps(body) if body else ""
    return Ask(kind, method, path.replace("~", PREFIX), frozenset(right), data, token)


READ = ask("GET context", "GET ~/context?limit=5", 200)
MIX = (
    READ,
    ask("POST context", "POST ~/context", 201, activity="reading", details={"page": 7}),
    ask("POST intent", "POST ~/intent/examples", 201, intent="light", text="switch the lamp on"),
    ask("POST intent", "POST ~/intent/analyze", 200, text="the lamp, please"),
    ask("GET realtime", "GET ~/realtime/channels/general?limit=5", 200),
    ask("POST prediction", "POST ~/predict/events", 201, action="read"),
    ask("GET prediction", "GET ~/predict/next", 200, 409),
    READ,
    ask("no token", "GET ~/context", 401, token="none"),
    ask("forged token", "GET ~/context", 401, token="signed with another secret"),
    ask("expired token", "POST ~/context", 401, token="expired", activity="late"),
    ask("PUT", "PUT ~/context", 405),
    ask("no such path", "GET ~/nowhere", 404),
    ask("dead service", "GET /dead/thing", 502, 503),
)
OUTAGE = frozenset({502, 503, 504})


class Traffic:
    """All callers. They end by themselves, with their answers, when `stopping` is set."""

    def __init__(self, port: int, tokens: Tokens, password: str, rate: float) -> None:
        self.port = port
        self.tokens = tokens
        self.password = password
        self.rate = rate
        self.ledger = Ledger()
        self.stopping = asyncio.Event()
        # Whether the prediction service, or its breaker, may be down now.
        self.outage: Callable[[], bool] = lambda: False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        callers = self.tokens.good[:-8]
        pause = len(callers) / self.rate
        async with asyncio.TaskGroup() as group:
            for number, token in enumerate(callers):
                group.create_task(self._caller(number, token, pause))
            for number, token in enumerate(self.tokens.good[-8:-2]):
                group.create_task(self._again(0.5, self._socket, number, token))
                group.create_task(self._again(0.5, self._stream, number, token))
            group.create_task(self._again(5.0, self._greedy))
            group.create_task(self._again(7.0, self._login))
            group.create_task(self._again(1.0, self._abandon))
            try:
                yield
            finally:
                self.stopping.set()

    async def _again(
        self, pause: float, what: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        while not self.stopping.is_set():
            await what(*arguments)
            await self.rest(pause)

    async def rest(self, seconds: float) -> None:
        """Sleep, at most until the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def ask(self, connection: Connection, one: Ask, token: str) -> Answer | None:
        """One request; its outcome is counted. Returns the answer if it was the right one."""
        excused = "prediction" in one.kind and self.outage()
        try:
            answer = await connection.ask(one.bytes(token))
        except Failed as failure:
            self.ledger.miss(one.kind, str(failure), connection.local_port, connection.opened)
            return None
        if answer.status in one.right:
            self.ledger.got(one.kind, answer.status)
            return answer
        excused = excused or ("prediction" in one.kind and self.outage())
        if excused and answer.status in OUTAGE:
            self.ledger.got(one.kind, f"{answer.status} while the service is down")
        else:
            said = bytes(answer.body[:200]).decode(errors="replace")
            self.ledger.miss(one.kind, f"{answer.status} {said}", 0, connection.opened)
        return None

    async def _caller(self, number: int, token: str, pause: float) -> None:
        connection = Connection(self.port, TIMEOUT)
        pace = Pace(pause, first=pause * random.random())
        mix = itertools.islice(itertools.cycle(MIX), number % len(MIX), None)
        for turn, one in enumerate(mix):
            await pace.turn()
            if self.stopping.is_set():
                break
            if turn % KEPT_FOR == 0:
                connection.close()
            await self.ask(connection, one, self._token(one, token))
        connection.close()

    def _token(self, one: Ask, own: str) -> str:
        return self.tokens.refused.get(one.token, "") if one.token else own

    async def _greedy(self) -> None:
        """More at once than the limit allows: some of it is 429, none of it anything else."""
        one = Ask("greedy", "GET", READ.path, frozenset({200, 429}))

        async def several() -> None:
            connection = Connection(self.port, TIMEOUT)
            for _ in range(BURST // 4):
                await self.ask(connection, one, self.tokens.good[-1])
            connection.close()

        await asyncio.gather(*(several() for _ in range(4)))

    async def _login(self) -> None:
        path = f"{PREFIX}/auth/token"
        form = f"username=ann&password={self.password}"
        connection = Connection(self.port, TIMEOUT)
        one = Ask("login", "POST", path, frozenset({200}), form)
        answer = await self.ask(connection, one, "")
        if answer is not None:
            token = json.loads(answer.body)["access_token"]
            await self.ask(connection, ask("GET users/me", "GET ~/users/me", 200), token)
        connection.close()

    async def _abandon(self) -> None:
        """Go away in the middle, now with FIN and now with RST."""
        token = self.tokens.good[-2]
        whole = MIX[1].bytes(token)
        stream = ask("", "GET ~/realtime/channels/left/events", 200).bytes(token)
        upgrade = stream.replace(b"/events", b"").replace(
            b"\r\nHost",
            b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
            b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost",
        )
        sent = random.choice([whole[:40], whole[:-10], whole, READ.bytes(token), stream, upgrade])
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(sent)
            await asyncio.sleep(random.choice([0.0, 0.002, 0.05, 1.0]))
            if random.random() < 0.5:
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, RESET
                )
            writer.close()
        self.ledger.got("abandoned by the client", "not counted")

    async def _socket(self, number: int, token: str) -> None:
        """A WebSocket that says something each second, and hears itself."""
        url = f"ws://127.0.0.1:{self.port}{PREFIX}/realtime/channels/socket-{number}"
        opened, port = time.monotonic(), 0
        try:
            async with asyncio.timeout(TIMEOUT):
                client = await connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {token}"},
                    ping_interval=None,
                    compression=None,
                    proxy=None,
                )
            port = client.local_address[1]
            self.ledger.got("WebSocket", "opened")
            await self._talk(client)
        except (OSError, TimeoutError, WebSocketException, Failed) as failure:
            self.ledger.miss("WebSocket", f"{type(failure).__name__}: {failure}", port, opened)

    async def _talk(self, client: ClientConnection) -> None:
        end = time.monotonic() + random.uniform(*LIVES)
        for turn in itertools.count():
            if self.stopping.is_set() or time.monotonic() > end:
                break
            text = f"{turn}-{random.random()}"
            async with asyncio.timeout(TIMEOUT):
                await client.send(text)
                while json.loads(await client.recv())["text"] != text:
                    pass
            self.ledger.got("WebSocket message", "heard")
            await self.rest(1.0)
        if random.random() < 0.25 and not self.stopping.is_set():
            client.transport.abort()
            self.ledger.got("WebSocket", "aborted by the client")
            return
        async with asyncio.timeout(TIMEOUT):
            await client.close()
        if client.close_code != NORMAL:
            raise Failed(f"closed {client.close_code}")
        self.ledger.got("WebSocket", f"closed {NORMAL}")

    async def _stream(self, number: int, token: str) -> None:
        """An event stream that gets each message that is sent to its channel."""
        opened, port = time.monotonic(), 0
        path = f"{PREFIX}/realtime/channels/stream-{number}"
        request = Ask("SSE", "GET", f"{path}/events", frozenset()).bytes(token)
        poster = Connection(self.port, TIMEOUT)
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            port = writer.get_extra_info("sockname")[1]
            writer.write(request)
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b": listening\n\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise Failed(head[:60].decode("latin-1"))  # noqa: TRY301 — counted below
            self.ledger.got("SSE", "opened")
            await self._listen(reader, poster, path, token)
            self.ledger.got("SSE", "left by the client")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, Failed) as failure:
            self.ledger.miss("SSE", f"{type(failure).__name__}: {failure}", port, opened)
        finally:
            poster.close()
            if writer is not None:
                writer.close()

    async def _listen(
        self, reader: asyncio.StreamReader, poster: Connection, path: str, token: str
    ) -> None:
        end = time.monotonic() + random.uniform(*LIVES)
        while not self.stopping.is_set() and time.monotonic() < end:
            text = f"{random.random()}"
            body = json.dumps({"text": text})
            one = Ask("POST realtime", "POST", path, frozenset({201}), body)
            if await self.ask(poster, one, token) is not None:
                async with asyncio.timeout(TIMEOUT):
                    await reader.readuntil(f'"text":"{text}"'.encode())
                self.ledger.got("SSE event", "heard")
            await self.rest(1.0)
