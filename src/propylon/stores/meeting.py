"""Let unrelated workers meet in a directory: those of other servers, and several gateways in one process.

Each binds a datagram socket of its own in the directory and tells everything to all sockets that it finds there. Whether
a worker is still there its socket says: the kernel refuses to connect to one that no process reads. A number of a process
would not, for another container counts its own.

Only names of our own form are looked at: the kernel refuses to connect to a file that is no socket, too, and what belongs to
others is not removed.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from propylon.stores.place import Place, check_base, enter, unique_name
from propylon.stores.siblings import Channel

__all__ = ["Meeting"]

_WORKER = re.compile(r"worker-[0-9]{1,10}-[0-9a-f]{16}")
# Between the making of the file and the moment from which on it can be connected to, it looks like a dead worker's.
_UNFINISHED = ".new"


class Meeting(Channel):
    """The channel of workers that meet below a base, under a name that only their gateway has."""

    def __init__(self, base: Path, gateway: str) -> None:
        self.name = ""
        self.place: Place | None = None
        self._base = base
        self._gateway = gateway
        self._mine: socket.socket | None = None
        self._others: dict[str, socket.socket] = {}

    def open(self) -> socket.socket:
        """Bind a socket where the others will find it. Raises OSError."""
        self.place = place = enter(self._base, self._gateway)
        self.name = f"worker-{unique_name()}"
        self._mine = mine = _socket()
        try:
            check_base(self._base)
            unfinished = place.at(self.name + _UNFINISHED)
            mine.bind(str(unfinished))
            unfinished.rename(place.at(self.name))
        except OSError:
            self.close()
            raise
        return mine

    def ways(self, to: str | None) -> Iterable[tuple[str, socket.socket]]:
        """Look who is there, and return a socket to each."""
        if self.place is None or to == self.name:
            return ()
        return tuple(self._found(self.place, self._names(self.place) if to is None else (to,)))

    def _names(self, place: Place) -> Iterable[str]:
        try:
            names = os.listdir(place.path)  # noqa: PTH208 — names are what the others are known by
        except OSError:  # removed under us: the workers that we know already, we still reach
            names = []
        return {*names, *self._others} - {self.name}

    def _found(self, place: Place, names: Iterable[str]) -> Iterator[tuple[str, socket.socket]]:
        for name in names:
            found = self._others.get(name)
            if found is None and _WORKER.fullmatch(name) is not None:
                found = self._connected(place, name)
            if found is not None:
                yield name, found

    def _connected(self, place: Place, name: str) -> socket.socket | None:
        sock = _socket()
        try:
            sock.connect(str(place.at(name)))
        except ConnectionRefusedError:  # its process was killed
            self._others[name] = sock
            self.lost(name)
        except OSError:  # it has left a moment ago
            sock.close()
        else:
            self._others[name] = sock
            return sock
        return None

    def lost(self, name: str) -> None:
        """Remove the socket of a worker that is gone."""
        self._others.pop(name).close()
        if self.place is not None:
            _unlink(self.place, name)

    def close(self) -> None:
        """Leave; the last one to leave removes the directory."""
        place, self.place = self.place, None
        for sock in (self._mine, *self._others.values()):
            if sock is not None:
                sock.close()
        self._mine = None
        self._others.clear()
        if place is not None:
            _unlink(place, self.name)
            place.leave()


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def _unlink(place: Place, name: str) -> None:
    with suppress(OSError):
        place.at(name).unlink()
