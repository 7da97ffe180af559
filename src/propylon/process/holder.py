"""Say which process listens on a TCP port that is wanted, where Linux tells: root sees all, others see their own.

Only the name of the program is told: a command line may hold a password.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["holder"]

_LISTEN = "0A"  # TCP_LISTEN of Linux (include/net/tcp_states.h)
_PROC = Path("/proc")


def holder(port: int, proc: Path = _PROC) -> str:
    """Return "NAME (process NUMBER)" for the process that listens on `port`; empty where that cannot be known.

    Of several that share the socket, as workers do, it is the first one that was started.
    """
    links = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not links:
        return ""
    for pid in _pids(proc):
        if any(link in links for link in _links(proc / str(pid) / "fd")):
            try:
                name = (proc / str(pid) / "comm").read_text().strip()
            except OSError:
                continue  # it has ended meanwhile
            return f"{name} (process {pid})"
    return ""


def _inodes(port: int, proc: Path) -> Iterator[str]:
    """Return the sockets that listen on a port, at any address, from the kernel's tables (proc_net_tcp)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _pids(proc: Path) -> list[int]:
    return sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _links(folder: Path) -> Iterator[str]:
    try:
        for entry in folder.iterdir():
            try:
                yield str(entry.readlink())
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return  # another user's process, or one that has ended
