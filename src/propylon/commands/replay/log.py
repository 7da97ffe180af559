"""Read the requests of a log: the gateway's own JSON lines, the combined format of nginx and Apache, or a HAR file.

Rules.

1. A line that is no request is counted, and does not end the reading: logs are cut, rotated and mixed.
2. What a log does not have is said by `Facts`, so that nobody takes a guess for a decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from propylon.commands.explain.dry_run import SampleRequest
from propylon.wire.grammar import TOKEN_TEXT

__all__ = ["Facts", "Log", "Logged", "NoLog", "open_log"]

# Of a HAR file, which has the bodies of all answers in it: it is read whole.
_LARGEST_HAR = 512 * 1024 * 1024
# `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`, with a virtual host before it, or more behind it.
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_COMBINED = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?) )?(?P<client>[0-9A-Za-z.:%_-]+) \S+ (?:\S+|[^\[]+) \[[^\]]*\] "
    + _QUOTED.replace("(", "(?P<request>", 1)
    + r" (?P<status>[0-9]{3}) (?:[0-9]+|-)(?: "
    + _QUOTED.replace("(", "(?P<referer>", 1)
    + " "
    + _QUOTED.replace("(", "(?P<agent>", 1)
    + r")?(?:\s.*)?"
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
_SWITCHING = 101
# Of a HAR: what frames a message, or is HTTP/2's. The Host is in the URL.
_NOT_SENT = re.compile(
    r":.*|host|connection|keep-alive|transfer-encoding|upgrade|te|trailer|proxy-.*|content-length|expect|http2-settings"
)


class NoLog(Exception):
    """There is no log to read, or it is none of the formats; the message says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The format of a log, in words, and which parts of a request it has."""

    format: str
    query: bool = True
    host: bool = True
    headers: bool = False


@dataclass(frozen=True, slots=True)
class Logged:
    """A request of a log: where it stands, and what became of it then, if the log says so."""

    place: str
    sample: SampleRequest
    route: str | None = None


@dataclass(slots=True)
class Log:
    """The requests, which can be read once, and how much else there was."""

    facts: Facts
    requests: Iterator[Logged]
    unread: int = 0
    first_unread: str = ""
    left_out: int = 0  # of a HAR: requests to other hosts

    def pass_over(self, place: str) -> None:
        """Count a line that is no request."""
        self.unread += 1
        self.first_unread = self.first_unread or place


def open_log(path: Path, stream: TextIO, host: str | None) -> Log:
    """Return the log in a file, or on `stream` for `-`. Raises NoLog.

    `host` is the Host of requests whose log has none; of a HAR file, the only one whose requests are read.
    """
    lines = iter(stream) if str(path) == "-" else _lines(path)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        msg = f"{path} is empty"
        raise NoLog(msg)
    lines = chain((first,), lines)
    if not first.lstrip("\ufeff").lstrip().startswith("{"):
        facts = Facts("the combined format", host=host is not None)
        return _reading(facts, lines, _combined, host)
    if _record(first) is not None:
        return _reading(Facts("Propylon's access log", query=False), lines, _json, host)
    return _har(path, lines, host)


def _lines(path: Path) -> Iterator[str]:
    try:
        # Bytes that are no UTF-8 stay what they are: a target may have been sent so.
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            yield from file
    except OSError as error:
        msg = f"{path} cannot be read: {(error.strerror or 'unknown reason').lower()}"
        raise NoLog(msg) from error


def _reading(facts: Facts, lines: Iterable[str], read: Any, host: str | None) -> Log:
    log = Log(facts, iter(()))

    def each() -> Iterator[Logged]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found = read(line, f"line {number}", host)
            if isinstance(found, Logged):
                yield found
            elif found is None:
                log.pass_over(f"line {number}")

    log.requests = each()
    return log


# Propylon's own


def _record(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _json(line: str, place: str, host: str | None) -> Logged | bool | None:
    """Return the request of a record; False for a record of something else, None for what is none."""
    found = _record(line)
    if found is None:
        return None
    if found["event"] != "request":
        return False
    method, path = found.get("method"), found.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    if found.get("status") == _SWITCHING:
        method = "WEBSOCKET"
    route = found.get("route")
    return _logged(
        place,
        method,
        path,
        _text(found.get("host")) or host,
        client=_text(found.get("client_ip")),
        route=route if isinstance(route, str) else "",
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# The combined format


def _combined(line: str, place: str, host: str | None) -> Logged | None:
    match = _COMBINED.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    parts = _unescaped(match["request"]).split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        return None
    method = "WEBSOCKET" if match["status"] == str(_SWITCHING) else parts[0]
    sent = [("Referer", match["referer"]), ("User-Agent", match["agent"])]
    headers = [(name, _unescaped(value)) for name, value in sent if value not in (None, "", "-")]
    return _logged(
        place, method, parts[1], match["host"] or host, client=match["client"], headers=headers
    )


def _unescaped(text: str) -> str:
    """Return a value without the escapes of nginx (hexadecimal digits) and Apache (a backslash before a quote)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], text)


# HAR


def _har(path: Path, lines: Iterable[str], host: str | None) -> Log:
    text = "".join(lines)
    if len(text) > _LARGEST_HAR:
        msg = f"{path} is larger than {_LARGEST_HAR // 1024 // 1024} MiB"
        raise NoLog(msg)
    try:
        entries = json.loads(text.lstrip("\ufeff"))["log"]["entries"]
        found = [(at, entry["request"]) for at, entry in enumerate(entries)]
    except (ValueError, KeyError, TypeError):
        msg = f"{path} is neither an access log of Propylon, one in the combined format, nor a HAR file"
        raise NoLog(msg) from None
    log = Log(Facts("a HAR file", headers=True), iter(()))

    def each() -> Iterator[Logged]:
        for at, request in found:
            logged = _entry(f"entry {at}", request)
            if logged is None:
                log.pass_over(f"entry {at}")
            elif host is not None and urlsplit(logged.sample.url).hostname != host.lower():
                log.left_out += 1
            else:
                yield logged

    log.requests = each()
    return log


def _entry(place: str, request: Any) -> Logged | None:
    try:
        url, method = str(request["url"]), str(request["method"])
        headers = [(str(one["name"]), str(one["value"])) for one in request.get("headers", ())]
        parts = urlsplit(url)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    if parts.scheme in {"ws", "wss"}:
        method, url = "WEBSOCKET", "http" + url[2:]
    elif parts.scheme not in {"http", "https"}:
        return None
    if method == "GET" and any(name.lower() == "sec-websocket-key" for name, _ in headers):
        method = "WEBSOCKET"
    kept = [
        (name, value)
        for name, value in headers
        if not _NOT_SENT.fullmatch(name.lower())
        and not (method == "WEBSOCKET" and name.lower().startswith("sec-websocket-"))
    ]
    return _logged(place, method, url.partition("#")[0], None, headers=kept)


def _logged(
    place: str,
    method: str,
    url: str,
    host: str | None,
    *,
    client: str = "",
    headers: Iterable[tuple[str, str]] = (),
    route: str | None = None,
) -> Logged | None:
    """Return the request; None for what could not be one: it would not end where it seems to."""
    sent = ([("Host", host)] if host else []) + list(headers)
    whole = [method, url, *chain.from_iterable(sent)]
    if any(one in text for text in whole for one in "\r\n\0") or " " in url:
        return None
    if TOKEN_TEXT.fullmatch(method) is None or any(
        TOKEN_TEXT.fullmatch(name) is None for name, _ in sent
    ):
        return None
    sample = SampleRequest(method, url, tuple(sent))
    return Logged(place, _from(sample, client), route)


def _from(sample: SampleRequest, client: str) -> SampleRequest:
    try:
        ip_address(client)
    except ValueError:
        return sample  # a host name, or nothing: the address for examples
    return SampleRequest(sample.method, sample.url, sample.headers, client)
