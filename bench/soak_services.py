"""One service of examples/isaas, unchanged; the realtime service can also send a channel's messages as an event stream.

PYTHONPATH names the directory of the example; the arguments are the name of the service and its port.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from importlib import import_module

import uvicorn
from fastapi.responses import StreamingResponse


class Reader(asyncio.Queue[str]):
    """A listener of the service, as its WebSockets are."""

    async def send_text(self, text: str) -> None:
        self.put_nowait(text)


def add_events(realtime: object) -> None:
    app, listeners = realtime.app, realtime.listeners  # type: ignore[attr-defined]

    async def stream(channel: str) -> AsyncIterator[str]:
        reader = Reader()
        listeners[channel].add(reader)
        try:
            yield ": listening\n\n"
            while True:
                yield f"data: {await reader.get()}\n\n"
        finally:
            listeners[channel].discard(reader)

    @app.get("/channels/{channel}/events")  # type: ignore[untyped-decorator]
    async def events(channel: str) -> StreamingResponse:
        return StreamingResponse(stream(channel), media_type="text/event-stream")


def main() -> None:
    name, port = sys.argv[1], int(sys.argv[2])
    service = import_module(f"services.{name}")
    if name == "realtime":
        add_events(service)
    uvicorn.run(service.app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
