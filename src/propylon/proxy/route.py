"""Hold one compiled route: what it matches, which service gets it, under which rules. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from propylon.proxy.changes import Changes, Lines, Target, filled
from propylon.proxy.conditions import Conditions
from propylon.proxy.principal import Principal
from propylon.proxy.public import Public
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.template import Values
from propylon.services.service import Instance, Service
from propylon.upstream.ports import NEVER, Answer, Timeouts
from propylon.wire.headers import without
from propylon.wire.message import Request, Response

__all__ = [
    "NO_OVERRIDES",
    "NO_PREFERENCE",
    "UNPROTECTED",
    "Admits",
    "Answers",
    "Authenticate",
    "Authorize",
    "Before",
    "Forwards",
    "HeaderOverrides",
    "Level",
    "Limited",
    "Pattern",
    "PrivacyPreference",
    "ReadPrivacy",
    "Route",
    "Seats",
    "Selects",
    "Sender",
    "SocketRules",
    "Split",
    "Waits",
    "ignore_privacy",
]

Level = Literal["strict", "standard", "permissive"]


@dataclass(frozen=True, slots=True)
class PrivacyPreference:
    """What the client lets others keep of its request: a level, if it sent one, and the block that tells the upstream."""

    level: Level | None
    block: bytes

    @property
    def strict(self) -> bool:
        """Whether the gateway may keep nothing that identifies the client."""
        return self.level == "strict"


NO_PREFERENCE = PrivacyPreference(None, b"")


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a request must look like to match.

    `host` is in lower case; None matches any host, and `*.example.com` every host below example.com. `methods` None
    matches any method. `slash`: an exact path was written with a final slash, and matches with and without it.
    """

    segments: tuple[bytes | None, ...]  # None: any one segment
    exact: bool = False
    host: bytes | None = None
    methods: frozenset[str] | None = None
    priority: int = 0
    slash: bool = False
    conditions: Conditions | None = None  # what it must have besides; None: nothing


Authenticate = Callable[[Request, str], Awaitable[Principal]]


class Sender(Protocol):
    """Where a request comes from, as far as a rule needs it: a part of `Origin`, defined to the left of this module."""

    @property
    def client(self) -> str:
        """The address of the client, as far as the gateway believes it."""

    @property
    def peer(self) -> str:
        """The address at the other end of the socket."""

    @property
    def trusted(self) -> bool:
        """Whether the peer is a proxy that the operator trusts."""

    @property
    def proxied(self) -> bool:
        """Whether the peer's address was told by a trusted proxy, in a PROXY header."""


Authorize = Callable[[Principal, Request, Sender], None]
# Waits until the request may go to an instance: (exchange, request, route). May raise UpstreamBusy.
Waits = Callable[..., Awaitable[None]]
Admits = Callable[[Request, Sender], None]
Before = Callable[[Request, Principal], Awaitable[None]]
# Sends the request on and returns the final answer's head: (exchange, request, route). `proxy.forward` is the usual
# one; what answers without an upstream, or before one, is another. Its exchange is defined to the left of this module.
Forwards = Callable[..., Awaitable[Answer]]
# Counts the request: (exchange, request, principal). What it returns is awaited, unless it is None: then all is decided.
Limited = Callable[..., Awaitable[None] | None]
ReadPrivacy = Callable[[Request], PrivacyPreference]


class Answers(Protocol):
    """What says which web pages may read an answer (see `cors`)."""

    def block(self, request: Request) -> bytes:
        """Return the lines for any answer to the request."""

    def permits(self, request: Request) -> bool:
        """Whether the page that asks may read answers at all."""

    def preflight(self, request: Request, allow: bytes) -> Response | None:
        """Answer a preflight; `allow` are the methods of the routes on that path, empty where there is none.

        None: the route gets it, as a request like any other.
        """


class Seats(Protocol):
    """Counts the open sockets of callers: the port that a store fills."""

    def take(self, key: str, limit: int) -> bool:
        """Count one more for the key, unless there are `limit` already; tell whether it was counted."""

    def give_back(self, key: str) -> None:
        """Count one socket less for the key: it has ended."""


@dataclass(frozen=True, slots=True, eq=False)
class SocketRules:
    """What holds for the WebSockets of a route, and for its other tunnels; times in seconds.

    - `authenticate` finds the token of a handshake, which may be in other places than that of a request.
    - `trusts` tells whether pages of an origin, as a browser sends it, may open a socket.
    - `upgrades` are the other protocols that clients may change to, in lower case.
    - `max_rate` is a number of messages in so many seconds.
    """

    authenticate: Authenticate
    trusts: Callable[[bytes], bool]
    upgrades: frozenset[bytes] = frozenset()
    close_on_expiry: bool = True
    idle: float = 300.0
    max_lifetime: float = NEVER
    max_message: int | None = None
    max_rate: tuple[int, float] | None = None
    ping: float = NEVER
    max_open: int | None = None
    seats: Seats | None = None


@dataclass(frozen=True, slots=True)
class HeaderOverrides:
    """Headers that the operator sets in place of the gateway's: their lower-case names, and their lines as a block.

    `templates` are lines whose values each exchange has for itself.
    """

    names: tuple[bytes, ...] = ()
    block: bytes = b""
    templates: Lines = ()

    def put(self, block: bytes, values: Values | None = None) -> bytes:
        """Return the finished block with these lines in place of the gateway's."""
        changed = without(block, self.names) + self.block
        return changed if values is None else changed + filled(self.templates, values)


NO_OVERRIDES = HeaderOverrides()


class Selects(Protocol):
    """Chooses an instance by what the request is (see `select`). The exchange is defined to the left of this module."""

    @property
    def choose(self) -> Callable[..., Instance]:
        """Return the instance for the next attempt: (exchange, request, candidates), of which there is at least one.

        May raise ServiceUnavailable, and add lines to the exchange.
        """

    @property
    def narrowed(self) -> Callable[..., tuple[Instance, ...]]:
        """Return those of the candidates that the request may go to: (exchange, request, candidates)."""

    @property
    def left(self) -> Callable[..., tuple[Instance, ...]]:
        """Return those among the untried instances that a further attempt may go to: (exchange, request, untried)."""


class Split(Protocol):
    """Chooses one of several services for each request (see `split`)."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes to the services."""

    @property
    def choose(self) -> Callable[..., Route]:
        """Return the route to the service of a request: (exchange, request)."""

    def changed(self, change: Callable[[Route], Route]) -> Split:
        """Return the same choice among changed routes."""


# The rules of a gateway's own endpoint that needs no token. No upstream serves it, so a path that an upstream reads as
# one (`/docs/`, `/health.html`) walks round nothing.
UNPROTECTED = object()


def ignore_privacy(request: Request) -> PrivacyPreference:  # noqa: ARG001 — the shared null object
    """Stand for the privacy stage on a route without one."""
    return NO_PREFERENCE


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What matches, which service gets it, under which rules: compiled, immutable.

    The stages that a route uses are values of it, composed when the table is compiled. A stage that it does not use is
    None or a shared null object, so a route pays only for what it uses.

    - `privacy` reads the client's preference, or raises InvalidRequest.
    - `authenticate` returns the principal of a request from a client's address, or raises AuthError, or
      ServiceUnavailable while keys are missing. It may add lines to `Request.vouched`.
    - `beside_certificate` is the authenticate stage for a client with a verified certificate; None: as for the others.
      It returns the anonymous principal where there is no token, and the certificate's is taken then.
    - `authorize` lets the principal and its address pass, or raises AuthError or Forbidden.
    - `clients` lets the address of the client pass, before anything else is asked, or raises Forbidden.
    - `before` runs the team's policies, which may raise any GatewayError.
    - `limit` counts the request by its limits, and raises RateLimited.
    - `forward` sends the request on, and raises what the last attempt raised.
    """

    name: str
    pattern: Pattern
    service: Service
    authenticate: Authenticate
    authorize: Authorize
    timeouts: Timeouts
    max_body: int
    forward: Forwards
    # What chooses the route to one of several services, which takes this one's place; None: there is one service. `share` says
    # on such a route what its service gets.
    split: Split | None = None
    queue: Waits | None = (
        None  # what a request waits in until an instance has room; None: it does not wait
    )
    select: Selects | None = None  # what chooses the instance; None: the service's `balance`
    share: str = ""
    circuit: bool = True  # whether the service's breaker is asked, and told
    rewrite: Rewrite | None = None  # None: the path goes out as it came
    changes: Changes | None = None  # what changes by the request's values; None: nothing
    public: Public | None = None  # None: the answer's addresses and cookies go out as they came
    # Headers that carry claims, `reduced`: the client's are removed, in any spelling. `Request.vouched` has the lines.
    vouched: frozenset[bytes] = frozenset()
    # Takes out of a request's block what is inside of its lines: tokens in other places than Authorization, for a service
    # that may not have them, and cookies that the operator removes; None: nothing.
    hide: Callable[[bytes], bytes] | None = None
    request_remove: tuple[bytes, ...] = ()
    request_set: bytes = b""  # a block
    response_remove: tuple[bytes, ...] = ()
    response_set: bytes = b""  # a block
    response_cookies: frozenset[bytes] = frozenset()  # whose Set-Cookie lines are removed
    # What the operator sets in place of the gateway's own headers: seldom, so kept apart from the usual ones.
    request_overrides: HeaderOverrides = NO_OVERRIDES
    response_overrides: HeaderOverrides = NO_OVERRIDES
    cors: Answers | None = None  # which pages may read the answers; None: the table's rules hold
    privacy: ReadPrivacy = ignore_privacy
    privacy_applies: bool = (
        False  # `privacy` has something to say even where the client sent nothing
    )
    beside_certificate: Authenticate | None = None
    clients: Admits | None = None  # None: from anywhere
    before: Before | None = None
    limit: Limited | None = None
    limit_fields: tuple[
        bytes, ...
    ] = ()  # the headers that `limit` writes: the upstream's are removed
    # What a client meets here, for the matcher: two routes with equal rules may be taken for one another. By default a
    # route has rules of its own.
    rules: object = field(default_factory=object)
    sockets: SocketRules | None = None  # None: nothing is tunnelled
    # Of the gateway's own endpoints: the listener that serves the route ("": the public one), and who may use it.
    listener: str = ""
    # For traces: the path as the operator wrote it, and the share of the traces that are recorded; None: as everywhere.
    template: str = ""
    sampling: float | None = None
    access: str = ""
    # Two questions of the hot path, answered once for all requests. `adapts`: something besides the line and the block of
    # the request differs from what the client sent (`outgoing`). `edits`: lines are taken out of each answer (`relay`).
    adapts: bool = field(init=False)
    edits: bool = field(init=False)

    def __post_init__(self) -> None:
        """Answer the questions that depend on nothing but the rules."""
        service = self.service
        strips = self.rewrite is not None and self.rewrite.strips
        chosen = service.host is not None or service.proxy_protocol is not None
        put = object.__setattr__
        changes = self.changes is not None
        put(self, "adapts", strips or chosen or changes or bool(self.response_remove))
        put(self, "edits", bool(self.limit_fields or self.response_remove or self.response_cookies))

    @property
    def parts(self) -> tuple[Route, ...]:
        """The routes to its services; itself, if it has one service."""
        return (self,) if self.split is None else self.split.routes

    def line(self, request: Request, base: bytes, target: Target | None = None) -> bytes:
        """Return the request line that the upstream gets: byte for byte the client's, where nothing changes it.

        `target` is how path and query change by the request's values, if they do.
        """
        rewrite, query = (self.rewrite, request.query) if target is None else target
        if rewrite is None and not base and request.version == 1 and query == request.query:
            return request.line
        path = base + request.path if rewrite is None else rewrite.apply(request.path, base)
        return b"%b %b%b HTTP/1.1" % (request.method.encode(), path, query)
