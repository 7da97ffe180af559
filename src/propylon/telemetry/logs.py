"""Send the records of Python's logging to the same writer, in the same form as the access log."""

from __future__ import annotations

import logging
from typing import Any

from propylon.telemetry.access_log import Format, Stamp
from propylon.telemetry.writer import LineWriter

__all__ = ["WriterHandler"]


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
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._writer.write(self._render(fields))
