"""Follow one request through the data plane, and tell what became of it.

Strategy. The stages of its route are wrapped, and the forward stage reports each attempt. So the trace holds what was done,
and not what another code would have done. It is put together when the head of the answer goes out, in the header
`X-Propylon-Explain`; a refusal has it in its body as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import Places
from propylon.errors import Details, GatewayError
from propylon.explain.checked import noting
from propylon.explain.detours import stand_in_text
from propylon.explain.header import as_header
from propylon.explain.losers import LostRoute, lost_routes, misreading, near
from propylon.explain.stages import (
    Note,
    Stage,
    Verdict,
    limit_text,
    match_text,
    recorded,
    told,
    verdict,
)
from propylon.explain.values import Values, values_of
from propylon.explain.words import circuit_text, cors_text, described, shown
from propylon.proxy.exchange import Exchange, Explanation
from propylon.proxy.forward_auth import FLAG_REFUSED
from propylon.proxy.match import Table
from propylon.proxy.principal import Principal
from propylon.proxy.route import Before, Limited, Route
from propylon.services.service import Instance, Service
from propylon.upstream.ports import Answer, Outgoing
from propylon.wire.message import Request

__all__ = ["Index", "Trace"]

# Routes that lost and are told of; the header has room for fewer.
_MOST_LOST = 20
_OWN = "the gateway's own"
# No cache between client and gateway may keep the answer: it has the explanation in it (RFC 9111, 5.2.2.5). Some obey headers
# of their own before Cache-Control (RFC 9213).
_CACHING = (
    b"cache-control",
    b"cdn-cache-control",
    b"surrogate-control",
    b"x-accel-expires",
    b"expires",
)
_OURS = (b"x-propylon-explain",)  # an upstream's copy is no explanation
_NO_STORE = b"\r\nCache-Control: no-store"
_LINE = b"\r\nX-Propylon-Explain: "

Index = Callable[[Route, Table, Sequence[RouteConfig]], int | None]
"""Returns at which place among those that were written a route of a table stands; None for an endpoint of the gateway's own."""


@dataclass(slots=True)
class _Attempt:
    """An attempt: the instance, why it was chosen, and how it ended; empty while it is under way."""

    instance: str
    why: str
    ended: str = ""


@dataclass(slots=True)
class Trace(Explanation):
    """The trace of one request."""

    request: Request
    loaded: Loaded
    index: Index
    hide: Callable[[bytes], bytes] | None = None
    route: Route | None = None
    _table: Table | None = None
    _found: Route | None = None  # the route of the table that `route` is, or is a part of
    _written: int | None = None
    _verdicts: list[Verdict] = field(default_factory=list)
    _attempts: list[_Attempt] = field(default_factory=list)
    _sent: bytes = b""
    _line: bytes = b""

    # What the data plane tells

    def follow(self, exchange: Exchange, route: Route, table: object, found: Route) -> Route:
        """Return the route with stages that tell what they do."""
        chosen = exchange.route
        if chosen is None or not isinstance(table, Table):
            return route
        self.route, self._table, self._found = chosen, table, found
        self._written = self._at(found, table)
        self._note("read", "a well-formed request")
        self._note("match", match_text(chosen))
        stages = noting(route, self._config_of_route, self._config, self._note)
        wrapped = recorded(route, self._note, route.authorize)
        overrides = route.response_overrides
        return replace(
            wrapped,
            before=None if route.before is None else _noted_policies(route.before, self._note),
            limit=None if route.limit is None else _noted_limit(route.limit, chosen, self._note),
            forward=self._forwarding(stages, route),
            response_remove=(*route.response_remove, *_OURS),
            response_overrides=replace(
                overrides,
                names=(*overrides.names, *_CACHING),
                block=overrides.block + _NO_STORE,
            ),
        )

    def asked(self, instance: Instance, sent: Outgoing) -> None:
        """Note an attempt: the request goes to this instance."""
        self._sent = b"%b%b%b\r\n\r\n" % (sent.line, sent.block, sent.framing())
        if self.route is not None:
            service = self.route.service
            own = instance in service.instances
            why = self._why(service, instance) if own else "of the fallback's service"
            self._attempts.append(_Attempt(instance.id, why))

    def failed(self, answer: Answer | None, error: GatewayError | None) -> None:
        """Note how an attempt has failed."""
        if self._attempts:
            self._attempts[-1].ended = _ended(answer, error)

    def raced(self, winner: Instance) -> None:
        """Note whose answer goes on of the last two attempts, which ran side by side."""
        if self._attempts[-1].instance != winner.id:
            self._attempts[-2:] = reversed(self._attempts[-2:])
        self._attempts[-2].ended = "lost a race: the other request was the better one"

    def refused(self, exchange: Exchange, error: GatewayError, table: object) -> Details:
        """Add the explanation to the exchange's lines, and return it for the body of the refusal."""
        if self.route is None and isinstance(table, Table):
            self._table = table
            self._note("read", "a well-formed request")
            self._note("match", error)
        elif all(one.passed for one in self._verdicts):
            self._note("forward", error)  # the handshake, or its answer
        data = self._data(exchange, error)
        self._tell(exchange, data)
        return {"explain": data}

    # The stages

    def _note(self, stage: Stage, said: str | GatewayError) -> None:
        self._verdicts.append(verdict(stage, said))

    def _forwarding(self, stages: Route, route: Route) -> Callable[..., Awaitable[Answer]]:
        async def forward(exchange: Exchange, request: Request, _: Route) -> Answer:
            try:
                answer: Answer = await stages.forward(exchange, request, route)
            except GatewayError as error:
                self._judge_failure(exchange, error)
                raise
            self._judge_answer(exchange, answer)
            self._tell(exchange, self._data(exchange, None, answer.head.status))
            return answer

        return forward

    def _judge_failure(self, exchange: Exchange, error: GatewayError) -> None:
        if self._attempts and not self._attempts[-1].ended:
            self.failed(None, error)
        checks = not exchange.attempts and bool(exchange.faults)
        self._note("requests" if checks else "forward", error)

    def _judge_answer(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.faults:
            self._note("requests", f"shadow: does not fit: {', '.join(exchange.faults)}")
        if FLAG_REFUSED in exchange.flags:
            return  # the answer is that of the service that was asked first
        if (stand_in := exchange.stand_in) is not None:
            self._note("forward", stand_in.error or f"status {stand_in.reason}")
            self._note("fallback", stand_in_text(stand_in, answer.head.status))
            return
        if not self._attempts:
            self._note("forward", f"answered by the gateway itself: {answer.head.status}")
            return
        if not self._attempts[-1].ended:
            self.failed(answer, None)
        service = "" if self.route is None else self.route.service.name
        builtin = self.route is not None and self.route.service.builtin
        self._note(
            "forward",
            (
                "the gateway's own endpoint, in this process"
                if builtin
                else f'service "{service}" at {self._attempts[-1].instance}'
            ),
        )

    def _why(self, service: Service, instance: Instance) -> str:
        """Say why an instance was chosen."""
        everyone = service.instances
        if len(everyone) == 1:
            return "the only instance"
        asked = service.fleet.candidates()
        tried = {one.instance for one in self._attempts}
        of = f"{len(asked)} of {len(everyone)} may be asked"
        left = [one for one in asked if one.id not in tried]
        if tried and instance.id not in tried and len(left) == 1:
            return f"the only one that was not tried; {of}"
        return f"{self._balance(service)}{' among those not tried' if tried else ''}; {of}"

    def _balance(self, service: Service) -> str:
        written = self._config.services.get(service.name)
        if written is None:
            return "round_robin"
        if written.sticky is None:
            return str(written.balance)
        return f"the cookie {written.sticky.cookie}, else {written.balance}"

    # The trace

    @property
    def _config(self) -> GatewayConfig:
        return self.loaded.config

    @property
    def _config_of_route(self) -> RouteConfig | None:
        if self._written is None or self.route is None:
            return None
        return self._config.routes[self._written].target(self.route.service.name)

    def _at(self, route: Route, table: Table) -> int | None:
        return self.index(route, table, self._config.routes)

    def _values(self) -> Values:
        written = self._config_of_route
        if self._written is None or written is None or self.route is None:
            return {}
        return values_of(self._written, written, self.route, self._config, self._places)

    @property
    def _places(self) -> Places:
        """The places of values, without the directory of the file: that is nobody's business, and long."""
        return self.loaded.places.without_directory()

    def _data(
        self, exchange: Exchange, error: GatewayError | None, status: int = 0
    ) -> dict[str, Any]:
        route, request = self.route, self.request
        table = self._table or Table(())
        circuit = "" if route is None else circuit_text(route, self._config.prefix)
        return {
            "route": None if route is None else self._described(route),
            "stages": told(
                self._verdicts,
                self._values(),
                limited=route is not None and route.limit is not None,
            ),
            "upstream": self._upstream(),
            "status": status if error is None else error.status,
            "refused": (
                None
                if error is None
                else {"status": error.status, "code": error.code, "message": error.message}
            ),
            "note": (misreading(table, request) or None) if route is None else None,
            "circuit": circuit or None,
            "cors": cors_text(table, self._found or exchange.route, request) or None,
            **self._losers(table, self._found or exchange.route),
        }

    def _losers(self, table: Table, winner: Route | None) -> dict[str, Any]:
        """Return the routes that lost though their paths match, and how many others there are."""
        close = near(table.routes, self.request.path)
        lost = lost_routes(close[:_MOST_LOST], table, self.request, winner)
        told_of = [one for one in lost if one.why != "path"]
        rest = len(table.routes) - len(told_of) - (winner is not None)
        return {"lost": [self._lost(one, table) for one in told_of], "others": rest}

    def _lost(self, lost: LostRoute, table: Table) -> dict[str, Any]:
        at = self._at(lost.route, table)
        return {
            "name": lost.route.name,
            "place": self._place(at),
            "why": lost.why,
            "text": lost.text,
        }

    def _described(self, route: Route) -> dict[str, Any]:
        written = self._config_of_route
        path = route.name if written is None else written.path
        return described(route, path, self._place(self._written))

    def _place(self, at: int | None) -> str:
        return _OWN if at is None else self._places.of(("routes", at))

    def _upstream(self) -> dict[str, Any] | None:
        if not self._attempts or self.route is None:
            return None
        last = self._attempts[-1]
        return {
            "service": self.route.service.name,
            "instance": last.instance,
            "why": last.why,
            "attempts": [
                {"instance": one.instance, "why": one.why, "ended": one.ended}
                for one in self._attempts
            ],
            "request": shown(self._sent, self.hide, self.route),
        }

    def _tell(self, exchange: Exchange, data: dict[str, Any]) -> None:
        """Put the explanation among the exchange's lines, in place of one that is there already."""
        if self._line:
            exchange.lines = exchange.lines.replace(self._line, b"")
        self._line = _LINE + as_header(data)
        exchange.lines += self._line


def _ended(answer: Answer | None, error: GatewayError | None) -> str:
    if answer is not None:
        return f"status {answer.head.status}"
    return "" if error is None else f"{error.code} {type(error).__name__}"


def _noted_policies(stage: Before, note: Note) -> Before:
    """Return the stage of the team's policies that also notes its verdict."""

    async def before(request: Request, principal: Principal) -> None:
        try:
            await stage(request, principal)
        except GatewayError as error:
            note("policies", error)
            raise
        note("policies", "the team's policies let it pass")

    return before


def _noted_limit(stage: Limited, route: Route, note: Note) -> Limited:
    """Return the limit stage that also notes its verdict; `route` has the limits."""
    text = limit_text(route.limit) or "within its limits"

    async def waited(waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except GatewayError as error:
            note("limit", error)
            raise
        note("limit", text)

    def limit(exchange: Exchange, request: Request, principal: Principal) -> Awaitable[None] | None:
        try:
            waiting = stage(exchange, request, principal)
        except GatewayError as error:
            note("limit", error)
            raise
        if waiting is not None:
            return waited(waiting)
        note("limit", text)
        return None

    return limit
