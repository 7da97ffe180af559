"""Compile services whose instances are told: pods of Kubernetes, containers of Docker; and where the API of the cluster is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from propylon.compile.addresses import cluster_address, probe_address, registered_address
from propylon.config.models.discovery import ClusterServiceConfig, KubernetesConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.models.syntax import parse_url
from propylon.names.resolve import SrvTarget
from propylon.services.cluster import Cluster, ClusterService
from propylon.services.discovery import MemberKey, TargetSource, ToldMembers
from propylon.services.instance import Instance
from propylon.upstream.dial import Address
from propylon.upstream.kubernetes import ApiSettings
from propylon.upstream.ports import Upstream

__all__ = ["api_settings", "cluster_members", "container_members", "own_namespace"]

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LARGEST_NAME = 64


def api_settings(written: KubernetesConfig, environ: Mapping[str, str]) -> ApiSettings:
    """Return where the API is: where it is written, or where a pod's environment says."""
    if written.api is None:
        port = environ.get(_PORT, "")
        host = environ.get(_HOST) or "kubernetes.default.svc"
        number = int(port) if port.isascii() and port.isdecimal() else 443
        return ApiSettings(host, number, True, written.token_file, written.ca_file)
    url = parse_url(written.api)
    secure = url.scheme == "https"
    return ApiSettings(url.host, url.port, secure, written.token_file, written.ca_file)


def cluster_members(
    written: ServiceConfig,
    within: ClusterServiceConfig,
    cluster: Cluster,
    connect: Callable[[Address, int], Upstream],
    probing: int,
) -> ToldMembers[ClusterService]:
    """Return the instances of a service, one for each ready pod; `probing` is the limit of the pools for probes."""
    namespace = within.namespace or own_namespace()
    service = ClusterService(namespace, within.service, within.port or "")
    base = within.path.rstrip("/").encode("ascii")

    def make(key: MemberKey) -> Instance:
        host, port = (key.host, key.port) if isinstance(key, SrvTarget) else ("", 0)
        address = cluster_address(host, port, str(service), written)
        return Instance(
            id=address.authority,
            # A name that stays, as if it had been asked for by DNS: many frameworks have a list of hosts.
            host=str(service).encode("ascii"),
            base=base,
            upstream=connect(address, written.max_connections),
            probe=connect(probe_address(address, written), probing),
            source="kubernetes",
        )

    return ToldMembers(cluster, service, make)


def container_members(
    name: str,
    written: ServiceConfig,
    docker: TargetSource[str],
    connect: Callable[[Address, int], Upstream],
    probing: int,
) -> ToldMembers[str]:
    """Return the instances of a service, one for each container that its labels name."""

    def make(key: MemberKey) -> Instance:
        target = key if isinstance(key, SrvTarget) else SrvTarget("", 0)
        address = registered_address(Address(target.host, target.port), written)
        return Instance(
            id=address.authority,
            host=name.encode("ascii"),
            base=b"",
            upstream=connect(address, written.max_connections),
            probe=connect(probe_address(address, written), probing),
            weight=target.weight,
            source="docker",
        )

    return ToldMembers(docker, name, make)


def own_namespace() -> str:
    """Return the namespace of the gateway's pod; `default` where there is no pod."""
    try:
        with _NAMESPACE.open("rb") as found:
            return found.read(_LARGEST_NAME).decode("ascii", "replace").strip() or "default"
    except OSError:
        return "default"
