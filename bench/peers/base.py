"""What every gateway to measure has: a place, a program, a configuration, a command."""

import getpass
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
PEER_PROGRAMS = HERE / ".peers" / "bin"

# The measured one stands in the middle: gateways that try their routes in turn neither win nor lose by it.
SERVICES = (
    "users",
    "products",
    "carts",
    "payments",
    "orders",
    "invoices",
    "shipments",
    "reviews",
    "search",
    "messages",
)
PREFIXES = tuple(f"/api/v1/{service}" for service in SERVICES)


@dataclass(frozen=True)
class Site:
    """Where one gateway lives while it is measured."""

    directory: Path
    port: int
    admin_port: int
    upstream_port: int
    # What tokens are signed with; without one, nobody checks any.
    secret: str | None = None

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"

    @property
    def stdout(self) -> Path:
        return self.directory / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.directory / "stderr.log"


class Peer:
    """A gateway to measure."""

    name: ClassVar[str]
    program: ClassVar[str]
    # How it can be had, for the sentence that says why it is missing.
    source: ClassVar[str]
    logs_to_stdout: ClassVar[bool] = False
    # Traefik alone cannot make one: https://github.com/traefik/traefik/issues/4640.
    sends_request_id: ClassVar[bool] = True
    # Whether the version that anybody can install verifies an HS256 token by itself.
    checks_tokens: ClassVar[bool] = False

    def executable(self) -> str | None:
        installed = PEER_PROGRAMS / self.program
        return str(installed) if installed.exists() else shutil.which(self.program)

    def missing(self) -> str | None:
        """Why it cannot be measured here, or nothing."""
        return None if self.executable() else f"{self.program} is not installed ({self.source})"

    def command(self, site: Site) -> list[str]:
        """Write its configuration and say how to start it."""
        raise NotImplementedError

    def environment(self, site: Site) -> dict[str, str]:
        """What it needs in the environment."""
        del site
        return {}

    def path(self) -> str:
        return self.executable() or self.program


def user_directive() -> str:
    """Nginx started by root gives its workers away to a user who may not write into our directory."""
    return f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
