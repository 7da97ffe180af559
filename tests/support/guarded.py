"""Describe the gateway that asks everybody for a token: its routes, its rules, its users."""

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from propylon.cli.main import app
from propylon.commands import user
from propylon.stores.passwords import Cost, Passwords
from tests.support.client import ask
from tests.support.excused import excused
from tests.support.gateway import Config, Gateway
from tests.support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.support.secrecy import SECRECY
from tests.support.tokens import SECRET
from tests.support.topology import HASTE, PATIENT, SMALL_BODY, Upstreams

# Pages that may read the answers; everybody else's may not.
SHOP, OFFICE, LOCAL = "https://shop.example", "https://office.example:8443", "http://localhost:3000"
PASSWORDS = {
    name: SECRECY.note(f"{name}-Tq7x-passphrase-91")
    for name in ("alice", "bob", "carol", "dave", "erin")
}
EMAILS = {name: f"{name}@users.example" for name in PASSWORDS}
# What `user add` is told: alice reads and writes, bob only reads, carol may everything, dave is gone;
# erin comes and goes.
USERS: dict[str, list[str]] = {
    "alice": ["--scopes", "read write", "--roles", "clerk", "--full-name", "Alice Archer"],
    "bob": ["--scopes", "read"],
    "carol": ["--scopes", "read write admin", "--roles", "admin clerk"],
    "dave": ["--scopes", "read"],
    "erin": ["--scopes", "read write"],
}
OFTEN = {"rate": "1000/s", "burst": 1000, "key": "ip"}  # guesses at a password that do no harm

# What a hash costs is meant to be too much for the hundreds of logins here. `tests/stores/test_passwords.py`
# looks at the cost; the demo's own tests log in at it.
CHEAP = Cost(time=1, memory=8, lanes=1)
FIRST = f"""
from propylon.proxy.authenticate import introspection
from propylon.stores.passwords import Cost
Cost.__init__.__defaults__ = {astuple(CHEAP)}
introspection.TIMEOUT = 1.5  # seconds, instead of 5, that a request waits for a verdict
"""

REMEMBERED = 0.5  # seconds: how long the answer of an introspection is believed

ROUTES: list[dict[str, Any]] = [
    # Who gets in.
    {"name": "open", "path": "/open", "service": "main", "auth": "none"},
    {"name": "maybe", "path": "/maybe", "service": "main", "auth": "optional"},
    {"name": "locked", "path": "/locked", "service": "main"},
    {"name": "tokenless", "path": "/tokenless", "service": "tokenless"},
    {"path": "/login", "service": "main", "auth": "none", "methods": ["POST"], "exact": True},
    {"path": "/accounts", "service": "main"},
    {"path": "/accounts/login", "service": "main", "auth": "none", "exact": True},
    # What they may do.
    {"path": "/read", "service": "main", "scopes": ["read"]},
    {"path": "/both", "service": "main", "scopes": ["read", "write"]},
    {"path": "/clerks", "service": "main", "roles": ["clerk", "admin"]},
    {"path": "/bosses", "service": "main", "scopes": ["read"], "roles": ["boss"]},
    {"path": "/perhaps", "service": "main", "auth": "optional", "scopes": ["read"]},
    {"name": "list", "path": "/table", "service": "main", "methods": ["GET"],
     "roles": ["user", "admin"]},
    {"name": "write", "path": "/table", "service": "main", "methods": ["POST", "PUT"],
     "roles": ["admin"]},
    {"name": "wipe", "path": "/table/{id}", "service": "main", "methods": ["DELETE"],
     "scopes": ["delete"], "roles": ["admin"]},
    # A protected path below a public one, and the other way round.
    {"path": "/files", "service": "main", "auth": "none"},
    {"path": "/files/admin", "service": "main", "scopes": ["admin"]},
    {"path": "/vault", "service": "main", "scopes": ["admin"]},
    {"path": "/vault/door", "service": "main", "auth": "none"},
    {"path": "/teams/{team}", "service": "main", "auth": "none"},
    {"path": "/teams/{team}/keys", "service": "main", "scopes": ["admin"]},
    {"path": "/hosted", "service": "main", "auth": "none"},
    {"name": "inner", "path": "/hosted", "service": "main", "hosts": ["inner.example"],
     "scopes": ["admin"]},
    # What goes wrong behind the gate.
    {"path": "/small", "service": "main", "auth": "none", "max_body": SMALL_BODY},
    {"path": "/few", "service": "main", "auth": "none", "methods": ["GET", "POST"]},
    {"path": "/closed", "service": "closed", "auth": "none"},
    {"path": "/nohost", "service": "nohost", "auth": "none"},
    {"path": "/empty", "service": "empty", "auth": "none"},
    {"path": "/hasty", "service": "main", "auth": "none",
     "timeouts": {"first_byte": HASTE, "total": HASTE}},
    # How much is told.
    {"path": "/privacy", "service": "main", "auth": "none"},
    {"path": "/privacy/known", "service": "main"},
    {"path": "/privacy/required", "service": "main", "auth": "none", "privacy": "required"},
    {"path": "/privacy/ignored", "service": "main", "auth": "none", "privacy": "ignored"},
    {"path": "/privacy/strict", "service": "main", "default_privacy": "strict"},
]  # fmt: skip


def _services(upstreams: Upstreams) -> dict[str, Any]:
    main = f"http://127.0.0.1:{upstreams.main.port}"
    retry = {"attempts": 1}  # how often is another case's business
    circuit = {"failure_threshold": 100_000, "min_throughput": 100_000}
    shared = {"timeouts": PATIENT, "retry": retry, "circuit": circuit}
    return {
        "main": {"url": main, **shared},
        "tokenless": {"url": main, "forward_token": False, **shared},
        "closed": {"url": f"http://127.0.0.1:{upstreams.closed_port}", **shared},
        "nohost": {"url": "http://nosuch.invalid:8000", **shared},
        "empty": {},
    }


def configuration(upstreams: Upstreams, database: Path, **over: Any) -> Config:
    """The configuration of the guarded gateway; `over` replaces sections of it."""
    # Without a grace a token is good once, which is what the hostile tests look for.
    tokens = {
        "database": f"sqlite:///{database}",
        "rate_limit": OFTEN,
        "refresh_grace": "0s",
    }
    return {
        "server": {"timeouts": {"header": 20, "idle": 60, "body": 20}, "drain": 10},
        "auth": {"jwt": {"secret": SECRET}, "tokens": tokens},
        "cors": {"origins": [SHOP, OFFICE, LOCAL], "credentials": True, "expose": ["X-Total"]},
        "services": _services(upstreams),
        "routes": [dict(route) for route in ROUTES],
        **over,
    }


def loose_configuration(upstreams: Upstreams, database: Path, issuer: Issuer) -> Config:
    """The other kind: opaque tokens, a trusted proxy, every page, the usual limit, and debug."""
    introspection = {
        "url": issuer.introspection_url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "cache": REMEMBERED,
    }
    config = configuration(upstreams, database)
    config["server"] |= {"trusted_proxies": ["127.0.0.1/32"]}
    config["auth"] = {
        "jwt": {"secret": SECRET},
        "introspection": introspection,
        "tokens": {"database": f"sqlite:///{database}"},
    }
    config["cors"] = {
        "origins": ["*"],
        "methods": ["GET", "POST"],
        "headers": ["X-Known"],
        "max_age": 60,
    }
    # What the routes do not say is none, and that is for routes only.
    config["routes"] = [{"auth": "required", **route} for route in config["routes"]]
    config["routes"].append({"path": "/lax", "service": "main"})
    return {**config, "defaults": {"auth": "none"}, "debug": True, "log": {"level": "debug"}}


def propylon(file: Path, *arguments: str, stdin: str = "", **environ: str) -> tuple[int, str]:
    """Run a command to its end; what it says is searched for secrets with everything else."""
    unset: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("PROPYLON")
    }
    with contextlib.chdir(file.parent):
        done = CliRunner(env=unset | environ).invoke(
            app, [*arguments, "--config", str(file)], input=stdin
        )
    SECRECY.hear(f"propylon {' '.join(arguments[:2])}", done.output)
    return done.exit_code, done.output


def add_users(folder: Path, database: Path) -> None:
    """Add every user by the command, as an operator does; then dave leaves."""
    file = folder / "propylon.yaml"
    auth = {"jwt": {"secret": SECRET}, "tokens": {"database": f"sqlite:///{database}"}}
    file.write_text(yaml.safe_dump({"auth": auth}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user, "Passwords", lambda: Passwords(CHEAP))
        for name, more in USERS.items():
            options = ["--password-stdin", *more, "--email", EMAILS[name]]
            done = propylon(file, "user", "add", name, *options, stdin=PASSWORDS[name])
            assert done[0] == 0, done
    assert propylon(file, "user", "disable", "dave")[0] == 0


class Kept:
    """Gateways of one kind, one an edge, that many cases share; started when first asked for."""

    def __init__(
        self,
        edges: Iterable[str],
        folder: Path,
        config: Config,
        *,
        app: str = "",
        source: str = "",
        first: str = "",
    ) -> None:
        """Prepare; `source` is the text of the module `app`, if there is one; `first` is as in `command`."""
        self._config = config
        self._first = first
        self._app = app
        self._source = source
        self._folders = {edge: folder / edge for edge in edges}
        self._running: dict[str, Gateway] = {}

    def at(self, edge: str) -> Gateway:
        """The one on that edge, ready; the others begin to start, too, while it is used."""
        if not self._running:
            for name, folder in self._folders.items():
                folder.mkdir(parents=True)
                if self._app:
                    (folder / f"{self._app}.py").write_text(self._source)
                self._running[name] = Gateway(
                    name, self._config, folder, app=self._app, first=self._first
                )
        self._running[edge].wait_ready()
        return self._running[edge]

    def close(self) -> None:
        """End them. Raises AssertionError if one of them has died meanwhile."""
        fallen = [one for one in self._running.values() if one.process.poll() is not None]
        for gateway in self._running.values():
            if gateway not in fallen:
                for target in ("/metrics", "/openapi.json"):  # what they tell, too
                    said = ask(gateway.port, target=target).body.decode()
                    SECRECY.hear(f"{target} on {gateway.edge}", said)
        for gateway in self._running.values():
            gateway.ask_to_stop()
        ended = {name: gateway.status() for name, gateway in self._running.items()}
        assert fallen == [], fallen[0].said()[-2000:]
        # uvicorn ends by the signal that stopped it: excused as "exit-status".
        excusable = {name: -signal.SIGTERM for name in ended if excused(name, "exit-status")}
        faults = {
            name: status for name, status in ended.items() if status not in (0, excusable.get(name))
        }
        assert faults == {}, self._running[next(iter(faults))].said()[-2000:]
