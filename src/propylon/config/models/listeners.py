"""Define the entries of `server.listen`: an address, and how connections to it are served."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel
from propylon.config.models.syntax import check_hostname
from propylon.wire.grammar import MAX_PORT, read_port

__all__ = [
    "DEFAULT_MODE",
    "UNIX",
    "Address",
    "Descriptor",
    "Listener",
    "ListenerConfig",
    "Systemd",
    "Tcp",
    "UnixPath",
    "parse_address",
]

UNIX = "unix"
"""In `server.trusted_proxies`: each peer on a Unix socket (nginx: `set_real_ip_from unix:`)."""

# The owner and the group: uvicorn and nginx let every user of the machine connect (0666), and that is more than a gateway
# opens by itself.
DEFAULT_MODE = "0660"
# `sun_path` has 108 bytes on Linux and 104 on macOS, the final NUL included.
_LONGEST_PATH = 103
_MODE = re.compile(r"0?[0-7]{3}")
_DESCRIPTOR = re.compile(r"[0-9]{1,6}")
# 0, 1 and 2 are standard input, output and error (systemd: SD_LISTEN_FDS_START).
_FIRST_DESCRIPTOR = 3
_ADDRESS = re.compile(r"(?P<host>\[[^\]]*\]|[^:]+):(?P<port>[^:]*)")
_FORMS = "127.0.0.1:8000, [::]:443, unix:/run/propylon.sock, fd:3 or systemd"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A host, without brackets, and a port; 0 takes any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as it is written: `[::]:443`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixPath:
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        """Return the address as it is written."""
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open socket that the process has inherited, by its number."""

    number: int

    def __str__(self) -> str:
        """Return the address as it is written."""
        return f"fd:{self.number}"


@dataclass(frozen=True, slots=True)
class Systemd:
    """All sockets that systemd passes to the process (sd_listen_fds)."""

    def __str__(self) -> str:
        """Return the address as it is written."""
        return "systemd"


Address = Tcp | UnixPath | Descriptor | Systemd


def parse_address(text: str) -> Address:
    """Parse an address to listen on. Raises ValueError."""
    if text == "systemd":
        return Systemd()
    kind, _, rest = text.partition(":")
    if kind == UNIX:
        return UnixPath(_check_socket_path(rest))
    if kind == "fd":
        return Descriptor(_check_descriptor(rest))
    match = _ADDRESS.fullmatch(text)
    if match is None:
        msg = f'"{text}" is no address to listen on: write {_FORMS}'
        raise ValueError(msg)
    port = read_port(match["port"])
    if port is None:
        msg = f'"{match["port"]}" is no port: a number from 0 to {MAX_PORT}'
        raise ValueError(msg)
    return Tcp(check_hostname(match["host"]).strip("[]"), port)


def _check_socket_path(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        msg = (
            f'"{UNIX}:{path}" needs the absolute path of a socket, such as unix:/run/propylon.sock'
        )
        raise ValueError(msg)
    if len(path.encode()) > _LONGEST_PATH:
        msg = f"the path of a Unix socket has at most {_LONGEST_PATH} bytes; write a shorter one"
        raise ValueError(msg)
    return path


def _check_descriptor(text: str) -> int:
    if not _DESCRIPTOR.fullmatch(text) or int(text) < _FIRST_DESCRIPTOR:
        msg = f'"fd:{text}" must name an inherited socket by its number, from fd:3 on'
        raise ValueError(msg)
    return int(text)


def _check_address(text: str) -> str:
    return str(parse_address(text))


class ListenerConfig(ConfigModel):
    """One listener: an address, and how connections to it are served."""

    address: str = Field(
        description="Where to listen: 127.0.0.1:8000, [::]:443 (IPv4 as well), unix:/run/propylon.sock, fd:3 (an"
        " inherited socket), or systemd (all sockets that systemd passes).",
    )
    tls: bool | None = Field(
        default=None,
        description="Whether clients speak TLS, with the certificates of `tls`. When not set: they do not.",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Whether peers among server.trusted_proxies begin each connection with a header of the PROXY"
        " protocol, version 1 or 2. The address in it becomes the client's.",
    )
    redirect: Literal["https"] | None = Field(
        default=None,
        description="https: answers every request with 308 to the same URL with https. Nothing else is served there.",
    )
    mode: str | None = Field(
        default=None,
        description=f"Permissions of a Unix socket, octal. When not set: {DEFAULT_MODE}, for the user and the group of"
        " the gateway.",
    )

    @field_validator("address")
    @classmethod
    def _valid_address(cls, address: str) -> str:
        return _check_address(address)

    @field_validator("redirect")
    @classmethod
    def _redirects_from_plain(cls, redirect: str | None, info: ValidationInfo) -> str | None:
        if redirect is not None and info.data.get("tls"):
            msg = "is for clients without TLS; leave out `tls: true`"
            raise ValueError(msg)
        return redirect

    @field_validator("mode", mode="before")
    @classmethod
    def _octal(cls, mode: object, info: ValidationInfo) -> object:
        # YAML 1.2 reads 660 as a number: the digits are what was meant.
        text = str(mode) if isinstance(mode, int) else mode
        if not isinstance(text, str) or not _MODE.fullmatch(text):
            msg = f"must be an octal mode, such as {DEFAULT_MODE}"
            raise ValueError(msg)
        if not str(info.data.get("address", UNIX)).startswith(UNIX):
            msg = "is for Unix sockets only"
            raise ValueError(msg)
        return text

    @property
    def parsed(self) -> Address:
        """The address in parts."""
        return parse_address(self.address)


def _from_text(value: object) -> object:
    # Checked here, so that the problem of a plain address is shown at the item, not at a key that it does not have.
    # A port alone is a number to YAML.
    return {"address": _check_address(str(value))} if isinstance(value, str | int) else value


Listener = Annotated[
    ListenerConfig, BeforeValidator(_from_text, json_schema_input_type=str | ListenerConfig)
]
"""An entry of `server.listen`: a mapping, or the address alone."""
