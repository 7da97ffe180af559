"""Define the section `discovery`, and where a service finds its instances in Kubernetes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from propylon.config.models.base import ConfigModel, PlainPath
from propylon.config.models.syntax import check_hostname, parse_url
from propylon.config.models.unix_socket import check_socket
from propylon.wire.grammar import TOKEN_TEXT

__all__ = ["ClusterServiceConfig", "DiscoveryConfig", "DockerConfig", "KubernetesConfig"]

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_LARGEST_PORT = 65535


def _api(text: str) -> str:
    if parse_url(text).base:
        msg = "must be the URL of the API without a path, such as https://10.0.0.1:6443"
        raise ValueError(msg)
    return text


def _port(value: object) -> object:
    """Return a number as text: it stands where a name may."""
    if type(value) is not int:
        return value
    if not 0 < value <= _LARGEST_PORT:
        msg = "must be the name of a port, or a number from 1 to 65535"
        raise ValueError(msg)
    return str(value)


def _port_name(text: str) -> str:
    if not TOKEN_TEXT.fullmatch(text):
        msg = "must be the name or the number of a port, such as http or 8000"
        raise ValueError(msg)
    return text


# A DNS label (RFC 1123), as Kubernetes asks for it.
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class ClusterServiceConfig(ConfigModel):
    """A service in Kubernetes, whose ready pods are the instances."""

    service: _Name = Field(description="Its name.")
    namespace: _Name | None = Field(
        default=None, description="Its namespace. When not set, that of the gateway's own pod."
    )
    port: (
        Annotated[
            str,
            BeforeValidator(_port, json_schema_input_type=str | int),
            AfterValidator(_port_name),
        ]
        | None
    ) = Field(
        default=None,
        description="The port of the pods: the name that it has in the service, or its number. When not set, the only one.",
    )
    scheme: Literal["http", "https"] = Field(default="http", description="How the pods are asked.")
    path: PlainPath = Field(default="/", description="What is put in front of the request's path.")


class KubernetesConfig(ConfigModel):
    """Where the API of the cluster is, for services with `kubernetes`."""

    api: Annotated[str, AfterValidator(_api)] | None = Field(
        default=None,
        description="URL of the API. When not set, the one that a pod is told of: KUBERNETES_SERVICE_HOST.",
    )
    token_file: str = Field(
        default=f"{_ACCOUNT}/token",
        description="File with the token, which is read for each request, and sent over https only; empty: none.",
    )
    ca_file: str = Field(
        default=f"{_ACCOUNT}/ca.crt",
        description="File with the certificates to trust, PEM; empty: those of the system.",
    )


_WILDCARD = "*."


def _socket(text: str) -> str:
    if not text.startswith("unix://"):
        msg = "must be a Unix socket, such as unix:///var/run/docker.sock"
        raise ValueError(msg)
    return "unix://" + check_socket(text.removeprefix("unix://"))


def _claimable(text: str) -> str:
    wildcard = _WILDCARD if text.startswith(_WILDCARD) else ""
    return wildcard + check_hostname(text.removeprefix(wildcard))


class DockerConfig(ConfigModel):
    """Routes and instances that labels of containers describe."""

    socket: Annotated[str, AfterValidator(_socket)] = Field(
        default="unix:///var/run/docker.sock",
        description="The socket of the Docker Engine, or of what speaks its API. The gateway only reads.",
    )
    network: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The network over which containers are asked. When not set, a container has to be in one network only.",
    )
    default_exposed: bool = Field(
        default=False,
        description="Whether containers count that have no label propylon.enable. One with propylon.enable=false never does.",
    )
    hosts: tuple[Annotated[str, AfterValidator(_claimable)], ...] = Field(
        default=(),
        description="The host names that labels may claim: shop.example.com, or *.apps.example.com. Routes of labels with other hosts"
        " are not made.",
    )
    allow_open: bool = Field(
        default=False,
        description="Whether a label may ask for less than defaults.auth: none or optional. If not, such a route is not made.",
    )
    traefik: bool = Field(
        default=False, description="Whether Traefik's common labels are read, too."
    )


class DiscoveryConfig(ConfigModel):
    """Where services and instances are found that are not in the file."""

    kubernetes: KubernetesConfig = Field(
        default=KubernetesConfig(),
        description="Where the API of the cluster is, for services with `kubernetes`.",
    )
    docker: DockerConfig | None = Field(
        default=None,
        description="Labels of containers describe routes and instances. Off when not set; {}: the socket at its usual place.",
    )
