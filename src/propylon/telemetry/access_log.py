"""Write one log line for each exchange, as JSON for programs or as text for people."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from propylon.errors import ClientGone
from propylon.proxy.exchange import Exchange
from propylon.telemetry.lines import usual_line
from propylon.telemetry.record import call_record, level_of, record
from propylon.telemetry.selection import Edit, Passes, added, printable
from propylon.telemetry.writer import STDOUT, LineWriter
from propylon.wire.grammar import date_time

__all__ = [
    "LEVELS",
    "AccessLog",
    "Format",
    "Stamp",
    "as_json",
    "as_text",
    "format_of",
    "on_terminal",
]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLOURS = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 35}

_REFUSED = 400
_FAILED = 500

_MILLISECOND = 0.001
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
Format = Callable[[dict[str, Any]], bytes]


def on_terminal() -> bool:
    """Whether a person reads the log as it is written."""
    return os.isatty(STDOUT)


def format_of(written: str | None) -> str:
    """Return `json` or `text`: what is written, else by what standard output is."""
    return written or ("text" if on_terminal() else "json")


class Stamp:
    """Renders the time as RFC 3339 in UTC with milliseconds; within a millisecond it returns the same text.

    At ten thousand requests a second, ten share each timestamp.
    """

    __slots__ = ("_begin", "_now", "_second", "_since", "_text", "_until", "_written")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now` returns seconds since 1970."""
        self._now = now
        self._second = -1
        self._begin = date_time(0)[:-1]
        self._text = ""
        self._written = b""
        self._since = self._until = 0.0

    def __call__(self) -> str:
        """Return the current time as text."""
        now = self._now()
        if not self._since <= now < self._until:
            self._turn(now)
        return self._text

    def written(self) -> bytes:
        """Return the same in bytes."""
        now = self._now()
        if not self._since <= now < self._until:
            self._turn(now)
        return self._written

    def _turn(self, now: float) -> None:
        second = int(now)
        milliseconds = int((now - second) * 1000)
        if second != self._second:
            self._second = second
            self._begin = date_time(second)[:-1]
        self._text = self._begin + _MILLISECONDS[milliseconds]
        self._written = self._text.encode()
        self._until = second + (milliseconds + 1) * _MILLISECOND
        self._since = self._until - _MILLISECOND


class AccessLog:
    """The observer that writes the access log."""

    def __init__(self, writer: LineWriter, *, level: str, render: Format) -> None:
        """Write records of this level and above."""
        self._writer = writer
        self._render = render
        self._stamp = Stamp()
        self.apply(level)

    def apply(
        self,
        level: str,
        skip: Iterable[str] = (),
        *,
        fields: Mapping[str, str] = MappingProxyType({}),
        passes: Passes | None = None,
        edit: Edit | None = None,
    ) -> None:
        """Write what a configuration asks for from now on.

        `skip` are paths whose good answers are left out; `fields` are sources that are added to each record. `passes` tells
        which records are written, and `edit` changes them.
        """
        self._least = LEVELS[level]
        self._skip = frozenset(path.encode("ascii") for path in skip)
        self._added = added(fields)
        self._passes = passes
        self._edit = edit
        # Whether a record is written as it is.
        self._plain = self._render is as_json and not self._added and edit is None

    def set_level(self, level: str) -> None:
        """Write records of this level and above, until `apply`."""
        self._least = LEVELS[level]

    def __call__(self, exchange: Exchange) -> None:
        """Write the record of an exchange, unless its level is too low, its path is left out, or a filter says so."""
        # Inlined from `level_of`: what nearly all exchanges are.
        usual = exchange.error is None and not exchange.flags and exchange.status < _FAILED
        level = "info" if usual else level_of(exchange)
        request = exchange.request
        if (
            LEVELS[level] < self._least
            or (request is not None and request.path in self._skip and exchange.status < _REFUSED)
            or (self._passes is not None and not self._passes(exchange))
        ):
            return
        if usual and self._plain:
            line = usual_line(exchange, self._stamp.written())
            if line is not None:
                self._writer.write(line)
                return
        fields = record(exchange, level, self._stamp())
        for name, read in self._added:
            fields[name] = read(exchange)
        if self._edit is not None:
            fields = self._edit(fields)
        self._writer.write(self._render(fields))

    def note_call(self, exchange: Exchange) -> None:
        """Write the record of an endpoint's call of a service that failed; of one that did well only at level debug."""
        error = exchange.error
        failed = exchange.status >= _FAILED if error is None else not isinstance(error, ClientGone)
        level = "warning" if failed else "debug"
        if LEVELS[level] >= self._least:
            fields = call_record(exchange, level, self._stamp())
            self._writer.write(self._render(fields if self._edit is None else self._edit(fields)))


def as_json(fields: dict[str, Any]) -> bytes:
    """Render a record as one line of JSON. Control characters are escaped, so no value can add a line."""
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def as_text(fields: dict[str, Any], *, coloured: bool = False) -> bytes:
    """Render a record as one line for people; a traceback follows on lines of its own."""
    level = fields["level"]
    label = f"{level:<7}"
    if coloured:
        label = f"\x1b[{_COLOURS.get(level, 0)}m{label}\x1b[0m"
    if fields.get("event") == "request":
        text = _request_text(fields)
    elif fields.get("event") == "audit":
        text = _audit_text(fields)
    elif fields.get("event") == "call":
        text = _call_text(fields)
    else:
        text = str(fields.get("event"))
    lines = [f"{fields['time'][11:23]} {label} {printable(text)}"]
    lines.extend(printable(line) for line in fields.get("traceback", "").split("\n") if line)
    return "".join(f"{line}\n" for line in lines).encode()


def _request_text(fields: dict[str, Any]) -> str:
    """Return the record of a request. A field may be missing or hidden: `log.keep`, `log.drop`, `log.redact`."""
    status, method, path, service, took, client, identity = (
        "-" if fields.get(name) is None else fields[name]
        for name in (
            "status",
            "method",
            "path",
            "service",
            "duration_ms",
            "client_ip",
            "request_id",
        )
    )
    text = f"{status} {method} {path} → {service} {took} ms client={client} id={identity}"
    if isinstance(fallback := fields.get("fallback"), dict):  # it may be hidden
        text = f"{text} fallback={fallback['by']} ({fallback['error']})"
    return f"{text} {fields['error']}" if fields.get("error") else text


def _audit_text(fields: dict[str, Any]) -> str:
    text = (
        f"audit {fields['action']} {fields['outcome']} {fields['target'] or '-'}"
        f" by={fields['principal'] or '-'} client={fields['client_ip'] or '-'}"
        f" id={fields['request_id'] or '-'}"
    )
    return f"{text} {fields['error']}" if fields["error"] else text


def _call_text(fields: dict[str, Any]) -> str:
    text = (
        f"call {fields.get('status') or '-'} {fields.get('method', '-')} {fields.get('path', '-')}"
        f" → {fields.get('service', '-')} {fields.get('upstream_ms') or 0} ms id={fields.get('request_id', '-')}"
    )
    return f"{text} {fields['error']}" if fields.get("error") else text
