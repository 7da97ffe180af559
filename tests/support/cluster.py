"""Play the API of a Kubernetes cluster: list and watch of EndpointSlices, as strictly as the real one, and as badly as one asks for."""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
LABEL = "kubernetes.io/service-name"
_PATH = re.compile(r"/apis/discovery\.k8s\.io/v1/namespaces/([a-z0-9-]+)/endpointslices")
_SELECTOR = re.compile(re.escape(LABEL) + r" in \(([a-z0-9,-]*)\)")


def endpoints(*addresses: str, **conditions: bool) -> list[dict[str, Any]]:
    """Endpoints at these addresses, all in one condition."""
    return [{"addresses": [address], "conditions": conditions} for address in addresses]


def a_slice(
    name: str,
    service: str,
    found: list[dict[str, Any]],
    *ports: tuple[str, int],
    family: str = "IPv4",
) -> dict[str, Any]:
    """An EndpointSlice, with what else stands in one."""
    return {
        "metadata": {"name": name, "labels": {LABEL: service}, "managedFields": [{"x": 1}]},
        "addressType": family,
        "endpoints": found,
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports],
    }


class Cluster:
    """An API on a port of its own, in a thread of its own."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []  # target and headers of each request
        self.statuses: list[int] = []  # of the next answers, instead of what they would be
        self.garbage: list[bytes] = []  # what the next watches begin with
        self.token = ""
        self._context = context
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._history: list[tuple[int, str, str, dict[str, Any]]] = []
        self._version = 100
        self._oldest = 0
        self._watches: set[asyncio.StreamWriter] = set()
        self._news = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    # What happens in the cluster

    def put(self, one: dict[str, Any], namespace: str = "shop") -> None:
        """Make or change a slice."""
        self._do(self._change(namespace, one["metadata"]["name"], one))

    def delete(self, name: str, namespace: str = "shop") -> None:
        """Remove a slice."""
        self._do(self._change(namespace, name, None))

    def forget(self) -> None:
        """Forget all versions up to now."""
        self._oldest = self._version

    def bookmark(self) -> None:
        """Send one to each watch, of a version that nothing else has."""
        self._version += 10
        self._do(self._send_bookmark())

    def cut(self, *, well: bool = False) -> None:
        """End all watches: broken off, or `well`."""
        self._do(self._cut(well=well))

    @property
    def watches(self) -> int:
        """How many are open."""
        return len(self._watches)

    @property
    def lists(self) -> int:
        """How many lists were asked for."""
        return sum("watch=1" not in target for target, _ in self.asked)

    # On its loop

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)

    async def _close(self) -> None:
        self._server.close()
        await self._cut(well=False)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _change(self, namespace: str, name: str, one: dict[str, Any] | None) -> None:
        self._version += 1
        before = self._objects.pop((namespace, name), None)
        kind = "DELETED" if one is None else "ADDED" if before is None else "MODIFIED"
        said = json.loads(json.dumps(one or before))
        said["metadata"]["resourceVersion"] = str(self._version)
        if one is not None:
            self._objects[namespace, name] = said
        self._history.append((self._version, namespace, kind, said))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _send_bookmark(self) -> None:
        item = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self._version)}}
        for writer in self._watches:
            _chunk(writer, {"type": "BOOKMARK", "object": item})

    async def _cut(self, *, well: bool) -> None:
        for writer in list(self._watches):
            if well:
                writer.write(b"0\r\n\r\n")
                self._watches.discard(writer)
            else:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *fields = head.strip().split("\r\n")
                headers = {
                    name.lower(): value for name, value in (one.split(": ", 1) for one in fields)
                }
                method, target, _ = line.split(" ")
                assert method == "GET"
                self.asked.append((target, headers))
                await self._answer(reader, writer, target, headers)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: str,
        headers: dict[str, str],
    ) -> None:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match = _PATH.fullmatch(parts.path)
        status = 200 if match else 404
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            status = 401
        status = self.statuses.pop(0) if self.statuses else status
        if match is None or status != 200:
            _whole(writer, status, {"kind": "Status", "code": status})
        elif "watch" in query:
            await self._watch(reader, writer, match[1], query)
        else:
            self._list(writer, match[1], query)
        await writer.drain()

    def _chosen(
        self, namespace: str, query: dict[str, str]
    ) -> Callable[[str, dict[str, Any]], bool]:
        selector = query.get("labelSelector", "")
        names = _SELECTOR.fullmatch(selector)
        assert names or not selector, selector
        wanted = None if names is None else names[1].split(",")
        return lambda space, one: space == namespace and (
            wanted is None or one["metadata"]["labels"][LABEL] in wanted
        )

    def _list(self, writer: asyncio.StreamWriter, namespace: str, query: dict[str, str]) -> None:
        chosen = self._chosen(namespace, query)
        items = [one for (space, _), one in sorted(self._objects.items()) if chosen(space, one)]
        begin, limit = int(query.get("continue", "0")), int(query["limit"])
        metadata = {"resourceVersion": str(self._version)}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        _whole(writer, 200, {"metadata": metadata, "items": items[begin : begin + limit]})

    async def _watch(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        namespace: str,
        query: dict[str, str],
    ) -> None:
        assert int(query["timeoutSeconds"]) > 0
        assert query["allowWatchBookmarks"] == "true"
        seen, chosen = int(query["resourceVersion"]), self._chosen(namespace, query)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._watches.add(writer)
        try:
            if self.garbage:
                text = self.garbage.pop(0)
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
            if seen < self._oldest:
                _chunk(writer, {"type": "ERROR", "object": {"kind": "Status", "code": 410}})
                writer.write(b"0\r\n\r\n")
                return
            while writer in self._watches:
                for version, space, kind, one in self._history:
                    if version > seen and chosen(space, one):
                        _chunk(writer, {"type": kind, "object": one})
                seen = max(seen, self._history[-1][0] if self._history else seen)
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.01)
                if reader.at_eof() or writer.transport.is_closing():
                    raise ConnectionError
        finally:
            self._watches.discard(writer)


def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    text = json.dumps(event).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(text), text))


def _whole(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    text = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
