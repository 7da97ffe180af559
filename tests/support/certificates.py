"""Make certificates for a test: an authority, and whatever it signs."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    def written(self) -> dict[str, str]:
        """The two keys of the configuration."""
        return {"certificate": str(self.certificate), "key": str(self.key)}


class Authority:
    """An authority that signs certificates into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named([(x509.NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key.public_key(), _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(
        self,
        file: str,
        *names: str,
        subject: list[tuple[x509.ObjectIdentifier, str]] | None = None,
        lasts: timedelta = _DAY,
    ) -> Pair:
        """A certificate for DNS names, addresses and URIs; without a subject, its CN is the name of the file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [(x509.NameOID.COMMON_NAME, file)] if subject is None else subject
        builder = _builder(_named(subject), self._name, key.public_key(), lasts)
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=not subject)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        pair.certificate.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begins = min(now, now + lasts) - _DAY
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), begins, now + lasts
    )


def _named(parts: list[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
