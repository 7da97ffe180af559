"""Parse `propylon health`, print what the gateway's listeners answer."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from propylon.cli.options import UNUSABLE, ConfigOption, HostOption, PortOption, give_up

if TYPE_CHECKING:
    from pathlib import Path

    from propylon.config.models.listeners import Address
    from propylon.config.models.schema import GatewayConfig

__all__ = ["health"]

# Also for a file that cannot be read: Docker reserves 2 in the exit status of a health check.
_UNHEALTHY = 1


def health(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ask only there: 127.0.0.1:8000 or unix:/run/propylon.sock. By default all listeners for clients.",
        ),
    ] = None,
    live: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--live", help="Ask /livez instead of /readyz.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds that the answers may take.")
    ] = 2.0,
) -> None:
    """Ask the running gateway on this machine whether it is ready. Exit status: 0; 1 if it is not.

    Health checks of containers need neither curl nor a shell with it.
    """
    named = None if address is None else _listener(address)
    overrides: dict[str, object] = {"server.host": host, "server.port": port}
    listening = _listening(config, overrides)
    from propylon.commands.health import LIVE, READY, ask  # noqa: PLC0415

    verdicts = ask(listening, LIVE if live else READY, timeout, named)
    for verdict in verdicts:
        if verdict.problem:
            sys.stderr.write(f"propylon: {verdict.address}: {verdict.problem}\n")
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(_UNHEALTHY)
    typer.echo("live" if live else "ready")


def _listening(config: Path | None, overrides: dict[str, object]) -> GatewayConfig:
    """Return the configuration as far as it says where the gateway listens, or print why there is none and end."""
    from propylon.config.reading.load import load_listeners  # noqa: PLC0415
    from propylon.config.reading.problems import ConfigError  # noqa: PLC0415

    try:
        return load_listeners(config, os.environ, overrides)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(_UNHEALTHY) from None


def _listener(text: str) -> Address:
    from propylon.config.models.listeners import Tcp, UnixPath, parse_address  # noqa: PLC0415

    try:
        address = parse_address(text)
    except ValueError as error:
        give_up(str(error), UNUSABLE)
    if not isinstance(address, Tcp | UnixPath):
        give_up(f'"{text}" cannot be asked from another process', UNUSABLE)
    return address
