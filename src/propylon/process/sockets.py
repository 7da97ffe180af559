"""Open the sockets of all listeners, before the workers are forked: addresses, Unix sockets, inherited descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from propylon.config.models.endpoints import PUBLIC, REDIRECT, listeners_of
from propylon.config.models.listeners import (
    DEFAULT_MODE,
    Address,
    Descriptor,
    Systemd,
    Tcp,
    UnixPath,
)
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import parse_listen
from propylon.process.holder import holder
from propylon.process.inherited import adopt, passed_by_systemd

__all__ = [
    "BACKLOG",
    "CannotListen",
    "Listening",
    "Wanted",
    "addresses",
    "bind",
    "listen",
    "open_listeners",
    "wanted",
    "why_in_use",
]

# Linux cuts it to net.core.somaxconn (4096); uvicorn's own default is 2048.
BACKLOG = 2048
_ANY_IPV4, _ANY_IPV6 = "0.0.0.0", "::"


class CannotListen(Exception):
    """The address or the certificate cannot be used; the message is one clear sentence."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listener as the configuration describes it; `edge` is the name of its `EdgeState`."""

    edge: str
    address: Address
    tls: bool = False
    proxied: bool = False
    mode: int = int(DEFAULT_MODE, 8)
    ipv6_only: bool = False


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener whose sockets are open; `made` is the Unix socket's identity where this process has made it."""

    wanted: Wanted
    sockets: Sequence[socket.socket] = field(default_factory=list)
    made: tuple[int, int] | None = None  # device and inode

    def __str__(self) -> str:
        """Return the address, for messages."""
        return str(self.wanted.address)

    def close(self) -> None:
        """Stop listening in this process."""
        for sock in self.sockets:
            sock.close()

    def remove(self) -> None:
        """Remove the Unix socket from its directory, unless another process has put its own there meanwhile."""
        if isinstance(self.wanted.address, UnixPath) and self.made is not None:
            path = Path(self.wanted.address.path)
            with contextlib.suppress(FileNotFoundError):
                if _identity(path) == self.made:
                    path.unlink()


def wanted(config: GatewayConfig) -> Iterator[Wanted]:
    """Yield all listeners of a configuration: the public ones first, then those of `admin` and `metrics`."""
    has_certificate = bool(config.tls.pairs)
    server = config.server
    if server.listen is None:
        yield Wanted(PUBLIC, Tcp(server.host, server.port), tls=has_certificate)
    listen = server.listen or ()
    for one in listen:
        address = one.parsed
        yield Wanted(
            PUBLIC if one.redirect is None else REDIRECT,
            address,
            tls=bool(one.tls),
            proxied=one.proxy_protocol,
            mode=int(one.mode or DEFAULT_MODE, 8),
            ipv6_only=_shares_its_port(address, [other.parsed for other in listen]),
        )
    for name in listeners_of(config):
        yield Wanted(name, Tcp(*parse_listen(name)), tls=has_certificate)


def _shares_its_port(address: Address, others: list[Address]) -> bool:
    """Tell whether 0.0.0.0 stands beside [::] with the same port: a dual-stack socket could not be bound then."""
    return isinstance(address, Tcp) and Tcp(_ANY_IPV4, address.port) in others


def open_listeners(config: GatewayConfig) -> list[Listening]:
    """Open all listeners of a configuration. Raises CannotListen; none is left open then."""
    opened: list[Listening] = []
    try:
        for one in wanted(config):
            _check_certificate(one, config)
            opened.append(_open(one))
    except CannotListen:
        for listening in opened:
            listening.close()
            listening.remove()
        raise
    return opened


def _check_certificate(one: Wanted, config: GatewayConfig) -> None:
    """Raise CannotListen for TLS without a certificate: a configuration that code has made was not checked for it."""
    if one.tls and not config.tls.pairs:
        msg = f"cannot listen on {one.address} with TLS: set tls.certificate and tls.key"
        raise CannotListen(msg)


def _open(one: Wanted) -> Listening:
    address = one.address
    if isinstance(address, Tcp):
        return Listening(one, listen(address.host, address.port, ipv6_only=one.ipv6_only))
    if isinstance(address, UnixPath):
        sock = _listen_unix(address.path, one.mode)
        return Listening(one, [sock], _identity(Path(address.path)))
    return Listening(one, _inherited(address, os.environ))


def listen(host: str, port: int, *, ipv6_only: bool = False) -> list[socket.socket]:
    """Bind every address of `host`; `::` takes IPv4 as well, unless `ipv6_only`. Raises CannotListen."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses(host, port):
            sockets.append(sock := socket.socket(family, kind, protocol))
            bind(sock, address, ipv6_only=ipv6_only)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except (OSError, OverflowError) as error:
        for sock in sockets:
            sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            found = holder(port)
            reason += f" by {found}" if found else ""
            reason += "; choose another port (--port, server.port)"
        msg = f"cannot listen on {host}:{port}: {reason}"
        raise CannotListen(msg) from error
    return sockets


_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]


def addresses(host: str, port: int) -> list[_Found]:
    """Return what `getaddrinfo` finds for a host to listen on. Raises CannotListen.

    Where the machine has no IPv6, `::` is all addresses of IPv4, as in Node.js: an image that listens on both must start
    there, too.
    """
    if host == _ANY_IPV6 and not _has_ipv6():
        host = _ANY_IPV4
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        msg = f'cannot listen on "{host}": the host is not known'
        raise CannotListen(msg) from error
    return list(dict.fromkeys(found))


def _has_ipv6() -> bool:
    """Tell whether the kernel has IPv6 (`ipv6.disable=1` takes it away)."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def bind(sock: socket.socket, address: tuple[object, ...], *, ipv6_only: bool = False) -> None:
    """Bind a TCP socket. Raises OSError, OverflowError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        # Said in any case: the default is the machine's (net.ipv6.bindv6only).
        alone = ipv6_only or address[0] != _ANY_IPV6
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(alone))
    sock.bind(address)


def _listen_unix(path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_unix(sock, path, mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        msg = f"cannot listen on unix:{path}: {error.strerror}"
        raise CannotListen(msg) from error
    except CannotListen:
        sock.close()
        raise
    return sock


def _bind_unix(sock: socket.socket, path: str, mode: int) -> None:
    """Bind a path, in the place of a socket that a dead process has left there."""
    # Not by chmod alone: between the two calls other users could connect.
    before = os.umask(0o777 & ~mode)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(Path(path))
            sock.bind(path)
    finally:
        os.umask(before)
    Path(path).chmod(mode)  # not every system obeys the umask for sockets


def _remove_stale(path: Path) -> None:
    """Remove a socket on which no process listens any more. Raises CannotListen for anything else."""
    if (doubt := why_in_use(path)) is not None:
        msg = f"cannot listen on unix:{path}: {doubt}"
        raise CannotListen(msg)
    path.unlink(missing_ok=True)


def why_in_use(path: Path) -> str | None:
    """Say why a path that exists must not be replaced; None for a socket on which no process listens any more."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return "a file is there that is no socket; remove it, or write another path"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return None
        except OSError:  # its queue is full, or it is not for this user
            pass
    return "another process listens there"


def _inherited(
    address: Systemd | Descriptor, environ: MutableMapping[str, str]
) -> list[socket.socket]:
    try:
        numbers = (
            [address.number] if isinstance(address, Descriptor) else passed_by_systemd(environ)
        )
        return [adopt(number) for number in numbers]
    except ValueError as error:
        msg = f"cannot listen on {address}: {error}"
        raise CannotListen(msg) from error


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return (found.st_dev, found.st_ino)
