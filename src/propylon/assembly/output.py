"""Connect what a worker writes with where it goes: the access log, its own messages, and the audit log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import orjson

from propylon.assembly.components import Components
from propylon.config.models.log import AuditConfig, LogConfig, SyslogConfig
from propylon.config.models.schema import GatewayConfig
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
from propylon.telemetry.audit import as_line
from propylon.telemetry.families import LOG_LOST
from propylon.telemetry.files import File, check_file
from propylon.telemetry.logs import LogOutput, WriterHandler
from propylon.telemetry.losses import LostLines, Outage
from propylon.telemetry.selection import edit_of, passes_of
from propylon.telemetry.syslog import Syslog, Target, as_syslog
from propylon.telemetry.writer import STDOUT, LineWriter, to_descriptor, to_stdout

__all__ = ["Output", "check_log_files"]

log = logging.getLogger(__name__)

_STDERR = 2
# Seconds for which lines go on into a file that was renamed, until there is another one.
_PATIENCE = 2.0


class Output:
    """All logs of a worker, for as long as its loop runs."""

    def __init__(
        self, components: Components, config: GatewayConfig, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Write to where the configuration says from now on; the audit log may have a file of its own."""
        self._loop = loop
        self._metrics = components.metrics
        owner = components.owns_process
        render = _format(config.log)
        self._writer = self._open(config.log, render, owner=owner)
        self._messages = LogOutput(WriterHandler(self._writer, render), exclusive=owner)
        self.access_log = AccessLog(self._writer, level=config.log.level, render=render)
        self._audit = components.audit
        self._audit_file = self._attach(config.log.audit, render)

    def apply(self, config: GatewayConfig) -> None:
        """Write what a configuration asks for: levels, which records, which fields."""
        said = config.log
        self.access_log.apply(
            said.level,
            said.skip,
            fields=said.fields,
            passes=passes_of(said.min_status, said.slower_than, said.sample),
            edit=edit_of(said.keep, said.drop, said.redact),
        )
        self._messages.set_level(LEVELS[said.level])

    def reopen(self) -> None:
        """Open the files anew: a program has rotated them."""
        self._writer.reopen()
        if self._audit_file is not None:
            self._audit_file.reopen()

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

    def _open(self, said: LogConfig, render: Format, *, owner: bool) -> LineWriter:
        """Return the writer of the log: to a file, to a syslog daemon, or to standard output."""
        if said.file is not None:
            file = File(said.file, self._losses(said.file, "file"), patience=_PATIENCE)
            return LineWriter(file, self._loop, reopen=file.reopen, lost=self._counter("file"))
        if said.syslog is not None:
            output = Syslog(_target(said.syslog), self._losses(said.syslog.address, "syslog"))
            return LineWriter(output, self._loop, render=render, lost=self._counter("syslog"))
        out = to_descriptor(STDOUT) if owner else to_stdout
        return LineWriter(out, self._loop, lost=self._counter("stdout"))

    def _losses(self, where: str, output: str) -> Outage:
        return Outage(where, self._loop.call_soon_threadsafe, self._counter(output), _say)

    def _counter(self, output: str) -> Callable[[int], None]:
        def count(lines: int) -> None:
            self._metrics.row(LOG_LOST, output)[0] += lines

        return count

    def _attach(self, written: AuditConfig, render: Format) -> LineWriter | None:
        """Begin the audit log; return the writer of its file, if it has one. Without, records go where the log goes."""
        if written.key is not None:
            self._audit.use_key(written.key.get_secret_value().encode())
        if written.file is None:
            shared = self._writer
            self._audit.attach(lambda fields: shared.write(render(fields)))
            return None
        count = self._counter("audit")
        file = File(written.file, _AuditLosses(self._loop.call_soon_threadsafe, count))
        writer = LineWriter(file, self._loop, reopen=file.reopen, lost=count)
        self._audit.attach(lambda fields: writer.write(as_line(fields)))
        return writer


class _AuditLosses(LostLines):
    """Says of each batch of the audit log that it is lost: its records are evidence."""

    def lost(self, error: OSError, batch: bytes) -> None:
        """Count the lines, and say that they are lost; in the writer's thread."""
        super().lost(error, batch)
        message = "the audit log cannot be written, records are lost: %s"
        try:
            self._soon(log.error, message, error)
        except RuntimeError:
            return  # the loop is closed


def check_log_files(loaded: Loaded) -> None:
    """Raise ConfigError if a file of the log cannot be written: a gateway must not lose its records."""
    said = loaded.config.log
    for place, file in ((("log", "file"), said.file), (("log", "audit", "file"), said.audit.file)):
        if file is None:
            continue
        try:
            check_file(file)
        except OSError as error:
            message = f"cannot write {file}: {(error.strerror or 'unknown reason').lower()}"
            raise ConfigError([loaded.places.problem(place, message)]) from error


def _say(message: str) -> None:
    """Say on standard error what the log cannot say; in the writer's thread."""
    line = {"level": "error", "event": message, "logger": __name__}
    to_descriptor(_STDERR)(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _target(said: SyslogConfig) -> Target:
    if said.path is not None:
        return Target("unix", path=said.path)
    kind, host, port = said.remote
    return Target(kind, host=host, port=port)


def _format(said: LogConfig) -> Format:
    if said.syslog is not None:
        return as_syslog(said.syslog.facility, said.syslog.app_name)
    # A file is for programs, whoever watches standard output.
    written = said.format or ("json" if said.file is not None else None)
    if format_of(written) == "text":
        return partial(as_text, coloured=said.file is None and on_terminal())
    return as_json
