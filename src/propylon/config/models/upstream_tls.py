"""Define `tls` of a service: how the gateway checks an upstream's certificate, and what it shows of itself."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from propylon.config.models.base import ConfigModel
from propylon.config.models.syntax import check_hostname
from propylon.names.addresses import parse_address
from propylon.upstream.tls import TlsSettings, tls_context

__all__ = ["UpstreamTlsConfig"]


def _certificates(text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text:
        msg = "must be the path of a file with certificates in PEM, or the PEM itself"
        raise ValueError(msg)
    return text


def _server_name(text: str) -> str:
    # An IPv6 address is usually written without brackets where no port can follow.
    plain = text.removeprefix("[").removesuffix("]")
    return plain if parse_address(plain) is not None else check_hostname(text)


def _private_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if "PRIVATE KEY-----" not in text:
        msg = "must be the path of a file with a private key in PEM"
        raise ValueError(msg)
    if "ENCRYPTED" in text:
        msg = "is encrypted, and the gateway has no password for it; decrypt it: openssl pkey -in … -out …"
        raise ValueError(msg)
    return key


Certificates = Annotated[str, AfterValidator(_certificates)]
PrivateKey = Annotated[SecretStr, AfterValidator(_private_key)]


class UpstreamTlsConfig(ConfigModel):
    """TLS to the https instances of a service."""

    # The reader replaces paths by the content of the files. So a reload finds a change of a file like any other change,
    # and a worker that takes another's place can do without the files.
    ca: Certificates | None = Field(
        default=None,
        repr=False,
        description="Path of the certificates to trust, PEM: of certificate authorities, or of the upstream itself. When not"
        " set, those of the system are trusted.",
    )
    server_name: Annotated[str, AfterValidator(_server_name)] | None = Field(
        default=None,
        description="Name or address that the certificate must have, and that is sent as SNI. When not set, the host of the"
        " URL; an instance given by an address needs a certificate for the address.",
    )
    verify: bool = Field(
        default=True,
        description="False: any certificate is accepted, so anyone on the network can read and change the traffic.",
    )
    certificate: Certificates | None = Field(
        default=None,
        repr=False,
        description="Path of the certificate that the gateway shows to the upstream (mutual TLS), PEM, the leaf first.",
    )
    key: PrivateKey | None = Field(
        default=None, description="Path of the certificate's private key, PEM."
    )

    @field_validator("ca")
    @classmethod
    def _readable(cls, ca: str | None) -> str | None:
        tls_context(TlsSettings(ca=ca or ""))
        return ca

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if (self.key is None) != (self.certificate is None):
            missing = "key" if self.key is None else "certificate"
            msg = f"certificate and key go together: {missing} is missing"
            raise ValueError(msg)
        # Made here, in the thread that reads: the event loop then finds it ready.
        tls_context(self.settings)
        return self

    @property
    def settings(self) -> TlsSettings:
        """What the context is made of."""
        return TlsSettings(
            ca=self.ca or "",
            certificate=self.certificate or "",
            key="" if self.key is None else self.key.get_secret_value(),
            verify=self.verify,
        )

    @property
    def name(self) -> str:
        """The name that the certificate must have; "": the host of the URL."""
        return self.server_name or ""
