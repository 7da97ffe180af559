"""Ask the running gateway on its own listeners whether it is ready, for `propylon health`.

It is another process than the gateway: it knows where the gateway listens from the same file and variables, and asks as
a client on the same machine would. Each public listener has to answer, because one that is gone is an outage for its
clients. A listener that only redirects is not asked, nor one of the admin's: /livez and /readyz are on neither.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Address, Descriptor, Systemd, Tcp, UnixPath
from propylon.config.models.schema import GatewayConfig
from propylon.edge.trust import Trust
from propylon.process.sockets import CannotListen, Wanted, addresses, wanted

__all__ = ["LIVE", "READY", "Verdict", "ask"]

LIVE, READY = "/livez", "/readyz"

_OK = 200
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_UNKNOWN = "PROXY UNKNOWN\r\n"  # PROXY protocol, version 1: the peer itself is the client, as in a health check
# Where a listener on all addresses is reached from the machine itself.
_NEAREST = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}


class _NoAnswer(Exception):
    """The gateway has not answered 200; the message says what it did instead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one listener answered; without a problem it was 200."""

    address: str
    problem: str = ""


def ask(
    config: GatewayConfig, path: str, timeout: float, named: Address | None = None
) -> list[Verdict]:
    """Ask each public listener for `path`, or only the `named` address; `timeout` (seconds) is for all together."""
    targets = [*_public(config)] if named is None else [_named(config, named)]
    trust = Trust.of(config.server.trusted_proxies)
    return asyncio.run(_ask_all(targets, trust, path, timeout))


def _public(config: GatewayConfig) -> Iterator[Wanted]:
    """Yield the listeners to ask: of several, none that wants a client's certificate, which this command has not."""
    public = [one for one in wanted(config) if one.edge == PUBLIC]
    clients = config.tls.clients
    if clients is None or not clients.required:
        yield from public
        return
    yield from [one for one in public if not one.tls] or public


def _named(config: GatewayConfig, address: Address) -> Wanted:
    """Return the listener at this address; what the file does not name may be one that the gateway has inherited."""
    public = [one for one in wanted(config) if one.edge == PUBLIC]
    inherited = [one for one in public if isinstance(one.address, Descriptor | Systemd)]
    found = [one for one in public if one.address == address] or inherited
    like = found[0] if found else Wanted(PUBLIC, address)
    return Wanted(PUBLIC, address, tls=like.tls, proxied=like.proxied)


async def _ask_all(
    targets: Iterable[Wanted],
    trust: Trust,
    path: str,
    timeout: float,  # noqa: ASYNC109 — of the whole
) -> list[Verdict]:
    return await asyncio.gather(*(_verdict(one, trust, path, timeout) for one in targets))


async def _verdict(
    one: Wanted, trust: Trust, path: str, timeout: float  # noqa: ASYNC109 — of the whole
) -> Verdict:
    where = str(one.address)
    try:
        async with asyncio.timeout(timeout):
            status = await _status(one, trust, path)
    except TimeoutError:
        return Verdict(where, f"no answer within {timeout:g} s")
    except ssl.SSLError as error:
        return Verdict(where, _tls_problem(error))
    except (_NoAnswer, CannotListen) as error:
        return Verdict(where, str(error))
    except OSError as error:
        reason = (
            os.strerror(error.errno) if error.errno else str(error)
        )  # asyncio words it for programmers
        return Verdict(where, reason.lower())
    return Verdict(where, "" if status == _OK else f"{path} answered {status}")


def _tls_problem(error: ssl.SSLError) -> str:
    if "CERTIFICATE_REQUIRED" in str(error.reason):
        return (
            "it wants a client's certificate (tls.clients.required); add a listener for health checks,"
            " such as unix:/run/propylon/health.sock"
        )
    return f"TLS failed: {error.reason or error}"


async def _status(one: Wanted, trust: Trust, path: str) -> int:
    """Return the status of the answer. Raises OSError, _NoAnswer, CannotListen."""
    with closing(await _connected(one.address)) as sock:
        if one.proxied and trust.trusts(_own_address(sock)):
            # Without a header the gateway would close the connection.
            await asyncio.get_running_loop().sock_sendall(sock, _UNKNOWN.encode())
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=_context() if one.tls else None, server_hostname="" if one.tls else None
        )
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: propylon-health\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            line = await reader.readline()
        finally:
            writer.transport.abort()
    found = _STATUS.match(line)
    if found is None:
        msg = "what listens there speaks no HTTP" if line else "it closed the connection"
        raise _NoAnswer(msg)
    return int(found[1])


def _own_address(sock: socket.socket) -> str:
    """Return what the gateway sees as the peer's address; empty on a Unix socket."""
    name = sock.getsockname()
    return name[0] if isinstance(name, tuple) else ""


def _context() -> ssl.SSLContext:
    """Trust any certificate: the question is whether the gateway answers, and it goes no further than this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _connected(address: Address) -> socket.socket:
    """Connect to the first place of an address that takes connections. Raises OSError, _NoAnswer, CannotListen."""
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
    raise failure or _NoAnswer(_not_known(address))


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
