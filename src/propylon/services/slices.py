"""Read EndpointSlices (discovery.k8s.io/v1): which addresses of a Kubernetes service may be asked.

Facts. A service has several slices, and one slice has addresses of one family. A condition that is not there is unknown: `ready` counts
as true then. A pod that terminates is never ready; while it still serves, it is better than none (kube-proxy does the same,
KEP-1669). What the API sends is checked all the same, as what any upstream sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from propylon.names.resolve import SrvTarget
from propylon.upstream.kubernetes import SERVICE_LABEL

__all__ = ["MOST_INSTANCES", "Endpoint", "PortUnclear", "Slice", "read_slice", "targets_of"]

# Of one service. Kubernetes has at most 1000 endpoints in one slice.
MOST_INSTANCES = 1000
_FAMILIES: Mapping[object, int] = {"IPv4": 4, "IPv6": 6}
_LARGEST_PORT = 65535


class PortUnclear(ValueError):
    """A service has several ports, or none of that name, and so it is not known which one is meant."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod behind a service; `serving` is also true of one that terminates and still answers."""

    address: str
    ready: bool
    serving: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the endpoints of a service, with the names and numbers of their ports."""

    name: str
    service: str
    version: int  # 4 or 6
    ports: tuple[tuple[str, int], ...]
    endpoints: tuple[Endpoint, ...]


def read_slice(item: object) -> Slice | None:
    """Return what an object of the API says; None for one that says nothing that can be used."""
    metadata = _mapping(item, "metadata")
    name, service = metadata.get("name"), _mapping(metadata, "labels").get(SERVICE_LABEL)
    if not isinstance(item, dict) or not isinstance(name, str) or not isinstance(service, str):
        return None
    version = _FAMILIES.get(item.get("addressType"))
    if version is None:
        return None  # names: Kubernetes says of them that they mean nothing
    return Slice(
        name,
        service,
        version,
        tuple(_ports(item.get("ports"))),
        tuple(_endpoints(item.get("endpoints"), version)),
    )


def targets_of(slices: Iterable[Slice], port: str) -> tuple[SrvTarget, ...]:
    """Return the addresses to ask, sorted; `port` is the name or number of the pods' port, "" for the only one.

    A pod of both families counts once, by IPv4. Raises PortUnclear.
    """
    found = [(one, _number(one, port)) for one in slices if one.endpoints]
    for condition in ("ready", "serving"):
        for version in (4, 6):
            targets = {
                SrvTarget(endpoint.address, number)
                for one, number in found
                if one.version == version
                for endpoint in one.endpoints
                if getattr(endpoint, condition)
            }
            if targets:
                ordered = sorted(targets, key=lambda one: (int(ip_address(one.host)), one.port))
                return tuple(ordered[:MOST_INSTANCES])
    return ()


def _number(one: Slice, port: str) -> int:
    """Return the number of the port in a slice. Raises PortUnclear."""
    meant = [number for name, number in one.ports if not port or port in (name, str(number))]
    if len(meant) == 1:
        return meant[0]
    has = ", ".join(f"{name or 'no name'} ({number})" for name, number in one.ports) or "none"
    msg = f"it has not one port {port}" if port else "write which port is meant"
    msg += f"; it has {has}"
    raise PortUnclear(msg)


def _ports(written: object) -> Iterator[tuple[str, int]]:
    for one in _list(written):
        name, number = one.get("name") or "", one.get("port")
        of_tcp = one.get("protocol") in (None, "TCP")
        if of_tcp and isinstance(name, str) and type(number) is int and 0 < number <= _LARGEST_PORT:
            yield name, number


def _endpoints(written: object, version: int) -> Iterator[Endpoint]:
    for one in _list(written):
        conditions = _mapping(one, "conditions")
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        addresses = one.get("addresses")
        # All addresses of an endpoint are the same pod, and consumers may use the first only.
        first = addresses[0] if isinstance(addresses, list) and addresses else None
        if isinstance(first, str) and _is_asked(first, version):
            yield Endpoint(first, ready, ready if serving is None else serving is True)


def _is_asked(text: str, version: int) -> bool:
    """Whether an address may be a pod's. The API refuses others itself; 169.254.169.254 would give out a cloud's credentials."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return address.version == version and not (
        address.is_link_local or address.is_multicast or address.is_unspecified
    )


def _mapping(value: object, key: str) -> Mapping[str, object]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
