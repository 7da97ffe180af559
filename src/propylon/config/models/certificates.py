"""Define the section `tls`: the certificates that clients see, and those that clients have to show."""

import ssl
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel

__all__ = ["CertificateConfig", "ClientCertificatesConfig", "TlsConfig"]


_BROKEN = frozenset({"1.0", "1.1"})


class CertificateConfig(ConfigModel):
    """A certificate and its key."""

    certificate: Annotated[str, Field(min_length=1)] = Field(
        description="Path of a further certificate chain, PEM. A client gets the one with the name that it asks for"
        " (SNI).",
    )
    key: Annotated[str, Field(min_length=1)] = Field(
        description="Path of the certificate's private key, PEM."
    )


class ClientCertificatesConfig(ConfigModel):
    """Certificates of clients (mutual TLS)."""

    ca: Annotated[str, Field(min_length=1)] = Field(
        description="Path of the authorities that sign clients' certificates, PEM."
    )
    required: bool = Field(
        default=True,
        description="Whether a client without a certificate is refused in the handshake. false: it may go on, and a"
        " certificate that it shows must be valid.",
    )


def _version(value: object) -> object:
    # YAML reads 1.2 as a number.
    text = str(value) if isinstance(value, float) else value
    if text in _BROKEN:
        msg = f"TLS {text} is broken, and not spoken (RFC 8996); write 1.2 or 1.3"
        raise ValueError(msg)
    return text


class TlsConfig(ConfigModel):
    """The certificates that clients see."""

    certificate: str | None = Field(default=None, description="Path of the certificate chain, PEM.")
    key: str | None = Field(
        default=None,
        validate_default=True,
        description="Path of the certificate's private key, PEM.",
    )
    certificates: tuple[CertificateConfig, ...] = Field(
        default=(),
        description="Further certificates. A client gets the one that has the name that it asks for (SNI): first the"
        " very name, then a wildcard; else the first of all.",
    )
    min_version: Annotated[
        Literal["1.2", "1.3"],
        BeforeValidator(_version, json_schema_input_type=Literal["1.2", "1.3"] | float),
    ] = Field(default="1.2", description="Lowest version of TLS that is spoken: 1.2 or 1.3.")
    ciphers: str | None = Field(
        default=None,
        description="Ciphers of TLS 1.2, in OpenSSL's notation. When not set: those of Mozilla's intermediate profile."
        " Those of TLS 1.3 are all good, and cannot be chosen.",
    )
    clients: ClientCertificatesConfig | None = Field(
        default=None, description="Certificates of clients; when not set, none is asked for."
    )

    @field_validator("key")
    @classmethod
    def _both_or_neither(cls, key: str | None, info: ValidationInfo) -> str | None:
        if "certificate" in info.data and (key is None) != (info.data["certificate"] is None):
            missing = "key" if key is None else "certificate"
            msg = f"certificate and key go together: {missing} is missing"
            raise ValueError(msg)
        return key

    @field_validator("ciphers")
    @classmethod
    def _known_ciphers(cls, ciphers: str | None) -> str | None:
        if ciphers is None:
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
        except ssl.SSLError as error:
            msg = "names no cipher that OpenSSL knows; `openssl ciphers` lists them"
            raise ValueError(msg) from error
        return ciphers

    @field_validator("clients")
    @classmethod
    def _needs_certificate(
        cls, clients: ClientCertificatesConfig | None, info: ValidationInfo
    ) -> ClientCertificatesConfig | None:
        own = info.data.get("certificate", "") is not None or info.data.get("certificates", ((),))
        if clients is not None and not own:
            msg = "needs a certificate of the gateway's own: set certificate and key"
            raise ValueError(msg)
        return clients

    @property
    def pairs(self) -> tuple[CertificateConfig, ...]:
        """All certificates; the first is for clients that ask for no name, or for an unknown one."""
        if self.certificate is None or self.key is None:
            return self.certificates
        first = CertificateConfig(certificate=self.certificate, key=self.key)
        return (first, *self.certificates)
