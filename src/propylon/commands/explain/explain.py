"""Explain one request: which route, why not the others, each stage's verdict, what the upstream gets."""

from __future__ import annotations

import re
from typing import Any

from propylon.commands.explain.dry_run import STAGES, Asked, DryRun, dry_run
from propylon.commands.explain.losers import Loss, losses, misreading
from propylon.commands.offline import Entry
from propylon.config.reading.load import Loaded

__all__ = ["Explanation", "explain"]

_CREDENTIALS = re.compile(r"(?im)^((?:authorization|cookie|proxy-authorization):)[^\r\n]*")
# With thousands of routes the near losers are what somebody wants to see.
_SHOWN_FAR = 10


class Explanation:
    """One request's way through the gateway, to be shown to people or to programs."""

    def __init__(self, asked: Asked, run: DryRun) -> None:
        """Look into a run that has ended."""
        self._asked = asked
        self._trial = run
        self._losses: list[Loss] = []
        self._note = ""
        if run.request is not None:
            self._losses = losses(run.entries, run.table, run.request, run.route)
        if run.request is not None and run.route is None:
            self._note = misreading(run.table, run.request)

    def as_data(self) -> dict[str, Any]:
        """Return everything for a program; the upstream's request is Latin-1, byte for byte."""
        run, error = self._trial, self._trial.error
        winner = self._winner()
        instance = run.exchange.instance if run.exchange is not None else None
        return {
            "request": {
                "method": self._asked.method,
                "url": self._asked.url,
                "client": self._asked.client,
            },
            "route": _named(winner) if winner is not None else None,
            "lost": [
                {**_named(loss.entry), "why": loss.why, "text": loss.text} for loss in self._losses
            ],
            "note": self._note or None,
            "stages": self._stages(),
            "upstream": (
                {
                    "service": run.route.service.name,
                    "instance": instance.id,
                    "request": _shown(run.sent),
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
        """Return it for people."""
        asked = self._asked
        lines = [f"{asked.method} {asked.url} from {asked.client}", ""]
        lines += self._said_stages()
        if self._note:
            lines += ["", self._note]
        lines += self._said_losses()
        if self._trial.sent:
            lines += ["", "The upstream would get (the ids are examples):", ""]
            lines += ["  " + line for line in _shown(self._trial.sent).split("\r\n")[:-2]]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _winner(self) -> Entry | None:
        route = self._trial.route
        return next((entry for entry in self._trial.entries if entry.route is route), None)

    def _stages(self) -> list[dict[str, Any]]:
        said = {one.stage: one for one in self._trial.verdicts}
        return [
            (
                {"stage": stage, "passed": said[stage].passed, "text": said[stage].text}
                if stage in said
                else {"stage": stage, "passed": None, "text": "not reached"}
            )
            for stage in STAGES
        ]

    def _said_stages(self) -> list[str]:
        marks = {True: "ok", False: "refused", None: ""}
        winner = self._winner()
        where = f" {winner.path} ({winner.place})" if winner is not None else ""
        return [
            f"  {one['stage']:<13} {marks[one['passed']]:<8} {one['text']}"
            + (where if one["stage"] == "match" else "")
            for one in self._stages()
        ]

    def _said_losses(self) -> list[str]:
        # The gateway's own endpoints are beside the point where they do not even match.
        shown = [
            loss for loss in self._losses if loss.why != "path" or loss.entry.written is not None
        ]
        near = [loss for loss in shown if loss.why != "path"]
        far = shown[len(near) :]
        if not shown:
            return []
        names = [
            f"  {loss.entry.route.name:<24} {loss.why}: {loss.text}"
            for loss in [*near, *far[:_SHOWN_FAR]]
        ]
        if len(far) > _SHOWN_FAR:
            names.append(f"  and {len(far) - _SHOWN_FAR} more whose paths do not match")
        return ["", "Why the others lost:", "", *names]


def explain(loaded: Loaded, asked: Asked) -> Explanation:
    """Try the request out."""
    return Explanation(asked, dry_run(loaded, asked))


def _shown(sent: bytes) -> str:
    """Return the request as text, without what nobody should find in a terminal's history."""
    return _CREDENTIALS.sub(r"\1 (not shown)", sent.decode("latin-1"))


def _named(entry: Entry) -> dict[str, Any]:
    host = entry.route.pattern.host
    return {
        "name": entry.route.name,
        "path": entry.path,
        "host": host.decode() if host is not None else None,
        "service": entry.route.service.name,
        "place": entry.place,
    }
