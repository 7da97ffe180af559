"""Make the TLS context of the listeners from `tls`, choose certificates by name (SNI), and take over renewed ones."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from propylon.config.models.certificates import CertificateConfig, TlsConfig
from propylon.process.sockets import CannotListen
from propylon.wire.grammar import date_time

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Certificates", "certificate_doubts", "tls_context"]

log = logging.getLogger(__name__)

# Mozilla's intermediate profile (Server Side TLS, guideline 5.7), without its DHE ciphers: they need parameters that
# Python's contexts do not have by default, and every client that knows them knows ECDHE. TLS 1.3 has its own ciphers.
_INTERMEDIATE = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_WILDCARD = "*."


@dataclass(slots=True)
class Certificates:
    """The TLS context that new connections get; a reload replaces it."""

    context: ssl.SSLContext

    def renew(self, tls: TlsConfig) -> None:
        """Show new connections the certificates that are in the files now; keep the old ones if those cannot be used."""
        if not tls.pairs:
            return  # TLS is switched on and off by a start
        try:
            self.context = tls_context(tls)
        except CannotListen as error:  # half a pair, say: it must not be taken over
            # In a sentence: a traceback would say nothing more.
            log.error("reload: the old certificate stays: %s", error)  # noqa: TRY400


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return the context for all certificates of `tls`. Raises CannotListen."""
    pairs = tls.pairs
    contexts = [_context(pair, tls) for pair in pairs]
    first = contexts[0]
    if len(contexts) > 1:
        first.sni_callback = _by_name(pairs, contexts)
    return first


def _context(pair: CertificateConfig, tls: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.set_ciphers(tls.ciphers or _INTERMEDIATE)
    # The profile lets the client choose among good ciphers: a phone without AES in hardware takes ChaCha20.
    context.options &= ~ssl.Options.OP_CIPHER_SERVER_PREFERENCE
    # A client could have the gateway do expensive handshakes over one connection (CVE-2011-1473).
    context.options |= ssl.Options.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, pair)
    _ask_clients(context, tls)
    return context


def _load_pair(context: ssl.SSLContext, pair: CertificateConfig) -> None:
    certificate, key = pair.certificate, pair.key
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        msg = f"the certificate {certificate} and the key {key} do not fit: {error.reason}"
        raise CannotListen(msg) from error
    except OSError as error:
        msg = f"cannot read {certificate} or {key}: {error.strerror}"
        raise CannotListen(msg) from error


def _no_password() -> str:
    """Answer for a key that is encrypted: OpenSSL would ask the terminal, and wait for ever."""
    return ""


def _ask_clients(context: ssl.SSLContext, tls: TlsConfig) -> None:
    clients = tls.clients
    if clients is None:
        return
    try:
        context.load_verify_locations(clients.ca)
    except ssl.SSLError as error:
        msg = f"the authorities of clients, {clients.ca}, hold no certificate: {error.reason}"
        raise CannotListen(msg) from error
    except OSError as error:
        msg = f"cannot read the authorities of clients, {clients.ca}: {error.strerror}"
        raise CannotListen(msg) from error
    # In both cases a certificate that is shown and is not valid ends the handshake.
    context.verify_mode = ssl.CERT_REQUIRED if clients.required else ssl.CERT_OPTIONAL


# Certificates by name (RFC 6066, 3)

_Choose = Callable[[ssl.SSLObject | ssl.SSLSocket, str | None, ssl.SSLContext], None]


def _by_name(pairs: tuple[CertificateConfig, ...], contexts: list[ssl.SSLContext]) -> _Choose:
    """Return what chooses a connection's context: the very name before a wildcard, the earlier before the later."""
    by_name: dict[str, ssl.SSLContext] = {}
    for pair, context in zip(pairs, contexts, strict=True):
        for name in _names(pair):
            by_name.setdefault(name, context)

    def choose(
        connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, first: ssl.SSLContext
    ) -> None:
        if name is None:
            return
        asked = name.lower().removesuffix(".")
        # A wildcard stands for one label (RFC 9525, 6.3).
        wildcard = _WILDCARD + asked.partition(".")[2]
        chosen = by_name.get(asked) or by_name.get(wildcard)
        if chosen is not None and chosen is not first:
            connection.context = chosen

    return choose


def _names(pair: CertificateConfig) -> Iterator[str]:
    """Yield the DNS names of a certificate, in lower case; its CN where it has no alternative names."""
    # It takes a while to load, and a single certificate needs no choice.
    from cryptography import x509  # noqa: PLC0415

    certificate = _leaf(pair.certificate)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in common]
    else:
        names = found.value.get_values_for_type(x509.DNSName)
    yield from map(str.lower, names)


def _leaf(path: str) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415 — as above

    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise CannotListen(msg) from error
    except ValueError as error:
        msg = f"{path} holds no certificate that can be read"
        raise CannotListen(msg) from error


def certificate_doubts(tls: TlsConfig, now: datetime | None = None) -> Iterator[tuple[int, str]]:
    """Yield the certificates that clients will not accept now: their places among `tls.pairs`, and why."""
    moment = now or datetime.now(UTC)
    for at, pair in enumerate(tls.pairs):
        leaf = _leaf(pair.certificate)
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if ends < moment:
            yield at, f"{pair.certificate} has expired: {date_time(ends.timestamp())}; renew it"
        elif begins > moment:
            yield at, f"{pair.certificate} is not valid before {date_time(begins.timestamp())}"
