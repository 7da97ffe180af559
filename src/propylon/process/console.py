"""Say on standard error what belongs to no request: the start, dead workers, what keeps a worker from starting.

In JSON mode each line is a JSON object like those of the log, also a traceback that would end the process: a collector
that reads both streams must be able to parse every line.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.problems import ConfigError
from propylon.telemetry.access_log import Stamp, as_json, format_of

__all__ = ["PLAIN", "Console", "console_of"]

_LOGGER = "propylon.process"


class Console:
    """Standard error, in the format of the log."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._stamp = Stamp()

    def say(self, text: str) -> None:
        """Say what is as it should be."""
        self._write("info", text, f"propylon: {text}")

    def warn(self, text: str) -> None:
        """Say what is probably not meant."""
        self._write("warning", text, f"propylon: warning: {text}")

    def fail(self, text: str) -> None:
        """Say what keeps the gateway, or a worker of it, from going on."""
        self._write("error", text, f"propylon: {text}")

    def refuse(self, error: ConfigError) -> None:
        """Say what is wrong with the configuration: a line for each problem."""
        for problem in error.problems:
            self._write("error", str(problem), str(problem))

    def take_tracebacks(self) -> None:
        """In JSON mode, write a traceback that ends the process or a thread as one line."""
        if self._json:
            sys.excepthook = self._uncaught
            threading.excepthook = lambda told: self._uncaught(
                told.exc_type, told.exc_value, told.exc_traceback
            )

    def _uncaught(
        self,
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lines = traceback.format_exception(kind, error, trace)
        self._write("critical", f"uncaught {kind.__name__}", "", traceback="".join(lines))

    def _write(self, level: str, event: str, line: str, **more: str) -> None:
        if self._json:
            fields = {"time": self._stamp(), "level": level, "event": event, "logger": _LOGGER}
            line = as_json({**fields, **more}).decode().rstrip("\n")
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


PLAIN = Console(json=False)
"""For commands, which people read."""


def console_of(config: GatewayConfig) -> Console:
    """Return the console that speaks as the log of this configuration does."""
    return Console(json=format_of(config.log.format) == "json")
