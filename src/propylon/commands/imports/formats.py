"""The table of the formats that can be imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from propylon.commands.imports.apisix import reader as apisix
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.fastapi import reader as fastapi
from propylon.commands.imports.haproxy import reader as haproxy
from propylon.commands.imports.kong import reader as kong
from propylon.commands.imports.krakend import reader as krakend
from propylon.commands.imports.nginx import reader as nginx
from propylon.commands.imports.source import Source
from propylon.commands.imports.spring import reader as spring
from propylon.commands.imports.traefik import reader as traefik

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what its files are, and what reads them."""

    files: str
    read: Callable[[list[Source], Draft], None]


FORMATS: Mapping[str, Format] = {
    "kong": Format("kong.yml of decK or of DB-less Kong", kong.read),
    "krakend": Format("krakend.json", krakend.read),
    "apisix": Format("apisix.yaml of the standalone mode", apisix.read),
    "spring": Format("application.yml of Spring Cloud Gateway", spring.read),
    "traefik": Format("dynamic files in YAML or TOML, and compose files with labels", traefik.read),
    "nginx": Format("nginx.conf, and files that it includes", nginx.read),
    "haproxy": Format("haproxy.cfg", haproxy.read),
    "fastapi": Format(
        "Python files of a gateway that uses FastAPI; they are never run", fastapi.read
    ),
}
