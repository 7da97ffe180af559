"""Where Redis is and how to log in: what the configuration says, compiled. Pure."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Address", "Kind", "Login", "Target"]

Kind = Literal["server", "socket", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port, or the path of a socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return what logs call it."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password; both may be empty. `database` is selected after the login."""

    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Where Redis is: the addresses of the server, of the Sentinels, or of some nodes of the Cluster.

    `timeout` is the longest that a request waits for an answer, in seconds.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    login: Login = Login()
    tls: ssl.SSLContext | None = None
    master: str = ""
    sentinel_login: Login = Login()
    namespace: str = "propylon"
    timeout: float = 0.05

    @property
    def patience(self) -> float:
        """Seconds for one attempt to connect: several round trips, and no request waits for it."""
        return max(0.5, 10 * self.timeout)
