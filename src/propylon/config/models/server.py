"""Define the section `server`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from propylon.config.models.base import ConfigModel
from propylon.config.models.listeners import UNIX, Listener, ListenerConfig, Tcp
from propylon.config.models.public import PublicUrl
from propylon.config.models.syntax import check_network
from propylon.config.models.units import Duration, Port, Size, Timeout, Whole

__all__ = ["EdgeTimeoutsConfig", "ServerConfig"]


def _check_host(text: str) -> str:
    host, _, port = text.partition(":")
    if host and port.isdecimal() and ":" not in port:
        msg = f"has a port in it; write {host} here, and port: {port} beside it"
        raise ValueError(msg)
    return text


def _check_proxy(text: str) -> str:
    return UNIX if text in {UNIX, f"{UNIX}:"} else check_network(text)


class EdgeTimeoutsConfig(ConfigModel):
    """How long the gateway waits for a client."""

    header: Timeout = Field(
        default=10.0,
        description="For the whole head of a request; also for a TLS handshake, and for a PROXY header.",
    )
    idle: Timeout = Field(default=75.0, description="For the next request on an open connection.")
    body: Timeout = Field(default=30.0, description="Longest silence within the body of a request.")


class ServerConfig(ConfigModel):
    """Where the gateway listens, and the limits of what it accepts."""

    host: Annotated[str, AfterValidator(_check_host)] = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; 0.0.0.0: all addresses of IPv4; `::`: all addresses.",
    )
    port: Port = Field(default=8000, description="Port to listen on; 0: any free port.")
    listen: tuple[Listener, ...] | None = Field(
        default=None,
        description="Instead of host and port: all listeners, [0.0.0.0:8000, 'unix:/run/propylon.sock'], or with"
        " options, [{address: '[::]:443', tls: true}, {address: '[::]:80', redirect: https}]. Only `propylon run` opens"
        " them.",
    )
    workers: Annotated[Whole, Field(ge=1, le=1024)] = Field(
        default=1, description="Processes that share the port; one for each core is enough."
    )
    state_dir: str | None = Field(
        default=None,
        description="Directory for what the workers share; made if it is not there. Unset: `propylon run` makes one"
        " in memory. Under another server the workers need it to find each other.",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_proxy)], ...] = Field(
        default=(),
        description="Networks of proxies whose X-Forwarded-* and PROXY headers are trusted; `unix`: all peers on Unix"
        " sockets. For all others the peer is the client.",
    )
    forwarded: Literal["x-forwarded", "rfc7239", "both"] = Field(
        default="x-forwarded",
        description="The headers in which services are told of the client. x-forwarded: X-Forwarded-*; rfc7239: Forwarded"
        " (RFC 7239), which trusted proxies are then believed in; both: both, and X-Forwarded-* is believed.",
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="The address under which clients reach the gateway, such as https://api.example.com. Rewritten redirects"
        " begin with it; without it they are a path alone.",
    )
    max_body: Size = Field(
        default=100_000_000,
        description="Largest request body; 413 above it. A route may set its own.",
    )
    max_header: Annotated[Size, Field(ge=1024, le=2**24)] = Field(
        default=65536,
        description="Largest head of a request (request line and headers); 431 above it.",
    )
    max_connections: Annotated[Whole, Field(ge=1, le=1_000_000)] = Field(
        default=10_000,
        description="Most connections of clients to one worker, for each listener; 503 and the close beyond it. Under"
        " another server: requests in flight.",
    )
    max_connections_per_client: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Most connections of one client (IPv6: of one /64) to one worker; 503 and the close beyond it. It never"
        " counts for trusted_proxies. Unlimited when not set.",
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

    @property
    def ports(self) -> frozenset[int]:
        """The ports of the public listeners, as far as the configuration says them."""
        if self.listen is None:
            return frozenset({self.port})
        parsed = (listener.parsed for listener in self.listen)
        return frozenset(address.port for address in parsed if isinstance(address, Tcp))

    @field_validator("listen")
    @classmethod
    def _not_empty(
        cls, listen: tuple[ListenerConfig, ...] | None
    ) -> tuple[ListenerConfig, ...] | None:
        if listen == ():
            msg = "is empty; leave the key out to listen at host and port"
            raise ValueError(msg)
        return listen

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, state_dir: str | None) -> str | None:
        if state_dir is None or not state_dir.strip():
            return None
        if not state_dir.startswith("/") or "\0" in state_dir:
            msg = "must be an absolute path, such as /run/propylon"
            raise ValueError(msg)
        return state_dir
