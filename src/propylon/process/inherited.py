"""Take over sockets that the process has inherited: from systemd (socket activation), or from any other parent.

systemd opens the sockets before it starts the service, and passes them from descriptor 3 on (sd_listen_fds(3)).
`LISTEN_PID` names the process that they are for. A process that inherits the variables from its parent, but not the
sockets, must leave them alone: its descriptor 3 is something else.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import MutableMapping

__all__ = ["adopt", "passed_by_systemd"]

_START = 3  # SD_LISTEN_FDS_START
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_NUMBER = re.compile(r"[0-9]{1,9}")


def passed_by_systemd(environ: MutableMapping[str, str]) -> range:
    """Return the descriptors that systemd passes to this process; take the variables out, for its children.

    Raises ValueError where it passes none.
    """
    pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if not _NUMBER.fullmatch(pid) or int(pid) != os.getpid():
        meant = f"they are for process {pid}" if pid else "LISTEN_PID is not set"
        msg = f"systemd has passed no sockets to this process: {meant}; start it by a .socket unit"
        raise ValueError(msg)
    if not _NUMBER.fullmatch(count) or not int(count):
        msg = f'LISTEN_FDS is "{count}": systemd has passed no socket'
        raise ValueError(msg)
    for name in _VARIABLES:
        environ.pop(name, None)
    return range(_START, _START + int(count))


def adopt(number: int) -> socket.socket:
    """Return the listening socket behind a descriptor. Raises ValueError for anything else."""
    try:
        # It must not reach the programs that this process may start (sd_listen_fds does the same).
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        msg = f"descriptor {number} is no open socket: {error.strerror}"
        raise ValueError(msg) from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.detach()
        msg = f"descriptor {number} is no listening stream socket"
        raise ValueError(msg)
    sock.setblocking(False)
    return sock
