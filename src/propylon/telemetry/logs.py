"""Send what Python's logging gets to the same writer, in the same form as the records.

In a process of its own (`propylon run`) the gateway has the logger `propylon` for itself. Embedded in an application
it is a guest: where the host has configured logging, the host's handlers and levels hold; where it has not, the
gateway adds its handler for as long as it runs. What it found is restored at the stop either way.
"""

from __future__ import annotations

import logging
from typing import Any

from propylon.proxy.exchange import CURRENT
from propylon.telemetry.access_log import Format, Stamp
from propylon.telemetry.writer import LineWriter

__all__ = ["LogOutput", "WriterHandler"]


class WriterHandler(logging.Handler):
    """A handler for Python's logging that writes to a LineWriter."""

    def __init__(self, writer: LineWriter, render: Format) -> None:
        """`render` turns the fields of a record into a line."""
        super().__init__()
        self._writer = writer
        self._render = render
        self._stamp = Stamp()

    def emit(self, record: logging.LogRecord) -> None:
        """Render the record and hand it to the writer."""
        fields: dict[str, Any] = {
            "time": self._stamp(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        exchange = CURRENT.get(None)  # of the request for which a team's code has logged it
        if exchange is not None:
            fields["trace_id"] = exchange.trace_id.decode("ascii")
        # Facts of the event, under the names that the access log has for them.
        fields.update(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._writer.write(self._render(fields))


class LogOutput:
    """The logger `propylon` while a gateway runs; in a process of its own, what other libraries log, too."""

    def __init__(self, handler: logging.Handler, *, exclusive: bool) -> None:
        """Add `handler`. `exclusive`: the process is the gateway's own, and nothing goes to the root's handlers.

        asyncio, uvicorn and the database's driver log to loggers of their own. Without a handler Python would write
        their lines to standard error as they are, in the middle of lines of JSON. Where a team's module has given the
        root a handler, that one gets them.
        """
        self._logger = logging.getLogger("propylon")
        self._handler = handler
        self._before = (self._logger.level, self._logger.propagate)
        self._guest = not exclusive and self._logger.hasHandlers()
        self._root: logging.Logger | None = None
        if self._guest:
            return
        self._logger.addHandler(handler)
        if exclusive:
            self._logger.propagate = False
            self._take_others()

    def _take_others(self) -> None:
        root = logging.getLogger()
        if not root.handlers:
            self._root = root
            root.addHandler(self._handler)
            logging.captureWarnings(capture=True)

    def set_level(self, level: int) -> None:
        """Let lines of at least this level through, unless the host decides that."""
        if not self._guest:
            self._logger.setLevel(level)

    def close(self) -> None:
        """Leave the logger as it was found."""
        if self._guest:
            return
        if self._root is not None:
            logging.captureWarnings(capture=False)
            self._root.removeHandler(self._handler)
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]
