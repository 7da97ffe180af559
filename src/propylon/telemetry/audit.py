"""Write the audit log: one record for each security event.

An audit record answers four questions: who did what, to what, from where, and did it succeed. It uses the access log's
names for the same facts, so that an operator joins both logs by `request_id`:

    time level event=audit logger action outcome principal issuer target client_ip request_id trace_id method path route error

- `action` is a verb or a noun of `Action`, `outcome` is `success` or `failure`; a failure has the reason in `error`.
- `target` is `kind:name`, such as `user:ann`, `token:<jti>`, `instance:orders/10.0.0.1:80`. It never holds a token.
- `principal` is null where no user is behind the event, such as a reload by a signal. `issuer` is the issuer of the
  principal's token, null if the token names none: with several issuers, a subject alone does not say who it is.
- With `X-Privacy-Level: strict` a keyed hash stands for each user, in `principal` and in `target`. Equal users have
  equal hashes, so the records of one user can still be counted.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Any, Literal

import orjson

from propylon.proxy.exchange import Exchange
from propylon.telemetry.access_log import Stamp

__all__ = ["SILENT", "Audit", "Outcome", "as_line", "pseudonymous"]

Outcome = Literal["success", "failure"]
Sink = Callable[[dict[str, Any]], None]
"""Takes a record, and returns at once."""

_USER = "user:"
# Hexadecimal digits: 64 bits. Two of a million users share a hash once in forty million gateways.
_DIGITS = 16
_KEY = 32  # bytes: as long as the hash (RFC 2104, 3)
# A client chooses the name with which a login fails. The longest name of a user is 128 characters.
_LONGEST = 256


class Audit:
    """The port through which endpoints and the assembly report security events.

    It exists before there is a loop. A record without a sink is dropped; `attach` brings the sink.
    """

    def __init__(self, key: bytes = b"") -> None:
        """`key` is the key of the hashes; without one it is random, so hashes of two processes differ."""
        self._key = key or os.urandom(_KEY)
        self._sink: Sink | None = None
        self._stamp = Stamp()

    def use_key(self, key: bytes) -> None:
        """Hash with `key` from now on; an empty one changes nothing."""
        self._key = key or self._key

    def attach(self, sink: Sink | None) -> None:
        """Write to `sink` from now on; None drops what comes."""
        self._sink = sink

    def record(
        self,
        action: str,
        outcome: Outcome,
        *,
        exchange: Exchange | None = None,
        principal: str | None = None,
        target: str | None = None,
        error: str | None = None,
    ) -> None:
        """Write one record.

        `exchange` is the request behind the event, if there is one. It tells from where, the request's id, and who,
        unless `principal` is given. `target` begins with `user:` if and only if it names a user.
        """
        if self._sink is None:
            return
        fields: dict[str, Any] = {
            "time": self._stamp(),
            "level": "info" if outcome == "success" else "warning",
            "event": "audit",
            "logger": "propylon.audit",
            "action": action,
            "outcome": outcome,
            "principal": principal,
            "issuer": None,
            # A client may send a lone surrogate, which no line of JSON can hold.
            "target": (
                None if target is None else target[:_LONGEST].encode("utf-8", "replace").decode()
            ),
            "client_ip": None,
            "request_id": None,
            "trace_id": None,
            "method": None,
            "path": None,
            "route": None,
            "error": error,
        }
        if exchange is not None:
            self._add_exchange(fields, exchange)
        self._sink(fields)

    def _add_exchange(self, fields: dict[str, Any], exchange: Exchange) -> None:
        fields["client_ip"] = exchange.downstream.origin.client
        fields["request_id"] = exchange.request_id.decode()
        fields["trace_id"] = exchange.trace_id.decode() or None
        if fields["principal"] is None:
            fields["principal"] = exchange.principal.subject or "anonymous"
            fields["issuer"] = exchange.principal.issuer or None
        if exchange.request is not None:
            fields["method"] = exchange.request.method
            fields["path"] = exchange.request.path.decode("latin-1")
        if exchange.route is not None:
            fields["route"] = exchange.route.name
        if exchange.privacy.strict:
            self._hide(fields)

    def _hide(self, fields: dict[str, Any]) -> None:
        """Put hashes in the place of users. The path goes, too: an endpoint about a user has the name in it."""
        if fields["principal"] != "anonymous":
            fields["principal"] = pseudonymous(self._key, fields["principal"])
        target = fields["target"]
        if target is not None and target.startswith(_USER):
            fields["target"] = _USER + pseudonymous(self._key, target.removeprefix(_USER))
        fields["path"] = fields["route"]


SILENT = Audit()
"""Writes nothing, because nothing is ever attached to it: for endpoints that are tested alone."""


def pseudonymous(key: bytes, name: str) -> str:
    """Return the keyed hash that stands for a user. Without the key no list of names leads back to the user."""
    digest = hmac.digest(key, b"propylon audit\0" + name.encode("utf-8", "surrogatepass"), "sha256")
    return f"hmac:{digest.hex()[:_DIGITS]}"


def as_line(fields: dict[str, Any]) -> bytes:
    """Render a record as one line of JSON: a file is for programs, whatever `log.format` says."""
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
