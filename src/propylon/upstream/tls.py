"""Make TLS contexts for upstreams, and tell what went wrong on a TLS connection.

Facts. A context holds what is trusted and what the gateway shows of itself, and the pools know it by identity. So equal
settings have one context, and other settings never share a connection. The name that the certificate must have is no
part of it: that is `Address.name`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["SYSTEM_TRUST", "TlsSettings", "find_truncation", "tls_context", "tls_failure"]

# Contexts that are kept, so that services with equal settings share one, also over reloads. A context is some ten
# kilobytes. One that is dropped is made again, and its services then get new pools.
_MOST_CONTEXTS = 256


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What an upstream is checked against, and what it is shown; the texts are PEM.

    `ca` replaces the certificate authorities of the system. `certificate` has the chain, the leaf first. Without `verify`
    any certificate will do.
    """

    ca: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    verify: bool = True


SYSTEM_TRUST = TlsSettings()
"""The certificate authorities of the system, and no client certificate."""


@lru_cache(maxsize=_MOST_CONTEXTS)
def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context for these settings, the same for equal ones.

    Raises ValueError for PEM that cannot be used, with a reason that quotes nothing of it.
    """
    context = _checking(settings.ca)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate:
        _show(context, settings.certificate, settings.key)
    return context


def _checking(ca: str) -> ssl.SSLContext:
    """Return a context that trusts `ca`, or what the system trusts, and checks names. Raises ValueError."""
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError as error:
        msg = f"no certificate could be read ({_reason(error)})"
        raise ValueError(msg) from None
    if ca:
        # What the operator trusts need not be a root: it may be an intermediate, or the very certificate of the
        # upstream. Python's own default from 3.13 on.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load what the gateway shows of itself. Raises ValueError."""
    # OpenSSL asks at the terminal for the password of an encrypted key, unless it is given one.
    try:
        with _as_file(f"{certificate}\n{key}\n") as path:
            context.load_cert_chain(path, password=b"")
    except ssl.SSLError as error:
        msg = f"certificate and key cannot be used together ({_reason(error)})"
        raise ValueError(msg) from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Yield a path under which OpenSSL finds the text: `ssl` loads a chain and its key from files only."""
    # In memory where that is possible (Linux): a private key does not belong on a disk once more.
    in_memory = hasattr(os, "memfd_create")
    with (
        os.fdopen(os.memfd_create("propylon-tls"), "w+b") if in_memory else tempfile.TemporaryFile()
    ) as file:
        file.write(text.encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _reason(error: ssl.SSLError) -> str:
    # KEY_VALUES_MISMATCH, WRONG_VERSION_NUMBER: an operator searches for what OpenSSL calls it. Some errors have only a
    # text, with a place in OpenSSL's or Python's source behind it.
    named: str | None = getattr(error, "reason", None)
    return (named or str(error).partition(" (_ssl.c")[0]).replace("_", " ").lower()


def tls_failure(error: OSError, name: str) -> str:
    """Say why no connection was opened; of a certificate, which check it has not passed, as a certificate of `name`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"certificate verify failed: {why}; it has to be a certificate of {name}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake: {_reason(error)}"
    return str(error) or type(error).__name__


def find_truncation(transport: asyncio.BaseTransport | None) -> Exception | None:
    """Return the error for a TLS connection that was closed without close_notify, None for any other.

    RFC 9112, 9.8: a body that ends with the connection is complete only if a valid closure alert was received. An
    attacker on the network can forge a FIN, but not the alert.
    """
    secured = None if transport is None else transport.get_extra_info("ssl_object")
    if secured is None:
        return None
    # asyncio and uvloop call `connection_lost(None)` in either case. OpenSSL knows: after the alert a read finds the
    # end, and without it, that more is to come.
    try:
        ended = not secured.read(1)
    except ssl.SSLZeroReturnError:
        ended = True
    except ssl.SSLError:
        ended = False
    return None if ended else ssl.SSLEOFError("TLS was not closed by a close_notify")
