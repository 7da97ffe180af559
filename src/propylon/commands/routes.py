"""Show the compiled routing table: what each route matches, its service, its rules."""

from __future__ import annotations

from typing import Any

from propylon.commands.offline import Entry, entries, preference
from propylon.config.models.route import RouteConfig
from propylon.config.reading.load import Loaded
from propylon.upstream.ports import Answer, Outgoing, Sink

__all__ = ["COLUMNS", "as_data", "auth_words", "footer", "rows"]

# Few enough for a terminal of 80 characters; `--format json` has everything.
COLUMNS = ("route", "methods", "service", "access")
_AUTH = {"required": "token", "optional": "token or none", "none": "open"}


class _Unreachable:
    """Stands in for every instance: the table is only shown, so nothing is sent."""

    busy = 0

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:
        """Raise NotImplementedError: nothing may be sent."""
        raise NotImplementedError


def as_data(loaded: Loaded) -> list[dict[str, Any]]:
    """Return the table for JSON, the routes that matching prefers first."""
    return [_fields(loaded, entry) for entry in _sorted(loaded)]


def rows(loaded: Loaded, *, own: bool = False) -> list[tuple[str, ...]]:
    """Return the table as texts, one for each of COLUMNS, in the same order; with `own` the gateway's endpoints, too.

    The operator's routes come first.
    """
    table = _sorted(loaded)
    chosen = [entry for entry in table if entry.written is not None]
    if own:
        chosen += [entry for entry in table if entry.written is None]
    return [_texts(entry) for entry in chosen]


def footer(loaded: Loaded) -> str:
    """Return the line that says how many endpoints of the gateway's own the table leaves out."""
    left_out = sum(entry.written is None for entry in _sorted(loaded))
    return f"and {left_out} endpoints of the gateway's own: propylon routes --all"


def _sorted(loaded: Loaded) -> list[Entry]:
    unsorted = entries(loaded, _Unreachable())
    return sorted(unsorted, key=lambda entry: preference(entry.route.pattern))


def _cors(loaded: Loaded, written: RouteConfig) -> dict[str, Any] | None:
    """Return the rules of CORS that hold on a route; None: there are none."""
    cors = loaded.config.cors if written.cors is None else written.cors
    return cors.model_dump(mode="json") if cors.origins else None


def _fields(loaded: Loaded, entry: Entry) -> dict[str, Any]:
    route = entry.route
    pattern, timeouts = route.pattern, route.timeouts
    fields = {
        "name": route.name,
        "host": pattern.host.decode() if pattern.host is not None else None,
        "path": entry.path,
        "exact": pattern.exact,
        "methods": sorted(pattern.methods) if pattern.methods is not None else None,
        "priority": pattern.priority,
        "service": None if route.split is not None else route.service.name,
        "instances": [instance.id for part in route.parts for instance in part.service.instances],
        "auth": entry.auth,
        "scopes": None if entry.written is None else list(entry.written.scopes),
        "roles": None if entry.written is None else list(entry.written.roles),
        "security": None if entry.written is None else entry.written.security,
        "issuers": entry.issuers,
        "claims": entry.claims,
        "strip_prefix": route.rewrite is not None and not route.rewrite.text,
        "rewrite": (route.rewrite and route.rewrite.text) or None,
        "timeouts": {
            "connect": timeouts.connect,
            "first_byte": timeouts.first_byte,
            "idle": timeouts.idle,
            "total": timeouts.total,
            "max_duration": (
                None if timeouts.max_duration == float("inf") else timeouts.max_duration
            ),
        },
        "max_body": route.max_body,
        "privacy": None if entry.written is None else entry.written.privacy,
        "circuit": None if entry.written is None else entry.written.circuit,
        "cors": None if entry.written is None else _cors(loaded, entry.written),
        "own": route.service.builtin,
        "place": entry.place,
    }
    # The other rules of the route stand as they are written: limits, cache, headers.
    rules = {} if entry.written is None else entry.written.model_dump(mode="json")
    return rules | fields


def _texts(entry: Entry) -> tuple[str, ...]:
    route = entry.route
    pattern = route.pattern
    host = pattern.host.decode() if pattern.host is not None else ""
    path = entry.path if pattern.exact else entry.path.rstrip("/") + "[/...]"
    methods = " ".join(sorted(pattern.methods)) if pattern.methods is not None else "all"
    return (host + path, methods, _target(entry), _access(entry))


def _target(entry: Entry) -> str:
    """Return where requests go, and how their paths are changed on the way."""
    written = entry.written
    if written is not None and written.respond is not None:
        return f"answers {written.respond.status}"
    if written is not None and written.redirect is not None:
        return f"{written.redirect.status} to {written.redirect.to}"
    changed = "" if entry.target == "as sent" else f" ({entry.target})"
    if written is not None and written.split:
        return ", ".join(f"{part.service} {part.weight}" for part in written.split) + changed
    return f"{entry.route.service.name}{changed}"


def auth_words(written: RouteConfig) -> list[str]:
    """Return what a caller must show on a route: a token, what it must hold, and what else asks."""
    guards = [key for key in ("basic_auth", "forward_auth") if getattr(written, key)]
    needs = [] if guards and written.auth == "none" else [_AUTH[written.auth]]
    needs += guards
    needs += [f"scope {scope}" for scope in written.scopes]
    needs += ["role " + " or ".join(written.roles)] if written.roles else []
    needs += ["scopes of the document"] if written.security else []
    needs += ["issuer " + " or ".join(written.issuers)] if written.issuers else []
    return needs


def _access(entry: Entry) -> str:
    """Return who may use a route: what its token must have, after the word for whether it needs one."""
    written = entry.written
    if written is None:
        where = f", on {entry.route.listener}" if entry.route.listener else ""
        return entry.auth + where
    needs = auth_words(written)
    clients, conditions = written.clients, entry.route.pattern.conditions
    needs += ["from " + " or ".join(clients.allow)] if clients.allow else []
    needs += ["not from " + " or ".join(clients.deny)] if clients.deny else []
    needs += ["under maintenance"] if written.maintenance is not None else []
    needs += [f"if it has {conditions}"] if conditions is not None else []
    return ", ".join(needs)
