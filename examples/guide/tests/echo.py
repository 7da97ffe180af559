"""Play an upstream that tells what it got."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse, Response

__all__ = ["Echo"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Echo:
    """An application that answers every request with what it got, or with `answer`."""

    def __init__(self) -> None:
        """Begin with no request."""
        self.hits: list[dict[str, Any]] = []
        self.answer: Response | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer."""
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        self.hits.append(
            {
                "method": scope["method"],
                "path": scope["raw_path"].decode(),
                "query": scope["query_string"].decode(),
                "headers": dict(headers),
            }
        )
        answer = self.answer or JSONResponse(self.hits[-1])
        await answer(scope, receive, send)
