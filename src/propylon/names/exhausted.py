"""Tell the gateway's own lack of descriptors, ports and buffers from the failures of others.

Facts. Without a free descriptor no connection can be opened and no name looked up, whatever the upstream does. If that
counted as a failure of the upstream, one busy minute would open the breakers of all services, and keep them open when
the descriptors are free again.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable

from propylon.errors import LocalFault

__all__ = ["Faults", "is_local"]

log = logging.getLogger(__name__)

_MEANINGS = {
    errno.EMFILE: "this process has no file descriptor left: raise the limit (ulimit -n), or set server.max_connections",
    errno.ENFILE: "this machine has no file descriptor left: raise fs.file-max",
    errno.ENOBUFS: "this machine has no memory left for sockets: raise net.ipv4.tcp_mem",
    errno.EADDRNOTAVAIL: "this machine has no local port left for the upstream, or no address of its family: widen"
    " net.ipv4.ip_local_port_range",
}
# Seconds between two lines about the same lack: a full table fails thousands of requests a second.
_PAUSE = 10.0


def is_local(error: OSError) -> bool:
    """Whether a system call failed for lack of something of this process or machine."""
    return error.errno in _MEANINGS


class Faults:
    """Makes the errors for what the gateway lacks, and logs a line for each kind of them now and then."""

    __slots__ = ("_clock", "_next")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._next: dict[str, float] = {}  # by kind, when it may be logged again

    def of(self, error: OSError) -> LocalFault:
        """Return the error for a failure that `is_local`."""
        number = error.errno or 0
        kind = errno.errorcode.get(number, str(number))
        now = self._clock()
        if now >= self._next.get(kind, now):
            self._next[kind] = now + _PAUSE
            log.error("%s: %s", kind, _MEANINGS.get(number, error.strerror))
        return LocalFault("The gateway has no connection to spare for this request", reason=kind)

    def now(self) -> LocalFault | None:
        """Return an error if no socket can be made at this moment, else None.

        The errors of name lookups have lost the number that the system gave: dnspython and getaddrinfo have their own.
        """
        try:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
        except OSError as error:
            return self.of(error) if is_local(error) else None
        return None
