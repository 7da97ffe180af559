"""Try what a start would do with listeners and certificates, for `propylon check`: nothing stays open, nothing is removed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from propylon.config.models.certificates import TlsConfig
from propylon.config.models.endpoints import PUBLIC, REDIRECT
from propylon.config.models.listeners import Tcp, UnixPath
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.rules import CERTIFICATE, IN_USE, Rule
from propylon.process.certificates import certificate_doubts, tls_context
from propylon.process.holder import holder
from propylon.process.sockets import (
    CannotListen,
    Wanted,
    addresses,
    bind,
    wanted,
    why_in_use,
)

__all__ = ["Found", "rehearse"]

_PATH = tuple[str | int, ...]


class Found(NamedTuple):
    """What is wrong with the value at `path`; a doubt has a rule, and does not keep the gateway from starting."""

    path: _PATH
    message: str
    doubt: Rule | None = None


def rehearse(config: GatewayConfig) -> Iterator[Found]:
    """Yield what would keep the gateway from starting here, and what clients would not accept."""
    yield from _certificates(config)
    for at, one in enumerate(wanted(config)):
        yield from _listener(_place(config, one, at), one)


def _certificates(config: GatewayConfig) -> Iterator[Found]:
    tls = config.tls
    for at, pair in enumerate(tls.pairs):
        alone = {**pair.model_dump(), "certificates": (), "clients": None}
        if problem := _unusable(tls.model_copy(update=alone)):
            yield Found(_place_of_pair(tls, at), problem)
            return
    if problem := _unusable(tls):
        yield Found(("tls", "clients", "ca"), problem)
    for at, doubt in certificate_doubts(tls):
        yield Found(_place_of_pair(tls, at), doubt, CERTIFICATE)


def _unusable(tls: TlsConfig) -> str | None:
    if not tls.pairs:
        return None
    try:
        tls_context(tls)
    except CannotListen as error:
        return str(error)
    return None


def _place_of_pair(tls: TlsConfig, at: int) -> _PATH:
    if tls.certificate is None:
        return ("tls", "certificates", at)
    return ("tls", "certificates", at - 1) if at else ("tls", "certificate")


def _place(config: GatewayConfig, one: Wanted, at: int) -> _PATH:
    if one.edge in {PUBLIC, REDIRECT}:
        return ("server", "port") if config.server.listen is None else ("server", "listen", at)
    return ("admin" if one.edge == config.admin.listen else "metrics", "listen")


def _listener(path: _PATH, one: Wanted) -> Iterator[Found]:
    """Try one listener; what systemd or another parent passes is not there yet."""
    if isinstance(one.address, UnixPath):
        yield from _unix(path, Path(one.address.path))
    elif isinstance(one.address, Tcp):
        yield from _tcp(path, one.address, ipv6_only=one.ipv6_only)


def _tcp(path: _PATH, address: Tcp, *, ipv6_only: bool) -> Iterator[Found]:
    try:
        for family, kind, protocol, _, where in addresses(address.host, address.port):
            with socket.socket(family, kind, protocol) as sock:
                bind(sock, where, ipv6_only=ipv6_only)
    except CannotListen as error:
        yield Found(path, str(error))
    except (OSError, OverflowError) as error:
        # As `nginx -t`: it is mostly the gateway itself that runs there, and is about to be reloaded.
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = ""
        if in_use:
            advice = f", by {holder(address.port) or 'this gateway or by another program'}"
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        yield Found(
            path, f"cannot listen on {address}: {reason}{advice}", IN_USE if in_use else None
        )


def _unix(path: _PATH, file: Path) -> Iterator[Found]:
    if not file.parent.is_dir():
        yield Found(path, f"there is no directory {file.parent}; make it, or write another path")
    elif not os.access(file.parent, os.W_OK):
        yield Found(path, f"the directory {file.parent} cannot be written by this user")
    elif file.exists() and (reason := why_in_use(file)) is not None:
        doubt = IN_USE if file.is_socket() else None
        yield Found(path, f"cannot listen on unix:{file}: {reason}", doubt)
