"""Put the explanation of a request together, as text for people and as data for JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from propylon.commands.explain.dry_run import DryRun, SampleRequest, dry_run
from propylon.commands.offline import Entry
from propylon.compile.carriers import compile_carriers
from propylon.config.reading.load import Loaded
from propylon.explain.losers import LostRoute, lost_routes, misreading
from propylon.explain.stages import told
from propylon.explain.values import Values, values_of
from propylon.explain.words import (
    circuit_text,
    compression_text,
    cors_text,
    described,
    shown,
    without_secrets,
)
from propylon.proxy.authenticate.carriers import Header, hidden
from propylon.proxy.route import Route

__all__ = ["Explanation", "explain"]

# A file may have thousands of routes: of those whose paths do not match, show only so many.
_MAX_UNRELATED = 10


class Explanation:
    """The explanation of a request: the result of its dry run, and why each other route lost."""

    def __init__(
        self,
        sample: SampleRequest,
        run: DryRun,
        loaded: Loaded,
        hide: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Take the request, the result of its dry run, and the configuration.

        `hide` takes tokens out of a block.
        """
        self._hide = hide
        self._sample = sample
        self._run = run
        self._loaded = loaded
        self._lost: list[_Lost] = []
        self._note = ""
        prefix = loaded.config.prefix
        self._circuit = circuit_text(run.route, prefix) if run.route is not None else ""
        winner = run.entry.route if run.entry is not None else run.route
        self._cors = "" if run.request is None else cors_text(run.table, winner, run.request)
        written = None if run.entry is None else run.entry.written
        self._compression = "" if run.request is None else compression_text(written, run.request)
        if run.request is not None:
            entries = {entry.route: entry for entry in run.entries}
            found = lost_routes(entries, run.table, run.request, winner)
            self._lost = [_Lost(entries[lost.route], lost) for lost in found]
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
                "url": without_secrets(self._sample.url),
                "client": self._sample.client,
            },
            "route": None if winner is None else _described(winner, run.route),
            "lost": [
                {**_described(lost.entry), "why": lost.found.why, "text": lost.found.text}
                for lost in self._lost
            ],
            "note": self._note or None,
            "circuit": self._circuit or None,
            "compression": self._compression or None,
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
        lines = [f"{sample.method} {without_secrets(sample.url)} from {sample.client}", ""]
        lines += self._stage_lines()
        if self._note:
            lines += ["", self._note]
        sentences = (self._circuit, self._compression, self._cors)
        lines += [line for said in sentences if said for line in ("", said)]
        lines += self._lost_lines()
        if self._run.sent:
            lines += ["", "The upstream would get (the ids are examples):", ""]
            lines += ["  " + line for line in self._shown().split("\r\n")[:-2]]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _shown(self) -> str:
        """Return the upstream's request as text, without credentials: the output may end up in a log or a ticket."""
        return shown(self._run.sent, self._hide)

    def _winner(self) -> Entry | None:
        return self._run.entry

    def _stages(self) -> list[dict[str, Any]]:
        limited = self._run.route is not None and self._run.route.limit is not None
        return told(self._run.verdicts, self._values(), limited=limited)

    def _values(self) -> Values:
        """Return the values that the stages of the winner go by; none for an endpoint of the gateway's own."""
        winner, config, route = self._winner(), self._loaded.config, self._run.route
        if winner is None or winner.written is None or route is None:
            return {}
        index = next(at for at, one in enumerate(config.routes) if one is winner.written)
        target = winner.written.target(route.service.name)
        return values_of(index, target, route, config, self._loaded.places)

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
        related = [lost for lost in self._lost if lost.found.why != "path"]
        unrelated = [
            lost
            for lost in self._lost
            if lost.found.why == "path" and lost.entry.written is not None
        ]
        if not related and not unrelated:
            return []
        lines = [str(lost) for lost in [*related, *unrelated[:_MAX_UNRELATED]]]
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
    return Explanation(sample, dry_run(loaded, sample), loaded, hide)


@dataclass(frozen=True, slots=True)
class _Lost:
    """A route that lost, with its place in the file."""

    entry: Entry
    found: LostRoute

    def __str__(self) -> str:
        return f"  {self.entry.route.name:<24} {self.found.why}: {self.found.text}"


def _described(entry: Entry, chosen: Route | None = None) -> dict[str, Any]:
    return described(chosen or entry.route, entry.path, entry.place)
