"""Labels of a compose file. They say what a dynamic file says, with dots: `traefik.http.routers.app.rule=…`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.tree import Item

__all__ = ["Labels", "always", "is_compose", "read_labels"]

_PREFIX = "traefik."
_INDEXED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")
_PORT = re.compile(r"(?:.*:)?(?P<port>\d+)(?:/tcp)?")
_LISTS = frozenset(
    {
        "entrypoints", "middlewares", "prefixes", "sourcerange", "users", "authresponseheaders", "authrequestheaders", "status",
        "accesscontrolallowheaders", "accesscontrolallowmethods", "accesscontrolalloworiginlist", "accesscontrolexposeheaders",
        "allowedhosts", "excludedips", "excludedcontenttypes", "includedcontenttypes", "encodings", "regex",
        "addauthcookiestoresponse", "accesscontrolalloworiginlistregex",
    }
)  # fmt: skip
_ALWAYS = re.compile(r"(?i)--entrypoints\.[^.]+\.http\.middlewares=(?P<names>.+)")
_MOST = 20_000


@dataclass(slots=True)
class Labels:
    """What all labels say together, as the tree under `http`, with the line of each."""

    http: dict[str, Any] = field(default_factory=dict)
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)


def is_compose(document: Item) -> bool:
    """Tell whether a document is a compose file: its services have an image or are built."""
    services = document.get("services")
    return any("image" in one.names() or "build" in one.names() for _, one in services.items())


def always(document: Item) -> list[tuple[str, Item]]:
    """Return the middlewares that Traefik's own command line gives to all routers of an entry point."""
    found = []
    for name in document.get("services").names():
        container = document.get("services", name)
        command = container.get("command")
        for text in [*command.texts(), *command.text().split()]:
            match = _ALWAYS.fullmatch(text.strip("'\""))
            if match:
                found += [(name.strip(), command) for name in match["names"].split(",")]
    return list(dict(found).items())


def read_labels(document: Item, draft: Draft) -> Item:
    """Return the labels of all containers as one tree."""
    found = Labels()
    for name, container in document.get("services").items():
        if _says_redirection(container):
            draft.lost(
                container.get("command").at,
                "an entry point sends clients to HTTPS, and listeners are not part of this file",
                "write server.listen with one listener `tls: true` and one `redirect: https`",
            )
        pairs = _pairs(container)
        enabled = next((value for label, value, _ in pairs if label == "traefik.enable"), "true")
        if enabled.lower() != "true":
            continue
        mine = [
            (label, value, line)
            for label, value, line in pairs
            if label.lower().startswith("traefik.http.")
        ]
        if mine:
            _container(name, container, mine, found)
        for label, _, line in pairs:
            if label.startswith(("traefik.tcp.", "traefik.udp.")):
                draft.lost(
                    document.source.at(line, label), "propylon serves HTTP and WebSockets only"
                )
    return Item(document.source, {"http": found.http}, (), found.lines)


def _says_redirection(container: Item) -> bool:
    command = container.get("command")
    return any(
        "redirections.entrypoint" in text.lower() for text in (*command.texts(), command.text())
    )


def _pairs(container: Item) -> list[tuple[str, str, int]]:
    """Return label, value and line; compose writes a dollar as two."""
    raw: list[tuple[str, str, int]] = []
    for labels in (container.get("labels"), container.get("deploy", "labels")):
        if isinstance(labels.value, dict):
            raw += [(key, item.text(), item.at.place.line) for key, item in labels.items()]
        else:
            split = ((item.text().partition("="), item.at.place.line) for item in labels.each())
            raw += [(key.strip(), value.strip(), line) for (key, _, value), line in split]
    return [
        (key, value.replace("$$", "$"), line)
        for key, value, line in raw
        if key.lower().startswith(_PREFIX)
    ][:_MOST]


def _container(
    name: str, container: Item, pairs: list[tuple[str, str, int]], found: Labels
) -> None:
    own: dict[str, Any] = {}
    for label, value, line in pairs:
        path = tuple(label.split(".")[2:])
        _put(own, path, value)
        for end in range(1, len(path) + 1):
            found.lines.setdefault(("http", *_numbered(path[:end])), line)
    services = own.setdefault("services", {})
    servers = {
        key
        for key, value in services.items()
        if "loadbalancer" in {inner.lower() for inner in value}
    }
    if not servers:
        servers = {name}
        services[name] = {"loadBalancer": {}}
        found.lines.setdefault(("http", "services", name), pairs[0][2])
    for key in servers:
        _server(services[key], name, container)
    for router in own.get("routers", {}).values():
        if not {"service"} & {key.lower() for key in router} and len(servers) == 1:
            router["service"] = next(iter(servers))
    for kind, entries in own.items():
        found.http.setdefault(kind, {}).update(entries)


def _numbered(path: tuple[str, ...]) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for part in path:
        indexed = _INDEXED.fullmatch(part)
        steps += [indexed["name"], int(indexed["index"])] if indexed else [part]
    return tuple(steps)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    here: Any = tree
    for part in path[:-1]:
        indexed = _INDEXED.fullmatch(part)
        if indexed:
            entries = here.setdefault(indexed["name"], {})
            here = entries.setdefault(indexed["index"], {})
        else:
            here = here.setdefault(part, {})
        if not isinstance(here, dict):
            return
    last = path[-1]
    here[last] = [part.strip() for part in value.split(",")] if last.lower() in _LISTS else value


def _server(service: dict[str, Any], name: str, container: Item) -> None:
    """Give a load balancer of labels its server: the container itself, by the name that compose gives it."""
    key = next((key for key in service if key.lower() == "loadbalancer"), "loadBalancer")
    balancer = service.setdefault(key, {})
    server = balancer.pop("server", {})
    servers = balancer.get("servers")
    if isinstance(servers, dict):
        balancer["servers"] = [servers[index] for index in sorted(servers, key=int)]
    if server.get("url"):
        balancer["servers"] = [{"url": server["url"]}]
    elif "servers" not in balancer:
        port = server.get("port") or _exposed(container)
        scheme = server.get("scheme", "http")
        balancer["servers"] = [{"url": f"{scheme}://{name}:{port}"}] if port else []


def _exposed(container: Item) -> str:
    """Return the lowest port that the container exposes, as Traefik takes it; empty if there is none."""
    texts = [text for key in ("expose", "ports") for text in container.get(key).texts()]
    ports = [int(match["port"]) for text in texts if (match := _PORT.fullmatch(text))]
    return str(min(ports)) if ports else ""
