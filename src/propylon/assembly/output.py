"""Connect what a worker writes with where it goes: the access log, its own messages, and the audit log."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from propylon.assembly.components import Components
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.server import AuditConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.telemetry.access_log import (
    LEVELS,
    AccessLog,
    Format,
    as_json,
    as_text,
    format_of,
    on_terminal,
)
from propylon.telemetry.audit import Audit, as_line, check_file, to_file
from propylon.telemetry.logs import LogOutput, WriterHandler
from propylon.telemetry.writer import STDOUT, LineWriter, to_descriptor, to_stdout

__all__ = ["Output", "check_audit_file"]

log = logging.getLogger(__name__)


class Output:
    """All logs of a worker, for as long as its loop runs."""

    def __init__(
        self, components: Components, config: GatewayConfig, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Write to standard output from now on; the audit log may have a file of its own."""
        render = _format(config)
        owner = components.owns_process
        self._writer = LineWriter(to_descriptor(STDOUT) if owner else to_stdout, loop)
        self._messages = LogOutput(WriterHandler(self._writer, render), exclusive=owner)
        self.access_log = AccessLog(self._writer, level=config.log.level, render=render)
        self._audit = components.audit
        self._audit_file = _attach(self._audit, config.log.audit, self._writer, render, loop)

    def apply(self, config: GatewayConfig) -> None:
        """Write what a configuration asks for: levels, what is skipped, which fields."""
        self.access_log.apply(config.log.level, config.log.skip, config.log.fields)
        self._messages.set_level(LEVELS[config.log.level])

    def set_level(self, level: str) -> None:
        """Write what is at least of this level, until `apply`."""
        self.access_log.set_level(level)
        self._messages.set_level(LEVELS[level])

    def close(self) -> None:
        """Write what is left, and let go of the files."""
        self._messages.close()
        self._audit.attach(None)
        if self._audit_file is not None:
            self._audit_file.close()
        self._writer.close()


def check_audit_file(loaded: Loaded) -> None:
    """Raise ConfigError if the file of the audit log cannot be written: a gateway must not lose its records."""
    file = loaded.config.log.audit.file
    if file is None:
        return
    try:
        check_file(file)
    except OSError as error:
        message = f"cannot write {file}: {(error.strerror or 'unknown reason').lower()}"
        place = loaded.places.problem(("log", "audit", "file"), message)
        raise ConfigError([place]) from error


def _format(config: GatewayConfig) -> Format:
    if format_of(config.log.format) == "text":
        return partial(as_text, coloured=on_terminal())
    return as_json


def _attach(
    audit: Audit,
    written: AuditConfig,
    shared: LineWriter,
    render: Format,
    loop: asyncio.AbstractEventLoop,
) -> LineWriter | None:
    """Begin the audit log; return the writer of its file, if it has one. Without a file, records go to `shared`."""
    if written.key is not None:
        audit.use_key(written.key.get_secret_value().encode())
    if written.file is None:
        audit.attach(lambda fields: shared.write(render(fields)))
        return None

    def on_failure(error: OSError) -> None:
        """Say, from the writer's thread, that records are lost."""
        message = "the audit log cannot be written, records are lost: %s"
        loop.call_soon_threadsafe(log.error, message, error)

    writer = LineWriter(to_file(written.file, on_failure), loop)
    audit.attach(lambda fields: writer.write(as_line(fields)))
    return writer
