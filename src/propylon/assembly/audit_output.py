"""Connect the audit log with its output: the access log's writer, or a file of its own."""

from __future__ import annotations

import asyncio
import logging

from propylon.config.models.server import AuditConfig
from propylon.telemetry.access_log import Format
from propylon.telemetry.audit import Audit, as_line, to_file
from propylon.telemetry.writer import LineWriter

__all__ = ["attach_audit"]

log = logging.getLogger(__name__)


def attach_audit(
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
