"""Reach a listener of the gateway on this machine, or a URL, from another process.

It knows where the gateway listens from the same file and variables, and connects as a client on the same machine would:
over TCP or a Unix socket, with TLS, and behind the PROXY protocol where a listener wants it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator

from propylon.config.models.listeners import Address, Tcp, UnixPath
from propylon.edge.trust import Trust
from propylon.process.sockets import Wanted, addresses

__all__ = ["NotReached", "connect", "in_words"]

_UNKNOWN = "PROXY UNKNOWN\r\n"  # PROXY protocol, version 1: the peer itself is the client, as in a health check
# Where a listener on all addresses is reached from the machine itself.
_NEAREST = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NotReached(Exception):
    """The listener cannot be asked; the message says why, for the operator."""


def in_words(error: OSError) -> str:
    """Return what went wrong with a connection, for operators."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    # asyncio words it for programmers.
    return (
        os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error).lower()
    )


async def connect(one: Wanted, trust: Trust) -> _Stream:
    """Return a connection to a listener. Raises OSError, NotReached, CannotListen."""
    sock = await _connected(one.address)
    try:
        if one.proxied and trust.trusts(_own_address(sock)):
            # Without a header the gateway would close the connection.
            await asyncio.get_running_loop().sock_sendall(sock, _UNKNOWN.encode())
        return await asyncio.open_connection(
            sock=sock, ssl=_context() if one.tls else None, server_hostname="" if one.tls else None
        )
    except BaseException:
        sock.close()
        raise


def _own_address(sock: socket.socket) -> str:
    """Return what the gateway sees as the peer's address; empty on a Unix socket."""
    name = sock.getsockname()
    return name[0] if isinstance(name, tuple) else ""


def _context() -> ssl.SSLContext:
    """Trust any certificate: it goes no further than this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _connected(address: Address) -> socket.socket:
    """Connect to the first place of an address that takes connections. Raises OSError, NotReached, CannotListen."""
    failure: OSError | None = None
    for family, place in _places(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, place)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):  # the time is over
                raise
            failure = error
        else:
            return sock
    raise failure or NotReached(_not_known(address))


_Place = tuple[socket.AddressFamily, str | tuple[object, ...]]


def _places(address: Address) -> Iterator[_Place]:
    if isinstance(address, UnixPath):
        yield socket.AF_UNIX, address.path
    if isinstance(address, Tcp) and address.port:
        for host in _NEAREST.get(address.host, (address.host,)):
            for family, _, _, _, place in addresses(host, address.port):
                yield family, place


def _not_known(address: Address) -> str:
    if isinstance(address, Tcp):
        return "the gateway takes any free port; name the one that it took: --port 8000"
    return "the gateway has inherited its socket; name its address: --address 127.0.0.1:8000"
