"""Import the gateway that `run --app pkg.module:gateway` names.

A worker imports it in its own process, after the fork: threads and connections that the module opens would not survive
a fork. The parent needs only the configuration, so a short-lived child process reads it for the parent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from propylon.assembly.gateway import Gateway
from propylon.config.models.schema import LogConfig, ServerConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem

__all__ = ["GatewayNotLoaded", "load_gateway", "read_checked", "read_config"]

UNUSABLE = 2


class GatewayNotLoaded(Exception):
    """The name leads to no gateway; the message says why, for the operator."""


def load_gateway(name: str) -> Gateway:
    """Import the gateway. Raises GatewayNotLoaded; exceptions of the module itself pass through."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute.isidentifier()):
        msg = f'"{name}" is not of the form pkg.module:gateway'
        raise GatewayNotLoaded(msg)
    directory = os.getcwd()  # noqa: PTH109 — sys.path holds texts
    if module_name.endswith(".py"):
        directory, module_name = _located(module_name)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # If the module exists but one of its own imports fails, the user needs the traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        msg = f'cannot import "{module_name}": there is no module "{error.name}"'
        raise GatewayNotLoaded(msg) from error
    gateway = getattr(module, attribute, None)
    if not isinstance(gateway, Gateway):
        what = f"is a {type(gateway).__name__}" if hasattr(module, attribute) else "does not exist"
        msg = f'"{name}" {what}; it must be a propylon.Gateway'
        raise GatewayNotLoaded(msg)
    return gateway


def _located(file: str) -> tuple[str, str]:
    """Return directory and module name of a file that --app names as people do: ./shop.py."""
    path = Path(file).resolve()
    if not path.is_file():
        msg = f'there is no file "{file}"'
        raise GatewayNotLoaded(msg)
    if not path.stem.isidentifier():
        msg = f'"{path.name}" cannot be imported: a module\'s name has letters, digits and _ only'
        raise GatewayNotLoaded(msg)
    return str(path.parent), path.stem


def read_config(name: str, overrides: Mapping[str, object]) -> Loaded:
    """Return the configuration of a gateway; a child process imports it, not this one.

    `overrides` are the command line's options. What is wrong is printed before anything listens. Raises SystemExit with
    the status of the command then.
    """
    try:
        return _with_overrides(read_checked(name), overrides)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(UNUSABLE) from None


def read_checked(name: str) -> Loaded:
    """Return the same without options. Raises SystemExit as above, and ConfigError where the gateway's endpoints contradict its configuration."""
    loaded, problems = _read(name)
    if problems:
        raise ConfigError(problems)
    return loaded


# A configuration, and where the endpoints of its gateway contradict it.
_Read = tuple[Loaded, tuple[Problem, ...]]


def _read(name: str) -> _Read:
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_config, args=(name, sender))
    child.start()
    sender.close()
    try:
        found: _Read = receiver.recv()
    except EOFError:
        child.join()
        raise SystemExit(child.exitcode) from None
    child.join()
    return found


def _send_config(name: str, sender: Connection) -> None:
    """Run in the child: send the configuration, or print why it cannot be read, and end."""
    try:
        gateway = load_gateway(name)
        settled = replace(gateway.settled, endpoints=gateway.custom_endpoints)
    except GatewayNotLoaded as error:
        sys.stderr.write(f"propylon: {error}\n")
        sys.exit(UNUSABLE)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(UNUSABLE)
    sender.send((settled, gateway.contradictions))


def _with_overrides(loaded: Loaded, overrides: Mapping[str, object]) -> Loaded:
    """Return the configuration with the options of the command line in it."""
    given = {key: value for key, value in overrides.items() if value is not None}
    _check_listen(loaded, given)
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


def _check_listen(loaded: Loaded, given: Mapping[str, object]) -> None:
    """End the process if there is an address on the command line beside a list of listeners in the file."""
    beside = {"server.host", "server.port"} & given.keys()
    if beside and loaded.config.server.listen is not None:
        msg = "server.listen replaces host and port: leave the options --host and --port out"
        problem = loaded.places.problem(("server", "listen"), msg)
        sys.stderr.write(f"{problem}\n")
        raise SystemExit(UNUSABLE)
