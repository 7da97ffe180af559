"""Gather what the labels of all containers say. Pure: the same containers give the same in every worker."""

from collections.abc import Iterable, Iterator, Mapping

from propylon.config.labels import own, traefik
from propylon.config.labels.labelled import Complaint, Labelled, LabelRoute, Said
from propylon.config.models.discovery import DockerConfig
from propylon.names.resolve import SrvTarget
from propylon.services.containers import Container

__all__ = ["gather"]

MOST_ROUTES = 500
_MOST_COMPLAINTS = 50  # about one container
_WORDS: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}


def gather(containers: Iterable[Container], rules: DockerConfig) -> Labelled:
    """Return what the labels of these containers say, the oldest first."""
    routes: list[LabelRoute] = []
    instances: dict[str, dict[SrvTarget, None]] = {}
    complaints: list[Complaint] = []
    for container in containers:
        said = _read(container, rules)
        routes += said.routes
        for service, target in _instances(container, rules, said):
            known = instances.setdefault(service, {})
            if target is not None:
                known[target] = None
        complaints += said.complaints[:_MOST_COMPLAINTS]
    for beyond in routes[MOST_ROUTES:]:
        complaints.append(
            beyond.complaint("path", f"is beyond the {MOST_ROUTES} routes that labels may have")
        )
    told = {service: tuple(targets) for service, targets in instances.items()}
    return Labelled(tuple(routes[:MOST_ROUTES]), told, tuple(dict.fromkeys(complaints)))


def _read(container: Container, rules: DockerConfig) -> Said:
    said = Said(container.name)
    labels = container.labels
    mine = any(
        label.startswith((f"{own.PREFIX}routes.", f"{own.PREFIX}services.")) for label in labels
    )
    theirs = rules.traefik and any(
        label.lower().startswith(f"{traefik.PREFIX}http.") for label in labels
    )
    if mine and _is_exposed(own.PREFIX, labels, rules, said):
        own.read_own(labels, said)
    elif not mine and theirs and _is_exposed(traefik.PREFIX, labels, rules, said):
        traefik.read_traefik(labels, said)
    return said


def _is_exposed(prefix: str, labels: Mapping[str, str], rules: DockerConfig, said: Said) -> bool:
    label = f"{prefix}enable"
    written = labels.get(label)
    if written is None:
        if not rules.default_exposed:
            said.complain(label, "is missing, so its other labels do not count; write true")
        return rules.default_exposed
    if written.lower() not in _WORDS:
        said.complain(label, "must be true or false")
    return _WORDS.get(written.lower(), False)


def _instances(
    container: Container, rules: DockerConfig, said: Said
) -> Iterator[tuple[str, SrvTarget | None]]:
    """Yield the services of a container, each with where the container is asked; None while it is not."""
    address = _address(container, rules, said) if said.ports else None
    for service, (port, weight) in said.ports.items():
        number = _port(container, service, port, said)
        usable = container.asked and address is not None and number is not None
        yield service, SrvTarget(address or "", number or 0, weight) if usable else None


def _address(container: Container, rules: DockerConfig, said: Said) -> str | None:
    networks = container.networks
    if rules.network is not None:
        address = networks.get(rules.network)
        if address is None:
            said.complain(
                own.PREFIX, f"it is not in the network {rules.network}, or has no address there"
            )
        return address
    if len(networks) == 1:
        return next(iter(networks.values()))
    has = (
        f"several networks ({', '.join(sorted(networks))})"
        if networks
        else "no network with an address"
    )
    said.complain(own.PREFIX, f"it has {has}; write discovery.docker.network in the file")
    return None


def _port(container: Container, service: str, port: int | None, said: Said) -> int | None:
    if port is not None:
        return port
    if len(container.ports) == 1:
        return container.ports[0]
    has = "several ports" if container.ports else "no port"
    said.complain(
        f"{own.PREFIX}services.{service}.port", f"is missing, and the image exposes {has}"
    )
    return None
