"""Ask the running gateway on its own listeners whether it is ready, for `propylon health`.

It is another process than the gateway: it knows where the gateway listens from the same file and variables, and asks as
a client on the same machine would. Each public listener has to answer, because one that is gone is an outage for its
clients. A listener that only redirects is not asked, nor one of the admin's: /livez and /readyz are on neither.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from propylon.commands.reach import NotReached, connect
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Address, Descriptor, Systemd
from propylon.config.models.schema import GatewayConfig
from propylon.edge.trust import Trust
from propylon.process.sockets import CannotListen, Wanted, wanted

__all__ = ["LIVE", "READY", "Verdict", "ask"]

LIVE, READY = "/livez", "/readyz"

_OK = 200
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class _NoAnswer(NotReached):
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
    except (NotReached, CannotListen) as error:
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
    """Return the status of the answer. Raises OSError, NotReached, CannotListen."""
    reader, writer = await connect(one, trust)
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
