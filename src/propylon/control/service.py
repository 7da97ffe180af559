"""Inject services into endpoints: `orders: Annotated[Service, service("orders")]`.

A call goes the way of a proxied request (`proxy.call`): over the pools of the service's instances, by its breaker, retries
and timeouts, with the caller's identity, request id and trace. Paths are relative to the service's URL, with its base path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack
from urllib.parse import urlencode

import orjson
from fastapi import Response
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from propylon.control.call_target import Params, target_of
from propylon.control.called import ServiceResponse
from propylon.control.identity import Dependency
from propylon.errors import InternalError, ServiceUnavailable
from propylon.proxy.call import Asked, Callee, Caller
from propylon.proxy.exchange import Exchange
from propylon.upstream.inprocess import CONTEXT, TIME_LEFT
from propylon.upstream.ports import NEVER
from propylon.wire.grammar import TOKEN_TEXT

__all__ = ["ANSWER", "CALLS", "Calls", "Service", "called_services", "service"]

# The key in the scope's `state` under which endpoints find what makes calls.
CALLS = "propylon.calls"
# The FastAPI response of the endpoint that runs: whoever gathers parts sets its status.
ANSWER: ContextVar[Response | None] = ContextVar("propylon.answer", default=None)

# Bytes of an answer that is read whole: it waits in memory, and with it those of all other calls. Larger ones are streamed.
_MAX_ANSWER = 16 * 1024 * 1024
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
# What RFC 9110, 9.3 gives a body; without one the service has to be told that it is empty.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# RFC 9110, 9.3.6 and 9.3.8: a tunnel, and what would show the service's view of the caller's token.
_REFUSED = frozenset({"CONNECT", "TRACE"})

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]


class Options(TypedDict, total=False):
    """What may be said of a request, as in httpx."""

    params: Params | None
    headers: HeadersLike | None
    json: Any
    data: Mapping[str, Any] | None
    content: bytes | str | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Calls:
    """What makes calls: `callee` returns the service of a name, None if there is none."""

    caller: Caller
    callee: Callable[[str], Callee | None]


class Service:
    """A service as an endpoint calls it, for one request of a client.

    Every method raises CircuitOpen, ServiceUnavailable, UpstreamError or UpstreamTimeout, which become the gateway's error
    envelope where the endpoint does not catch them. The status of an answer raises nothing before `raise_for_status`.

    `params` are added to the query. Of `json`, `data` (a form) and `content` one may be the body. `timeout` in seconds
    shortens the service's own timeouts, and never makes them longer.
    """

    def __init__(
        self,
        name: str,
        calls: Calls,
        callee: Callee,
        parent: Exchange,
        left: Callable[[], float],
    ) -> None:
        """Call the service on behalf of the client of `parent`; `left` returns the seconds until its answer is due."""
        self.name = name
        self._calls = calls
        self._callee = callee
        self._parent = parent
        self._left = left

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Service {self.name}>"

    async def request(self, method: str, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a request and return the whole answer; the options are those of `stream`."""
        async with self.stream(method, path, **options) as response:
            await response.aread()
            return response

    async def get(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a GET."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a HEAD."""
        return await self.request("HEAD", path, **options)

    async def options(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send an OPTIONS."""
        return await self.request("OPTIONS", path, **options)

    async def post(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a POST."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a PUT."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a PATCH."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Unpack[Options]) -> ServiceResponse:
        """Send a DELETE."""
        return await self.request("DELETE", path, **options)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, **options: Unpack[Options]
    ) -> AsyncIterator[ServiceResponse]:
        """Send a request; the block has the answer as soon as its head has arrived. Leaving the block ends the call."""
        asked = _asked(_method(method), path, options)
        call = self._calls.caller.begin(self._parent, self._callee, asked, self._left())
        try:
            yield ServiceResponse(self.name, await call.answered(), call, _MAX_ANSWER)
        finally:
            call.close()


def _asked(method: str, path: str, options: Options) -> Asked:
    sent, query = target_of(path, options.get("params"))
    body, kind = _body(options.get("json"), options.get("data"), options.get("content"))
    if body is None and method in _WITH_BODY:
        body = b""
    return Asked(
        method,
        sent,
        query,
        headers=tuple(_pairs(options.get("headers"))),
        body=body,
        content_type=kind,
        timeout=_timeout(options.get("timeout")),
    )


def _method(method: str) -> str:
    method = method.upper()
    if TOKEN_TEXT.fullmatch(method) is None or method in _REFUSED:
        msg = f"{method!r:.40} is no method of a call"
        raise ValueError(msg)
    return method


def _timeout(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        msg = f"timeout={timeout!r:.40}: write a number of seconds above 0"
        raise ValueError(msg)
    return timeout


def _pairs(headers: HeadersLike | None) -> Iterable[tuple[str, str]]:
    if headers is None:
        return ()
    return headers.items() if isinstance(headers, Mapping) else headers


def _body(
    json: Any, data: Mapping[str, Any] | None, content: bytes | str | None
) -> tuple[bytes | None, str]:
    """Return the body and its type."""
    if sum(one is not None for one in (json, data, content)) > 1:
        msg = "a request has one body: write one of json, data and content"
        raise ValueError(msg)
    if json is not None:
        return orjson.dumps(json, default=_plain), _JSON
    if data is not None:
        return urlencode(data, doseq=True).encode("ascii"), _FORM
    return content.encode() if isinstance(content, str) else content, ""


def _plain(value: object) -> object:
    """Return a pydantic model as orjson takes it. Raises TypeError for what is no JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError


class _Injected(Dependency):
    """A dependency that is the service of a name: two of the same name are one, also in `dependency_overrides`."""

    name: str

    def __init__(self, name: str) -> None:
        super().__init__(f'service("{name}")')
        object.__setattr__(self, "name", name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Injected) and other.name == self.name

    def __hash__(self) -> int:
        return hash((_Injected, self.name))

    async def __call__(self, connection: HTTPConnection, response: Response) -> Service:
        """Return the service, for the client that has sent this request."""
        state = connection.scope.get("state") or {}
        calls, parent = state.get(CALLS), state.get(CONTEXT)
        if not isinstance(calls, Calls) or not isinstance(parent, Exchange):
            msg = "The endpoint cannot call services"
            raise ServiceUnavailable(msg, reason="no gateway is in front of the application")
        callee = calls.callee(self.name)
        if callee is None:
            msg = "The endpoint calls a service that is not configured"
            raise InternalError(msg, reason=f'no service "{self.name}"')
        ANSWER.set(response)
        return Service(self.name, calls, callee, parent, state.get(TIME_LEFT, _endless))


def _endless() -> float:
    return NEVER


def service(name: str) -> Any:
    """Inject a service into an endpoint, by its name.

    The gateway does not start if its configuration has no such service.
    """
    return _Injected(name)


def called_services(dependant: Dependant) -> Iterator[str]:
    """Yield the names of the services that an endpoint, or anything that it depends on, has injected."""
    for needed in dependant.dependencies:
        if isinstance(needed.call, _Injected):
            yield needed.call.name
        yield from called_services(needed)
