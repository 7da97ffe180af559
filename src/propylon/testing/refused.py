"""Refuse what cannot be had without sockets and in virtual time."""

from __future__ import annotations

from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import parse_upstream

__all__ = ["NotInMemory", "check_config"]


class NotInMemory(Exception):
    """The test asks for what a gateway in memory and in virtual time cannot do."""


def check_config(config: GatewayConfig) -> None:
    """Raise NotInMemory for a configuration that needs a socket."""
    if config.redis.url is not None:
        msg = "redis: a gateway under test has no sockets; leave redis out of the tests' configuration"
        raise NotInMemory(msg)
    if config.log.syslog is not None:
        msg = "log.syslog: a gateway under test has no sockets; leave it out of the tests' configuration"
        raise NotInMemory(msg)
    for name, service in config.services.items():
        if service.kubernetes is not None or service.docker:
            msg = f"services.{name}: there is no Kubernetes and no Docker; write a url in the tests' configuration"
            raise NotInMemory(msg)
        for url in service.urls:
            if parse_upstream(url).srv:
                msg = f"services.{name}: there is no name server that tells SRV records; write host and port"
                raise NotInMemory(msg)
