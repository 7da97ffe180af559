"""Report what an endpoint does to the audit log: one record for each call, whether it succeeds or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from propylon.control.admin import exchange_of
from propylon.errors import GatewayError
from propylon.proxy.principal import Principal
from propylon.telemetry.audit import SILENT, Audit
from propylon.telemetry.record import describe

__all__ = ["AuditEntry", "AuditTrail"]


@dataclass(slots=True)
class AuditEntry:
    """What an endpoint finds out while it works: the record is written at its end.

    `target` is as `Audit.record` has it. `subject` is who turned out to be asking, at an endpoint that takes a password
    or a refresh token instead of an access token.
    """

    target: str | None = None
    subject: str | None = None


class AuditTrail:
    """Writes a record for each `with` block."""

    def __init__(self, audit: Audit = SILENT) -> None:
        self._audit = audit

    @contextmanager
    def of(
        self, connection: HTTPConnection, action: str, target: str | None = None
    ) -> Iterator[AuditEntry]:
        """Record the action of the block: a failure if the block raises, else a success."""
        entry = AuditEntry(target)
        exchange = exchange_of(connection)
        done, error = False, None
        try:
            yield entry
            done = True
        except GatewayError as refusal:
            error = describe(refusal)
            raise
        finally:
            if done and entry.subject is not None and exchange is not None:
                # The endpoint is the stage that finds out who is asking: the access log names the user, too.
                exchange.principal = Principal(entry.subject)
            self._audit.record(
                action,
                "success" if done else "failure",
                exchange=exchange,
                principal=entry.subject,
                target=entry.target,
                error=error,
            )
