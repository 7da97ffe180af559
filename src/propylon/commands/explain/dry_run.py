"""Send a sample request through the real pipeline, with a recorder in the place of every upstream.

The table, the stages and the forwarding are those of the data plane, so the explanation cannot differ from what the
gateway does. Each stage of a route is wrapped, and the wrapper notes what the stage says. Only a published key set is
really fetched, and an introspection endpoint really asked; no request reaches a service.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import urlsplit

from propylon.assembly.guards import open_basic
from propylon.commands.offline import Entry, entries
from propylon.compile.authentication import compile_authentication
from propylon.compile.basic_auth import Users
from propylon.compile.carriers import stages_without_keys
from propylon.compile.cors import allows_credentials, compile_cors
from propylon.compile.parts import NOTHING_TO_VERIFY_WITH
from propylon.config.models.endpoints import PUBLIC
from propylon.config.reading.load import Loaded
from propylon.edge.body import Body
from propylon.edge.trust import Trust
from propylon.errors import GatewayError
from propylon.explain.checked import noting
from propylon.explain.stages import Note, Stage, Verdict, limit_text, match_text, recorded, verdict
from propylon.explain.unread import without_document
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Authenticate, Route
from propylon.proxy.unattended import NoClient
from propylon.stores.memory import MemoryRevocations
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.upstream.reply import Reply
from propylon.wire.message import CHUNKED, NO_BODY, Request, Response
from propylon.wire.proxy_header import Ends
from propylon.wire.request import parse_request

__all__ = ["DryRun", "Rehearsal", "SampleRequest", "dry_run"]

_TICK = 0.025
# The key is that of RFC 6455, 1.3.
_HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """The request to explain: a method, a path or a whole URL, headers, and the client's address.

    The method WEBSOCKET is the handshake of a WebSocket.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    client: str = "203.0.113.1"  # RFC 5737: an address for examples

    @property
    def scheme(self) -> str:
        """`https` if the URL begins with it, else `http`."""
        return "https" if self.url.lower().startswith("https://") else "http"

    def head(self, host: str) -> bytes:
        """Return the head as a client would send it; `host` is the `Host` for a bare path."""
        target = self.url
        if target.lower().startswith(("http://", "https://")):
            parts = urlsplit(target)
            host = parts.netloc
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        method, more = (
            ("GET", _HANDSHAKE) if self.method.upper() == "WEBSOCKET" else (self.method, ())
        )
        lines = [f"{method} {target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in (*more, *self.headers)]
        # Python reads arguments that are no UTF-8 into surrogates; this turns them into the same bytes again.
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


@dataclass(slots=True)
class DryRun:
    """The result: each stage's verdict, the route, and the bytes that the upstream would get (`sent`)."""

    entries: list[Entry] = field(default_factory=list)
    table: Table = field(default_factory=lambda: Table(()))
    request: Request | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    sent: bytes = b""
    exchange: Exchange | None = None
    client: _Client | None = None

    @property
    def answer(self) -> tuple[int, bytes]:
        """The status and the header block of what the client would get; without a service's part."""
        return (0, b"") if self.client is None else (self.client.status, self.client.block)

    @property
    def route(self) -> Route | None:
        """The route that matched; None if none did."""
        return self.exchange.route if self.exchange is not None else None

    @property
    def entry(self) -> Entry | None:
        """The entry of the route that matched, which may be a part of it."""
        route = self.route
        return next((one for one in self.entries if route in one.route.parts), None)

    @property
    def error(self) -> GatewayError | None:
        """The error that the client would get; None if the request passed."""
        return self.exchange.error if self.exchange is not None else None

    def note(self, stage: Stage, said: str | GatewayError) -> None:
        """Add the verdict of a stage: a text if it let the request pass, else the error."""
        self.verdicts.append(verdict(stage, said))


Adapt = Callable[[Entry, Note], Route]
"""Returns the route of an entry with stages that tell the note what they say."""


class Rehearsal:
    """A configuration's real pipeline, with a recorder in the place of every upstream; for one request after another.

    What is decided about one request changes nothing for the next: the clock stands still, and nothing is counted.
    """

    def __init__(
        self,
        loaded: Loaded,
        adapt: Adapt,
        stages: Mapping[str, Authenticate] = NOTHING_TO_VERIFY_WITH,
        users: Users | None = None,
    ) -> None:
        """Compile the configuration. `stages` authenticate by tokens, `users` by passwords. Needs a running loop."""
        server = loaded.config.server
        certificates = loaded.config.tls.clients is not None
        self._host = f"localhost:{server.port}"
        self._trust = Trust.of(
            server.trusted_proxies, server.forwarded, reads_certificates=certificates
        )
        self._run = DryRun()
        recorder = _Recorder(lambda: self._run)
        self.entries = [
            replace(entry, route=adapt(entry, self._note))
            for entry in entries(loaded, recorder, stages=stages, users=users)
        ]
        # A sample is a request to the public listener.
        self._table = Table(
            (entry.route for entry in self.entries if entry.route.listener == PUBLIC),
            cors=compile_cors(loaded.config.cors),
        )
        # A fixed seed: the ids are examples, and the output of a command is the same each time.
        chance = random.Random(0).getrandbits  # noqa: S311
        self._pipeline = Pipeline(
            self._table, (recorder.ended,), clock=_frozen_clock, chance=chance
        )

    def _note(self, stage: Stage, said: str | GatewayError) -> None:
        self._run.note(stage, said)

    async def send(self, sample: SampleRequest) -> DryRun:
        """Run a request through the pipeline up to the upstream, and return the result."""
        run = self._run = DryRun(self.entries, self._table)
        await self._receive(run, sample)
        _judge_match(run)
        _judge_forward(run)
        return run

    async def _receive(self, run: DryRun, sample: SampleRequest) -> None:
        """Do what an edge does with a head: parse it, find the client's address, call the pipeline."""
        client = run.client = _Client(self._trust, sample)
        try:
            request = parse_request(sample.head(self._host))
        except GatewayError as error:
            run.note("read", error)
            self._pipeline.reject(error, client)
            return
        run.request = request
        run.note("read", "a well-formed request")
        client.expect(self._trust, request)
        await self._pipeline.handle(request, client)


def dry_run(loaded: Loaded, sample: SampleRequest) -> DryRun:
    """Run the request through the pipeline up to the upstream, and return the result."""
    return asyncio.run(_send(loaded, sample))


async def _send(loaded: Loaded, sample: SampleRequest) -> DryRun:
    rehearsal = Rehearsal(loaded, partial(_noting, loaded), await _stages(loaded), open_basic())
    return await rehearsal.send(sample)


def _noting(loaded: Loaded, entry: Entry, note: Note) -> Route:
    """Return the route of an entry with stages that note their verdicts; with `split`, those of each service."""

    def noted(route: Route) -> Route:
        written = None if entry.written is None else entry.written.target(route.service.name)
        return noting(_recorded(route, note), written, loaded.config, note)

    route = noted(entry.route)
    return route if route.split is None else replace(route, split=route.split.changed(noted))


async def _stages(loaded: Loaded) -> Mapping[str, Authenticate]:
    """Return the authenticate stage for each `auth`. A published key set is fetched first, as the gateway does.

    Revocations are in the gateway's memory and database, so they are not known here.
    """
    loop = asyncio.get_running_loop()
    ticker, outbox = Ticker(loop, _TICK), Outbox(loop)

    def connect(address: Address, limit: int) -> Pool:
        return Pool(address, limit=limit, ticker=ticker, outbox=outbox, loop=loop)

    config = loaded.config
    nothing = MemoryRevocations(time.time, longest=0.0)
    compiled = compile_authentication(
        config.auth,
        connect,
        nothing,
        time.time,
        debug=config.debug,
        trusted_origin=allows_credentials(config.cors),
    )
    if compiled is None:
        return stages_without_keys(config.auth.carriers)
    for keys in compiled.key_sets:
        await keys.refresh()
    return compiled.stages


def _frozen_clock() -> float:
    """Return 0.0, always: no deadline passes in a dry run, and nothing is measured."""
    return 0.0


def _recorded(route: Route, note: Note) -> Route:
    """Return the route with stages that also note their verdicts, and that count nothing."""
    stage, more = without_document(route.authorize)
    route = recorded(route, note, stage, more)
    text = limit_text(route.limit)

    def limit(*_: object) -> None:
        """Count nothing: how much is left is known to the running gateway alone."""
        if text:
            note("limit", text)

    return route if route.limit is None else replace(route, limit=limit)


def _judge_match(run: DryRun) -> None:
    """Note the verdict of `match`. It is no stage of a route, so it cannot be wrapped like the others."""
    if run.request is None:
        return
    said: str | GatewayError | None = run.error
    if run.route is not None:
        said = match_text(run.route)
    if said is not None:
        run.note("match", said)
        run.verdicts.insert(1, run.verdicts.pop())  # second, after `read`


def _judge_forward(run: DryRun) -> None:
    """Note where the request went, unless an earlier stage refused it."""
    exchange, route = run.exchange, run.route
    if exchange is None or route is None or not all(one.passed for one in run.verdicts):
        return
    if exchange.error is not None and all(one.stage != "authorize" for one in run.verdicts):
        run.note("authenticate", exchange.error)  # the handshake, or its Origin
    elif exchange.error is not None:
        run.note("forward", exchange.error)
    elif exchange.instance is None:
        run.note("forward", f"answered by the gateway itself: {exchange.status}")
    elif route.service.builtin:
        run.note("forward", "the gateway's own endpoint, in this process")
    else:
        ids = [instance.id for instance in route.service.instances]
        choice = f", one of {', '.join(ids)}" if len(ids) > 1 else ""
        run.note("forward", f'service "{route.service.name}" at {exchange.instance.id}{choice}')


class _Recorder:
    """An upstream that keeps the bytes of the request instead of sending them."""

    busy = 0

    def __init__(self, run: Callable[[], DryRun]) -> None:
        """`run` returns the one under way."""
        self._run = run

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:  # noqa: ARG002 — no 1xx
        """Keep the request, and answer 204."""
        self._run().sent = b"%b%b%b\r\n\r\n" % (outgoing.line, outgoing.block, outgoing.framing())
        head = Response(204, b" 204 No Content", b"", NO_BODY, keep_alive=True)
        return Reply(head, b"", None)

    def ended(self, exchange: Exchange) -> None:
        """Keep the exchange. The pipeline calls this at its end, as an observer."""
        self._run().exchange = exchange


class _Client(NoClient):
    """The client's side of the exchange: it has an address, and keeps the head of a whole answer."""

    def __init__(self, trust: Trust, sample: SampleRequest) -> None:
        """Come from the address of the sample; there is no connection that had ports."""
        origin = trust.origin(sample.client, sample.scheme)
        super().__init__(origin, Ends(origin.peer, 0, "", 0), None)
        self.status = 0
        self.block = b""

    def expect(self, trust: Trust, request: Request) -> None:
        """Do what the edge does after the head: apply trusted headers, and expect a body if there is one."""
        if self.origin.trusted:
            self.origin = trust.refine(self.origin, request)
        if request.length > 0 or request.length == CHUNKED:
            self.body = Body(request.length, self, None)

    def respond(self, head: Response, block: bytes, _body: bytes) -> None:
        """Keep the head."""
        self.status, self.block = head.status, block

    def pause(self) -> None:
        """Do nothing: no body arrives."""

    def resume(self) -> None:
        """Do nothing: no body arrives."""
