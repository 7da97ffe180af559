"""Ask the API of a Kubernetes cluster for EndpointSlices: list them, and watch them from a version on.

Facts. The token of a pod lasts for an hour, and the kubelet writes another one into its file long before; so the files are read for each
request. The API ends each watch after `timeoutSeconds`. It forgets old versions: then it says 410, in a status or in an event.

Rule. The token goes over TLS only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from propylon.upstream.dial import Address
from propylon.upstream.fetch import fetch
from propylon.upstream.lines import open_lines
from propylon.upstream.ports import Upstream
from propylon.upstream.tls import TlsSettings, tls_context
from propylon.wire.headers import render

__all__ = ["SERVICE_LABEL", "Api", "ApiSettings", "Gone", "Pooled", "UnusableAnswer"]

SERVICE_LABEL = "kubernetes.io/service-name"
_OK, _UNAUTHORIZED, _FORBIDDEN, _GONE = 200, 401, 403, 410
_PAGE = 500  # objects in one answer to a list
_LARGEST_PAGE = 32 * 1024 * 1024
_LARGEST_EVENT = 8 * 1024 * 1024  # a slice of a thousand endpoints has half a megabyte
_LARGEST_FILE = 1024 * 1024
_ANSWER = 10.0  # seconds until the head of an answer, and for a page of a list
# Seconds. A connection that died without a word is noticed soon after the end that the API was asked for.
_WATCH = 60
_SILENCE = _WATCH + 10.0
# Names in one selector: 4 KB of a URL. With more of them, all slices of the namespace are watched.
_MOST_NAMES = 64
_ADVICE = {
    _UNAUTHORIZED: ": it does not know the token",
    _FORBIDDEN: ": the service account needs a Role with `list` and `watch` of endpointslices in discovery.k8s.io",
}


class Gone(Exception):
    """The API has forgotten the version from which on the watch should go on (410)."""


class UnusableAnswer(Exception):
    """The API has answered, and not what was asked for."""


class Pooled(Upstream, Protocol):
    """An upstream with connections that can be closed."""

    def close(self) -> None:
        """Close them."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the API is, and the files that a pod has for it; an empty name: there is none."""

    host: str
    port: int
    secure: bool
    token_file: str = ""
    ca_file: str = ""


class Api:
    """The EndpointSlices of one namespace of a cluster."""

    def __init__(
        self, settings: ApiSettings, namespace: str, connect: Callable[[Address], Pooled]
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._address: Address | None = None
        self._pool: Pooled | None = None
        self._path = (
            f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace, safe='')}/endpointslices"
        )

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    async def list(self, names: Iterable[str], page: str) -> dict[str, object]:
        """Return a page of the list. Raises GatewayError, OSError, Gone and UnusableAnswer."""
        more = f"&continue={quote(str(page), safe='')}" if page else ""
        line = self._line(names, f"limit={_PAGE}{more}")
        pool, block = await self._open()
        answer = await fetch(pool, line, block, within=_ANSWER, limit=_LARGEST_PAGE)
        _check(answer.status)
        # A thousand slices are megabytes: read where nobody waits for it.
        return _object(await asyncio.to_thread(_loaded, answer.body))

    async def watch(
        self, names: Iterable[str], version: str
    ) -> AsyncGenerator[tuple[str, dict[str, object]], None]:
        """Yield kind and object of each change; the first is an empty one, when the watch has begun."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={_WATCH}&resourceVersion={quote(version, safe='')}"
        pool, block = await self._open()
        async with open_lines(
            pool,
            self._line(names, query),
            block,
            within=_ANSWER,
            silence=_SILENCE,
            limit=_LARGEST_EVENT,
        ) as lines:
            _check(lines.status)
            yield "BOOKMARK", {}
            async for line in lines:
                if line.strip():
                    yield _event(line)

    def _line(self, names: Iterable[str], query: str) -> bytes:
        listed = sorted(names)
        if len(listed) <= _MOST_NAMES:
            selector = f"{SERVICE_LABEL} in ({','.join(listed)})"
            query += f"&labelSelector={quote(selector, safe='')}"
        return f"GET {self._path}?{query}".encode("ascii")

    async def _open(self) -> tuple[Pooled, bytes]:
        """Return where to ask, and the headers: certificate and token as they are in their files now. Raises OSError."""
        token, ca = await asyncio.to_thread(self._files)
        settings = self._settings
        tls = tls_context(TlsSettings(ca=ca)) if settings.secure else None
        address = Address(settings.host, settings.port, tls)
        if self._pool is None or address != self._address:
            self.close()
            self._address, self._pool = address, self._connect(address)
        fields = [(b"Host", address.authority.encode("ascii")), (b"Accept", b"application/json")]
        fields.append((b"User-Agent", b"propylon"))
        if token and settings.secure:
            fields.append((b"Authorization", b"Bearer " + token))
        return self._pool, render(fields)

    def _files(self) -> tuple[bytes, str]:
        settings = self._settings
        token = _text(settings.token_file) if settings.token_file else ""
        if not token.isascii() or not token.isprintable():
            msg = f"{settings.token_file} holds no token"
            raise UnusableAnswer(msg)
        return token.encode("ascii"), _text(settings.ca_file) if settings.ca_file else ""


def _text(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(_LARGEST_FILE).decode("utf-8", "replace").strip()


def _check(status: int) -> None:
    """Raise Gone or UnusableAnswer for another status than 200."""
    if status == _GONE:
        raise Gone
    if status != _OK:
        msg = f"the API answers {status}{_ADVICE.get(status, '')}"
        raise UnusableAnswer(msg)


def _loaded(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = "its answer is no JSON"
        raise UnusableAnswer(msg) from error


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        msg = "its answer is no object"
        raise UnusableAnswer(msg)
    return value


def _event(line: bytes) -> tuple[str, dict[str, object]]:
    """Return kind and object of an event. Raises Gone and UnusableAnswer."""
    event = _object(_loaded(line))
    kind, item = event.get("type"), _object(event.get("object"))
    if kind == "ERROR":
        if item.get("code") == _GONE:
            raise Gone
        msg = f"the watch ends with {item.get('code')}"
        raise UnusableAnswer(msg)
    return str(kind), item
