"""Send what Python's logging gets to the same writer, in the same form as the records."""

from __future__ import annotations

import logging
from typing import Any

from propylon.telemetry.access_log import Format, Stamp
from propylon.telemetry.writer import LineWriter

__all__ = ["WriterHandler"]


class WriterHandler(logging.Handler):
    """A logging handler over a LineWriter."""

    def __init__(self, writer: LineWriter, render: Format) -> None:
        """Render each record with `render` and write it."""
        super().__init__()
        self._writer = writer
        self._render = render
        self._stamp = Stamp()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        fields: dict[str, Any] = {
            "time": self._stamp(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._writer.write(self._render(fields))
