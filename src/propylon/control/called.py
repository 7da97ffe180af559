"""Hold what a service has answered to an endpoint's call, as users of httpx expect it."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import orjson
from starlette.datastructures import Headers

from propylon.errors import BadResponse, UpstreamStatus
from propylon.proxy.call import Call
from propylon.wire.headers import fields
from propylon.wire.message import Response

__all__ = ["ServiceResponse"]

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_SUCCESS = range(200, 300)
_FIRST_ERROR = 400


class ServiceResponse:
    """The answer of a service: `status_code`, `headers`, `content`, `text`, `json()`, `raise_for_status()`.

    Of a stream the body is read with `aiter_bytes`, `aiter_text`, `aiter_lines` or `aread`.
    """

    def __init__(self, service: str, head: Response, call: Call, limit: int) -> None:
        """Take the head of an answer; `limit` is the most bytes that `aread` keeps in memory."""
        self.service = service
        self.status_code = head.status
        self.headers = Headers(
            raw=[(name.lower(), value) for name, value in fields(call.block) if name]
        )
        self._call = call
        self._limit = limit
        self._content: bytes | None = None
        self._json: Any = None
        self._is_decoded = False

    def __repr__(self) -> str:
        """Show the service and the status."""
        return f"<ServiceResponse {self.service} [{self.status_code} {self.reason_phrase}]>"

    @property
    def reason_phrase(self) -> str:
        """The standard phrase of the status; empty for a status that has none."""
        return _PHRASES.get(self.status_code, "")

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return self.status_code in _SUCCESS

    @property
    def is_error(self) -> bool:
        """Whether the status is a 4xx or 5xx."""
        return self.status_code >= _FIRST_ERROR

    @property
    def content(self) -> bytes:
        """The body. Raises RuntimeError for a stream that was not read yet."""
        if self._content is None:
            msg = "the body of a stream is not read yet: await response.aread()"
            raise RuntimeError(msg)
        return self._content

    @property
    def encoding(self) -> str:
        """The charset of Content-Type where Python knows it, else UTF-8."""
        return _charset(self.headers.get("content-type", ""))

    @property
    def text(self) -> str:
        """The body as text; what is no text in its charset becomes U+FFFD."""
        return self.content.decode(self.encoding, errors="replace")

    def json(self) -> Any:
        """Return the body as JSON, decoded once. Raises BadResponse if it is none."""
        if not self._is_decoded:
            try:
                self._json = orjson.loads(self.content)
            except orjson.JSONDecodeError as error:
                msg = f'The service "{self.service}" did not answer with JSON'
                details = {"service": self.service, "status": self.status_code}
                raise BadResponse(msg, details=details, reason=str(error)) from error
            self._is_decoded = True
        return self._json

    def raise_for_status(self) -> ServiceResponse:
        """Return this response if its status is a 2xx. Raises UpstreamStatus, with the response, otherwise."""
        if self.is_success:
            return self
        msg = f'The service "{self.service}" answered {self.status_code}'
        details = {"service": self.service, "status": self.status_code}
        raise UpstreamStatus(msg, response=self, details=details)

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces, as they arrive. Raises what broke it off."""
        if self._content is not None:
            yield self._content
            return
        while data := await self._call.read():
            yield data

    async def aiter_text(self) -> AsyncIterator[str]:
        """Yield the body in pieces of text."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        async for data in self.aiter_bytes():
            if text := decoder.decode(data):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    async def aiter_lines(self) -> AsyncIterator[str]:
        r"""Yield the body line by line, without the line ends (\n or \r\n)."""
        rest = ""
        async for text in self.aiter_text():
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                yield line.removesuffix("\r")
        if rest:
            yield rest

    async def aread(self) -> bytes:
        """Read the whole body and return it. Raises BadResponse for one that is too large."""
        if self._content is None:
            pieces, size = [], 0
            while data := await self._call.read():
                size += len(data)
                if size > self._limit:
                    self._call.close()
                    raise self._too_large()
                pieces.append(data)
            self._content = b"".join(pieces)
        return self._content

    def _too_large(self) -> BadResponse:
        msg = f'The answer of the service "{self.service}" is too large'
        reason = f"more than {self._limit} bytes; read it with stream()"
        return BadResponse(msg, details={"service": self.service}, reason=reason)


def _charset(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            try:
                # Not every codec of Python's is of text: "hex" and "rot13" are no charsets.
                codec = codecs.lookup(value.strip(' "'))
            except LookupError:
                return "utf-8"
            return codec.name if getattr(codec, "_is_text_encoding", True) else "utf-8"
    return "utf-8"
