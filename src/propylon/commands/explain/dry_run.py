"""Send one request through the real pipeline, with a recorder in the place of every upstream."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Literal, get_args
from urllib.parse import urlsplit

from propylon.commands.offline import Entry, entries
from propylon.compile.authentication import compile_authentication
from propylon.compile.routes import NOTHING_TO_VERIFY_WITH
from propylon.config.reading.load import Loaded
from propylon.edge.body import Body
from propylon.edge.trust import Trust
from propylon.errors import GatewayError
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.proxy.exchange import Exchange, IncomingBody
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authenticate, PrivacyPreference, Route
from propylon.stores.memory import MemoryRevocations
from propylon.upstream.pool import Address, Pool
from propylon.upstream.ports import Answer, Flow, Outgoing, Sink
from propylon.upstream.reply import Reply
from propylon.wire.framing import announced
from propylon.wire.message import CHUNKED, NO_BODY, Request, Response
from propylon.wire.request import parse_request

__all__ = ["Asked", "DryRun", "Verdict", "dry_run"]

Stage = Literal["read", "match", "privacy", "authenticate", "authorize", "forward"]
STAGES: tuple[Stage, ...] = get_args(Stage)

_TICK = 0.025


@dataclass(frozen=True, slots=True)
class Asked:
    """The request in question: a method, a path or a whole URL, headers, and who sends it."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    client: str = "203.0.113.1"  # RFC 5737: an address for examples

    @property
    def scheme(self) -> str:
        """`https` if the URL says so."""
        return "https" if self.url.lower().startswith("https://") else "http"

    def head(self, host: str) -> bytes:
        """Return the head as a client would write it; `host` is where a bare path is asked for."""
        target = self.url
        if target.lower().startswith(("http://", "https://")):
            parts = urlsplit(target)
            host = parts.netloc
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        # Bytes that are no UTF-8 reach us as surrogates, and leave as the bytes that they were.
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one stage said."""

    stage: Stage
    passed: bool
    text: str


@dataclass(slots=True)
class DryRun:
    """What became of the request: each stage's verdict, the route, what an upstream would get."""

    entries: list[Entry] = field(default_factory=list)
    table: Table = field(default_factory=lambda: Table(()))
    request: Request | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    sent: bytes = b""
    exchange: Exchange | None = None

    @property
    def route(self) -> Route | None:
        """The route that matched."""
        return self.exchange.route if self.exchange is not None else None

    @property
    def error(self) -> GatewayError | None:
        """What the client would be refused with."""
        return self.exchange.error if self.exchange is not None else None

    def note(self, stage: Stage, verdict: str | GatewayError) -> None:
        """Record what a stage said."""
        if isinstance(verdict, str):
            self.verdicts.append(Verdict(stage, passed=True, text=verdict))
        else:
            self.verdicts.append(Verdict(stage, passed=False, text=_said(verdict)))


def dry_run(loaded: Loaded, asked: Asked) -> DryRun:
    """Carry the request from the head to the upstream's door, as the data plane does."""
    return asyncio.run(_send(loaded, asked))


async def _send(loaded: Loaded, asked: Asked) -> DryRun:
    run = DryRun()
    recorder = _Recorder(run)
    stages = await _stages(loaded)
    run.entries = [
        replace(entry, route=_noted(entry.route, run))
        for entry in entries(loaded, recorder, stages=stages)
    ]
    run.table = Table(entry.route for entry in run.entries)
    # The same ids whenever it is asked: an example, not a secret.
    chance = random.Random(0).getrandbits  # noqa: S311
    pipeline = Pipeline(run.table, (recorder.ended,), clock=_still, chance=chance)
    await _receive(run, pipeline, loaded, asked)
    _judge_match(run)
    _judge_forward(run)
    return run


async def _stages(loaded: Loaded) -> Mapping[str, Authenticate]:
    """Return what a route's `auth` comes to; keys that are published are fetched first, as the gateway does.

    What was revoked while a gateway ran is not known here.
    """
    loop = asyncio.get_running_loop()
    ticker, outbox = Ticker(loop, _TICK), Outbox(loop)

    def connect(address: Address, limit: int) -> Pool:
        return Pool(address, limit=limit, ticker=ticker, outbox=outbox, loop=loop)

    config = loaded.config
    nothing = MemoryRevocations(time.time, longest=0.0)
    found = compile_authentication(config.auth, connect, nothing, time.time, debug=config.debug)
    if found is None:
        return NOTHING_TO_VERIFY_WITH
    if found.published is not None:
        await found.published.refresh()
    return found.stages


def _still() -> float:
    """Be a clock that stands: nothing becomes due here, and nothing is measured."""
    return 0.0


async def _receive(run: DryRun, pipeline: Pipeline, loaded: Loaded, asked: Asked) -> None:
    """Do what an edge does with a head: read it, say who sent it, hand it on."""
    server = loaded.config.server
    trust = Trust([ip_network(network, strict=False) for network in server.trusted_proxies])
    downstream = _Onlooker(trust, asked)
    try:
        request = parse_request(asked.head(f"localhost:{server.port}"))
    except GatewayError as error:
        run.note("read", error)
        pipeline.reject(error, downstream)
        return
    run.request = request
    run.note("read", "a well-formed request")
    downstream.expect(trust, request)
    await pipeline.handle(request, downstream)


def _noted(route: Route, run: DryRun) -> Route:
    """Return the route with stages that also record what they say."""

    def privacy(request: Request) -> PrivacyPreference:
        try:
            wish = route.privacy(request)
        except GatewayError as error:
            run.note("privacy", error)
            raise
        run.note("privacy", wish.level or "nothing is wished for")
        return wish

    async def authenticate(request: Request) -> Principal:
        try:
            principal = await route.authenticate(request)
        except GatewayError as error:
            run.note("authenticate", error)
            raise
        run.note("authenticate", str(principal))
        return principal

    def authorize(principal: Principal, client: str) -> None:
        try:
            route.authorize(principal, client)
        except GatewayError as error:
            run.note("authorize", error)
            raise
        run.note("authorize", f"{principal} may")

    return replace(
        route, privacy=privacy, privacy_applies=True, authenticate=authenticate, authorize=authorize
    )


def _judge_match(run: DryRun) -> None:
    """Say what the matching came to: it has no value of a route to be recorded in."""
    if run.request is None:
        return
    verdict: str | GatewayError | None = run.error
    if run.route is not None:
        verdict = f'route "{run.route.name}"'
    if verdict is not None:
        run.note("match", verdict)
        run.verdicts.insert(1, run.verdicts.pop())  # it came second, after the reading


def _judge_forward(run: DryRun) -> None:
    """Say where it went, unless an earlier stage refused it."""
    exchange, route = run.exchange, run.route
    if exchange is None or route is None or not all(one.passed for one in run.verdicts):
        return
    if exchange.error is not None:
        run.note("forward", exchange.error)
    elif exchange.instance is None:
        run.note("forward", f"answered by the gateway itself: {exchange.status}")
    elif route.service.builtin:
        run.note("forward", "the gateway's own endpoint, in this process")
    else:
        among = [instance.id for instance in route.service.instances]
        listed = f", one of {', '.join(among)}" if len(among) > 1 else ""
        run.note("forward", f'service "{route.service.name}" at {exchange.instance.id}{listed}')


def _said(error: GatewayError) -> str:
    text = f"{error.status} {error.code}: {error.message}"
    return f"{text} ({error.reason})" if error.reason else text


class _Recorder:
    """An upstream that writes down what it would get."""

    busy = 0

    def __init__(self, run: DryRun) -> None:
        self._run = run

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:  # noqa: ARG002 — no 1xx
        """Take the request; answer 204 without having asked anybody."""
        framing = announced(outgoing.length)
        self._run.sent = b"%b%b%b\r\n\r\n" % (outgoing.line, outgoing.block, framing)
        head = Response(204, b" 204 No Content", b"", NO_BODY, keep_alive=True)
        return Reply(head, b"", None)

    def ended(self, exchange: Exchange) -> None:
        """Keep the exchange: the pipeline's last stage."""
        self._run.exchange = exchange


class _Onlooker:
    """A client's side that only has an address: whatever it is sent is dropped."""

    def __init__(self, trust: Trust, asked: Asked) -> None:
        self.origin = trust.origin(asked.client, asked.scheme)
        self.body: IncomingBody | None = None
        self.started = False
        self.closes = False
        self.bytes_out = 0

    def expect(self, trust: Trust, request: Request) -> None:
        """Do as the edge does once it knows the head: whom to believe, and whether a body comes."""
        if self.origin.trusted:
            self.origin = trust.refine(self.origin, request)
        if request.length > 0 or request.length == CHUNKED:
            self.body = Body(request.length, self, None)

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Drop it."""

    def start(self, head: Response, block: bytes) -> None:
        """Drop it."""

    def attach(self, flow: Flow) -> None:
        """Never be slow."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def finish(self, trailers: bytes = b"") -> None:
        """Nothing was kept."""

    def interim(self, head: Response) -> None:
        """Drop it."""

    def abort(self) -> None:
        """Nothing is open."""

    def pause(self) -> None:
        """No body comes."""

    def resume(self) -> None:
        """No body comes."""
