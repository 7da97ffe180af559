"""Put the explanation of a request together, as text for people and as data for JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import unquote

from propylon.commands.explain.dry_run import STAGES, DryRun, SampleRequest, dry_run
from propylon.commands.explain.losers import LostRoute, lost_routes, misreading
from propylon.commands.offline import Entry
from propylon.compile.carriers import compile_carriers
from propylon.config.reading.load import Loaded
from propylon.proxy.authenticate.carriers import Header, hidden
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from propylon.wire.message import Request

__all__ = ["Explanation", "explain"]

_CREDENTIALS = re.compile(r"(?im)^((?:authorization|cookie|proxy-authorization):)[^\r\n]*")
# A token of a handshake: where the route looks at none, it passes as it is.
_SUBPROTOCOL_TOKEN = re.compile(r"(?im)(^sec-websocket-protocol:.*?bearer\.)[^\s,]+")
_QUERY_TOKEN = re.compile(r"([?&])([^=&#\s]*)=[^&#\s]*")
# A file may have thousands of routes: of those whose paths do not match, show only so many.
_MAX_UNRELATED = 10


class Explanation:
    """The explanation of a request: the result of its dry run, and why each other route lost."""

    def __init__(
        self,
        sample: SampleRequest,
        run: DryRun,
        prefix: str,
        hide: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Take the request, the result of its dry run, and the `prefix` of the gateway's own endpoints.

        `hide` takes tokens out of a block.
        """
        self._hide = hide
        self._sample = sample
        self._run = run
        self._lost: list[LostRoute] = []
        self._note = ""
        self._circuit = _circuit(run.route, prefix) if run.route is not None else ""
        self._cors = "" if run.request is None else _cors(run.table, run.route, run.request)
        if run.request is not None:
            self._lost = lost_routes(run.entries, run.table, run.request, run.route)
        if run.request is not None and run.route is None:
            self._note = misreading(run.table, run.request)

    @property
    def refused(self) -> bool:
        """Whether the gateway would answer the request with an error."""
        return self._run.error is not None

    def as_data(self) -> dict[str, Any]:
        """Return the explanation for JSON. Each character of the upstream's request is a byte (Latin-1)."""
        run, error = self._run, self._run.error
        winner = self._winner()
        instance = run.exchange.instance if run.exchange is not None else None
        return {
            "request": {
                "method": self._sample.method,
                "url": _without_token(self._sample.url),
                "client": self._sample.client,
            },
            "route": _described(winner) if winner is not None else None,
            "lost": [
                {**_described(lost.entry), "why": lost.why, "text": lost.text}
                for lost in self._lost
            ],
            "note": self._note or None,
            "circuit": self._circuit or None,
            "cors": self._cors or None,
            "stages": self._stages(),
            "upstream": (
                {
                    "service": run.route.service.name,
                    "instance": instance.id,
                    "request": self._shown(),
                }
                if run.sent and run.route is not None and instance is not None
                else None
            ),
            "refused": (
                {"status": error.status, "code": error.code, "message": error.message}
                if error is not None
                else None
            ),
        }

    def as_text(self) -> str:
        """Return the explanation as text for people."""
        sample = self._sample
        lines = [f"{sample.method} {_without_token(sample.url)} from {sample.client}", ""]
        lines += self._stage_lines()
        if self._note:
            lines += ["", self._note]
        lines += [line for said in (self._circuit, self._cors) if said for line in ("", said)]
        lines += self._lost_lines()
        if self._run.sent:
            lines += ["", "The upstream would get (the ids are examples):", ""]
            lines += ["  " + line for line in self._shown().split("\r\n")[:-2]]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _shown(self) -> str:
        """Return the upstream's request as text, without credentials: the output may end up in a log or a ticket."""
        sent = self._run.sent if self._hide is None else self._hide(self._run.sent)
        line, mark, rest = sent.decode("latin-1").partition("\r\n")
        rest = _SUBPROTOCOL_TOKEN.sub(r"\1(not shown)", rest)
        return _without_token(line) + mark + _CREDENTIALS.sub(r"\1 (not shown)", rest)

    def _winner(self) -> Entry | None:
        route = self._run.route
        return next((entry for entry in self._run.entries if entry.route is route), None)

    def _stages(self) -> list[dict[str, Any]]:
        verdicts = {verdict.stage: verdict for verdict in self._run.verdicts}
        return [
            (
                {"stage": stage, "passed": verdicts[stage].passed, "text": verdicts[stage].text}
                if stage in verdicts
                else {"stage": stage, "passed": None, "text": "not reached"}
            )
            for stage in STAGES
            if self._has(stage, verdicts)
        ]

    def _has(self, stage: str, verdicts: Container[str]) -> bool:
        """Tell whether the request has this stage: limits and caches are of some routes only."""
        if stage in {"cache", "requests"}:
            return stage in verdicts
        if stage == "limit":
            return self._run.route is not None and self._run.route.limit is not None
        return True

    def _stage_lines(self) -> list[str]:
        marks = {True: "ok", False: "refused", None: ""}
        winner = self._winner()
        where = f" {winner.path} ({winner.place})" if winner is not None else ""
        return [
            f"  {stage['stage']:<13} {marks[stage['passed']]:<8} {stage['text']}"
            + (where if stage["stage"] == "match" else "")
            for stage in self._stages()
        ]

    def _lost_lines(self) -> list[str]:
        # A built-in endpoint is shown only if its path matches.
        shown = [
            lost for lost in self._lost if lost.why != "path" or lost.entry.written is not None
        ]
        related = [lost for lost in shown if lost.why != "path"]
        unrelated = shown[len(related) :]
        if not shown:
            return []
        lines = [
            f"  {lost.entry.route.name:<24} {lost.why}: {lost.text}"
            for lost in [*related, *unrelated[:_MAX_UNRELATED]]
        ]
        if len(unrelated) > _MAX_UNRELATED:
            lines.append(f"  and {len(unrelated) - _MAX_UNRELATED} more whose paths do not match")
        return ["", "Why the others lost:", "", *lines]


def explain(loaded: Loaded, sample: SampleRequest) -> Explanation:
    """Run the request dry, and return the explanation."""
    places = tuple(
        place
        for place in compile_carriers(loaded.config.auth.carriers)
        if isinstance(place, Header)
    )
    hide = hidden(places) if places else None
    return Explanation(sample, dry_run(loaded, sample), loaded.config.prefix, hide)


def _circuit(route: Route, prefix: str) -> str:
    """Say when the breaker of the route's service opens. Whether it is open now, only the running gateway knows."""
    breaker = route.service.breaker
    if breaker is None or not route.circuit:
        return ""
    rules = breaker.circuit
    return (
        f'The breaker of "{route.service.name}" opens at {rules.failure_threshold} failures within'
        f" {rules.failure_window:g} s, if they are at least {rules.failure_rate:.0%} of at least"
        f" {rules.min_throughput} requests. GET {prefix}/circuits tells whether it is open, and why."
    )


def _cors(table: Table, route: Route | None, request: Request) -> str:
    """Say whether a page of the request's origin may read the answer; nothing for a request that no page sends."""
    origin = b", ".join(request.special.get(b"origin", ())).decode("latin-1")
    if not origin:
        return ""
    own = None if route is None else route.cors
    cors, whose = (table.cors, "cors") if own is None else (own, "the route's cors")
    if cors is None:
        return f"CORS is off, so pages of {origin} may read the answer only if the service says so."
    may = "may" if cors.permits(request) else "may not"
    return f"Pages of {origin} {may} read the answer, by {whose}."


def _without_token(text: str) -> str:
    """Return the text without the value of `token` in its query, however the name is spelled."""

    def hide(match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}=(not shown)" if unquote(match[2]) == "token" else match[0]

    return _QUERY_TOKEN.sub(hide, text)


def _described(entry: Entry) -> dict[str, Any]:
    host = entry.route.pattern.host
    return {
        "name": entry.route.name,
        "path": entry.path,
        "host": host.decode() if host is not None else None,
        "service": entry.route.service.name,
        "place": entry.place,
    }
