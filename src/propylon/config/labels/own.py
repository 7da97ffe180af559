"""Read the gateway's own labels: `propylon.routes.NAME.KEY` and `propylon.services.NAME.KEY`. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping

from propylon.config.labels.labelled import LabelRoute, Said
from propylon.config.models.spelling import did_you_mean

__all__ = ["NAME", "PREFIX", "default_service", "read_own", "read_port", "read_weight"]

PREFIX = "propylon."
# As the names of services in the file.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PORT = re.compile(r"[0-9]{1,5}")
_LARGEST_PORT, _LARGEST_WEIGHT = 65535, 1000
_COMPOSE = "com.docker.compose.service"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


# What a label may say of a route. All else stands in the file: a label is written by whoever starts a container.
_ROUTE: Mapping[str, Callable[[str], object]] = {
    "path": str.strip,
    "exact": str.strip,
    "hosts": _listed,
    "methods": _listed,
    "strip_prefix": str.strip,
    "rewrite": str.strip,
    "auth": str.strip,
    "scopes": _listed,
    "roles": _listed,
    "service": str.strip,
}
_SERVICE = ("port", "weight")


def read_own(labels: Mapping[str, str], said: Said) -> None:
    """Note what the labels of a container say, and what is wrong with them."""
    routes: dict[str, dict[str, str]] = {}
    for label in sorted(labels):
        kind, _, rest = label.removeprefix(PREFIX).partition(".")
        name, _, key = rest.rpartition(".")
        if not label.startswith(PREFIX) or label == f"{PREFIX}enable":
            continue
        if kind not in ("routes", "services") or not NAME.fullmatch(name):
            said.complain(label, "is no label of a route or a service: propylon.routes.NAME.path")
        elif kind == "routes":
            if _is_known(key, _ROUTE, label, said):
                routes.setdefault(name, {})[key] = label
        elif _is_known(key, _SERVICE, label, said):
            _read_service(name, key, labels[label], label, said)
    for name, named in routes.items():
        raw = {key: _ROUTE[key](labels[label]) for key, label in named.items()}
        service = str(raw.pop("service", "") or default_service(labels, said))
        said.routes.append(LabelRoute(name, said.container, service, raw, named))
        said.ports.setdefault(service, (None, 1))


def _is_known(key: str, known: Iterable[str], label: str, said: Said) -> bool:
    if key in known:
        return True
    said.complain(label, f"no label sets this key{did_you_mean(key, known)}; write it in the file")
    return False


def _read_service(name: str, key: str, text: str, label: str, said: Said) -> None:
    port, weight = said.ports.get(name, (None, 1))
    try:
        said.ports[name] = (read_port(text), weight) if key == "port" else (port, read_weight(text))
    except ValueError as error:
        said.complain(label, str(error))


def read_port(text: str) -> int:
    """Return the number of a port. Raises ValueError."""
    if not _PORT.fullmatch(text) or not 0 < int(text) <= _LARGEST_PORT:
        msg = "must be a port from 1 to 65535"
        raise ValueError(msg)
    return int(text)


def read_weight(text: str) -> int:
    """Return a weight. Raises ValueError."""
    if not _PORT.fullmatch(text) or not 0 < int(text) <= _LARGEST_WEIGHT:
        msg = "must be a number from 1 to 1000"
        raise ValueError(msg)
    return int(text)


def default_service(labels: Mapping[str, str], said: Said) -> str:
    """Return the service of routes that name none: the only one that labels name, or the one of Compose, or the container."""
    if len(said.ports) == 1:
        return next(iter(said.ports))
    name = labels.get(_COMPOSE) or said.container
    return name if NAME.fullmatch(name) else "container"
