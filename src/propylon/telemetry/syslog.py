"""Send the log to a syslog daemon (RFC 5424): over a Unix datagram socket, UDP (RFC 5426) or TCP (RFC 6587).

Why not the handler of Python's library: it writes the older form (RFC 3164) without a time zone, waits in the caller's
thread for a TCP connection, and frames TCP by a NUL that RFC 6587 does not know.

Rules.

1. All of this runs in the writer's thread. While the daemon is away, lines are lost and counted, and nothing waits for it.
2. Over TCP each message stands behind its length (3.4.1, octet counting): a line in a message cannot be taken for another one.
3. A message is JSON, whatever `log.format` says: syslog has no lines that belong together, such as a traceback.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from propylon.telemetry.access_log import as_json
from propylon.telemetry.losses import Losses

__all__ = ["FACILITIES", "Syslog", "Target", "as_syslog"]

FACILITIES: Mapping[str, int] = {
    name: number
    for number, name in enumerate(
        [
            "kern",
            "user",
            "mail",
            "daemon",
            "auth",
            "syslog",
            "lpr",
            "news",
            "uucp",
            "cron",
            "authpriv",
            "ftp",
            "ntp",
            "audit",
            "alert",
            "clock",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ]
    )
}
# RFC 5424, 6.2.1.
_SEVERITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
_KINDS = frozenset({"request", "audit", "call"})
_NOT_VISIBLE = re.compile(r"[^!-~]")
_LONGEST_HOST = 255
# Bytes of a datagram. RFC 5426, 3.2 wants 2048 to be taken; rsyslog and journald take 8 KiB and more.
_LONGEST_DATAGRAM = 8192
# Seconds: to connect and to send, and until it is tried again after a failure.
_TIMEOUT = 2.0
_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a daemon is: `path` of a Unix socket, or a host and a port with the transport `udp` or `tcp`."""

    kind: str  # unix · udp · tcp
    path: str = ""
    host: str = ""
    port: int = 0

    def connect(self) -> socket.socket:
        """Return a socket to it. Raises OSError."""
        if self.kind == "unix":
            return self._local()
        if self.kind == "tcp":
            return socket.create_connection((self.host, self.port), _TIMEOUT)
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        return _connected(socket.socket(family, kind, protocol), address)

    def _local(self) -> socket.socket:
        return _connected(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), self.path)


def _connected(made: socket.socket, address: Any) -> socket.socket:
    try:
        made.settimeout(_TIMEOUT)
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


def as_syslog(facility: str, app_name: str) -> Callable[[dict[str, Any]], bytes]:
    """Return what renders a record as one message, with a line end behind it."""
    host = _NOT_VISIBLE.sub("", socket.gethostname())[:_LONGEST_HOST] or "-"
    base = FACILITIES[facility] * 8
    process = os.getpid()

    def render(fields: dict[str, Any]) -> bytes:
        priority = base + _SEVERITIES.get(fields["level"], 6)
        kind = fields["event"] if fields["event"] in _KINDS else "message"
        head = f"<{priority}>1 {fields['time']} {host} {app_name} {process} {kind} - "
        return head.encode("ascii") + as_json(fields)

    return render


class Syslog:
    """The output that sends each line as a message; called in the writer's thread."""

    def __init__(
        self, target: Target, losses: Losses, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connect with the first batch: a daemon may start later than the gateway."""
        self._target = target
        self._losses = losses
        self._clock = clock
        self._socket: socket.socket | None = None
        self._not_before = 0.0
        self._why: OSError = ConnectionRefusedError("not connected")

    def __call__(self, batch: bytes) -> None:
        """Send the messages of a batch; those that cannot be sent are lost."""
        left = batch.split(b"\n")[:-1]
        if self._clock() < self._not_before:
            self._losses.lost(self._why, batch)
            return
        try:
            self._ready()
            while left:
                self._send(left[0])
                left.pop(0)
        except OSError as error:
            self.close()
            self._why, self._not_before = error, self._clock() + _AGAIN
            self._losses.lost(error, b"\n" * len(left))
        else:
            self._losses.well()

    def close(self) -> None:
        """Close the socket; the next batch opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ready(self) -> None:
        if self._socket is not None and self._has_gone():
            self.close()
        if self._socket is None:
            self._socket = self._target.connect()

    def _has_gone(self) -> bool:
        """Tell whether the daemon has closed the connection: what is sent after that arrives nowhere, and nothing says so."""
        if self._socket is None or self._target.kind != "tcp":
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        # A daemon sends nothing: what can be read is the end.
        try:
            return bool(poll.poll(0)) and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            return
        if self._target.kind == "tcp":
            self._socket.sendall(b"%d %b" % (len(message), message))
        else:
            self._socket.send(message[:_LONGEST_DATAGRAM])
