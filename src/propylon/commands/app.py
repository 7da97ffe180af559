"""Find a gateway of somebody's own: `pkg.module:gateway`, imported where it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection

from propylon.assembly.gateway import Gateway
from propylon.config.models.schema import LogConfig, ServerConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError

__all__ = ["NoGateway", "described", "found"]

UNUSABLE = 2


class NoGateway(Exception):
    """The name leads to no gateway; the message is one clear sentence."""


def found(name: str) -> Gateway:
    """Import the gateway. Raises NoGateway, or whatever the module itself raises."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute.isidentifier()):
        msg = f'"{name}" is not of the form pkg.module:gateway'
        raise NoGateway(msg)
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 — sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but misses one of its own imports is a bug with a traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        msg = f'cannot import "{module_name}": there is no module "{error.name}"'
        raise NoGateway(msg) from error
    gateway = getattr(module, attribute, None)
    if not isinstance(gateway, Gateway):
        what = f"is a {type(gateway).__name__}" if hasattr(module, attribute) else "does not exist"
        msg = f'"{name}" {what}; it must be a propylon.Gateway'
        raise NoGateway(msg)
    return gateway


def described(name: str, overrides: Mapping[str, object]) -> Loaded:
    """Return the configuration of a gateway without importing it here.

    A process of its own looks, because this one forks workers, and threads or connections that the
    module opens would not survive that. Raises SystemExit with what was said about a failure.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_describe, args=(name, sender))
    child.start()
    sender.close()
    try:
        loaded: Loaded = receiver.recv()
    except EOFError:
        child.join()
        raise SystemExit(child.exitcode) from None
    child.join()
    return _overridden(loaded, overrides)


def _describe(name: str, sender: Connection) -> None:
    """Be the process that looks: send the configuration, or say why not, and end."""
    try:
        loaded = found(name).loaded
    except NoGateway as error:
        sys.stderr.write(f"propylon: {error}\n")
        sys.exit(UNUSABLE)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(UNUSABLE)
    sender.send(loaded)


def _overridden(loaded: Loaded, overrides: Mapping[str, object]) -> Loaded:
    """Lay the command line over what the gateway itself was told."""
    given = {key: value for key, value in overrides.items() if value is not None}
    sections: dict[str, dict[str, object]] = {
        section: getattr(loaded.config, section).model_dump() for section in ("server", "log")
    }
    for key, value in given.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    update = {
        "server": ServerConfig.model_validate(sections["server"]),
        "log": LogConfig.model_validate(sections["log"]),
    }
    return replace(loaded, config=loaded.config.model_copy(update=update))
