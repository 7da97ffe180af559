"""Define the sections `server`, `tls` and `log`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, Network
from propylon.config.models.units import Duration, Port, Size, Timeout, Whole

__all__ = ["EdgeTimeoutsConfig", "LogConfig", "ServerConfig", "TlsConfig"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class EdgeTimeoutsConfig(ConfigModel):
    """How long the gateway waits for a client."""

    header: Timeout = Field(default=10.0, description="For the whole head of a request.")
    idle: Timeout = Field(default=75.0, description="For the next request on an open connection.")
    body: Timeout = Field(default=30.0, description="Longest silence within the body of a request.")


class ServerConfig(ConfigModel):
    """Where the gateway listens, and the limits of what it accepts."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; 0.0.0.0: all addresses.",
    )
    port: Port = Field(default=8000, description="Port to listen on; 0: any free port.")
    workers: Annotated[Whole, Field(ge=1, le=1024)] = Field(
        default=1, description="Processes that share the port; one for each core is enough."
    )
    state_dir: str | None = Field(
        default=None,
        description="Directory for what the workers share; made if it is not there. Unset: `propylon run` makes one"
        " in memory. Under another server the workers need it to find each other.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Networks of proxies whose X-Forwarded-* is trusted. For all others the peer is the client.",
    )
    max_body: Size = Field(
        default=100_000_000,
        description="Largest request body; 413 above it. A route may set its own.",
    )
    max_header: Annotated[Size, Field(ge=1024, le=2**24)] = Field(
        default=65536,
        description="Largest head of a request (request line and headers); 431 above it.",
    )
    timeouts: EdgeTimeoutsConfig = Field(
        default=EdgeTimeoutsConfig(), description="How long the gateway waits for a client."
    )
    drain: Duration = Field(
        default=30.0, description="How long a stopping gateway waits for exchanges in flight."
    )
    drain_delay: Duration = Field(
        default=0.0,
        description="How long a stopping gateway still accepts connections while /readyz answers 503.",
    )

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, state_dir: str | None) -> str | None:
        if state_dir is None or not state_dir.strip():
            return None
        if not state_dir.startswith("/") or "\0" in state_dir:
            msg = "must be an absolute path, such as /run/propylon"
            raise ValueError(msg)
        return state_dir


class TlsConfig(ConfigModel):
    """The certificate that clients see; both files or neither."""

    certificate: str | None = Field(default=None, description="Path of the certificate chain, PEM.")
    key: str | None = Field(
        default=None,
        validate_default=True,
        description="Path of the certificate's private key, PEM.",
    )

    @field_validator("key")
    @classmethod
    def _both_or_neither(cls, key: str | None, info: ValidationInfo) -> str | None:
        if "certificate" in info.data and (key is None) != (info.data["certificate"] is None):
            missing = "key" if key is None else "certificate"
            msg = f"certificate and key go together: {missing} is missing"
            raise ValueError(msg)
        return key


class LogConfig(ConfigModel):
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = Field(default="info", description="Lowest level that is logged.")
    format: Literal["json", "text"] = Field(
        default="json", description="json for programs, text for a terminal."
    )
