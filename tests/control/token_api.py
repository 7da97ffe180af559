"""The token endpoints over real stores, behind a stand-in for the gateway, which verifies tokens and passes the caller on."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import sqlite3
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from propylon.control import tokens, users
from propylon.control.app import create_app
from propylon.control.issuer import Issuer
from propylon.control.sessions import Sessions
from propylon.errors import AuthError
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.guesses import Guesses
from propylon.proxy.authenticate.keys import from_secret
from propylon.proxy.authenticate.revocation import of_all
from propylon.proxy.authenticate.trust import Trust
from propylon.proxy.authenticate.verify import FixedKeys, Verifier
from propylon.proxy.principal import ANONYMOUS
from propylon.upstream.inprocess import CONTEXT
from tests.stores.kept import PASSWORD, Clock, Kept

T = TypeVar("T")

SECRET = b"0123456789abcdef0123456789abcdef"
PREFIX = "/api/v1"
EXPIRES = 1800.0


# The worker whose request the one app answers in this context.
_SERVING: ContextVar[TokenApi] = ContextVar("serving")


class _Its:
    """What the serving worker has by that name: its store, say, or its issuer."""

    def __init__(self, find: Callable[[TokenApi], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(_SERVING.get()), name)

    def __call__(self, *arguments: Any) -> Any:
        return self._find(_SERVING.get())(*arguments)


@cache
def _app() -> FastAPI:
    """Return the endpoints of all workers: FastAPI takes longer to build them than most tests take."""
    journal: Any = _Its(lambda api: api.kept.journal)
    sessions: Any = _Its(lambda api: api.sessions)
    grants: Any = _Its(lambda api: api.kept.grants)
    accounts: Any = _Its(lambda api: api.kept.users)
    return create_app(
        "1.2.3",
        [
            tokens.router(
                PREFIX,
                verify=_Its(lambda api: api.verifier.verify),
                revoker=journal,
                clock=_Its(lambda api: api.clock),
                sessions=sessions,
                grants=grants,
                accounts=accounts,
            ),
            users.router(PREFIX, accounts, grants, sessions),
        ],
    )


class TokenApi:
    """The token endpoints of one worker, and a client that calls them."""

    def __init__(self, folder: Path, runner: asyncio.Runner, clock: Clock, ids: str = "id") -> None:
        self.kept = Kept(folder, runner, clock)
        self.clock = clock
        self.client = "192.0.2.1"  # where requests come from
        numbers = itertools.count(1)
        self.issuer = Issuer(
            SECRET,
            "HS256",
            EXPIRES,
            clock,
            lambda: f"{ids}-{next(numbers)}",
        )
        self.rules = Rules()
        kept = self.kept
        keys = FixedKeys(from_secret(SECRET, ["HS256"]))
        self.verifier = Verifier([Trust(self.rules, keys)], None, kept.memory, clock)
        self.slept: list[float] = []
        self.sessions = Sessions(
            kept.users,
            kept.grants,
            kept.journal,
            self.issuer,
            guesses=Guesses(kept.monotonic),
            sleep=self.sleep,
        )
        self.app = _app()

    async def sleep(self, seconds: float) -> None:
        """Note a delay instead of waiting for it."""
        self.slept.append(seconds)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do what the gateway does: verify the token, and put the principal into the scope."""
        principal = ANONYMOUS
        for name, value in scope["headers"]:
            if name == b"authorization":
                try:
                    verified = await self.verifier.verify(value.removeprefix(b"Bearer "))
                except AuthError as error:
                    principal = ANONYMOUS
                    assert error.status == 401
                else:
                    principal = verified.principal
        _SERVING.set(self)
        origin = SimpleNamespace(client=self.client)
        scope["state"] = {
            CONTEXT: SimpleNamespace(principal=principal, downstream=SimpleNamespace(origin=origin))
        }
        await self.app(scope, receive, send)

    async def asking(
        self, method: str, path: str, token: str = "", **options: Any
    ) -> httpx.Response:
        """Send a request, and return the answer."""
        headers = {"X-Request-ID": "abc", **options.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(self)  # type: ignore[arg-type]
        async with httpx.AsyncClient(
            transport=transport, base_url="http://a", trust_env=False
        ) as client:
            return await client.request(method, f"{PREFIX}{path}", headers=headers, **options)

    def add(self, name: str = "ann", **fields: Any) -> None:
        """Add a user with PASSWORD."""
        if not self.kept.file.exists():
            self.kept.file.write_bytes(_empty())
        self.kept.add(name, **fields)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something to its end, on the one loop."""
        return self.kept.run(coroutine)

    def post(self, path: str, token: str = "", /, **form: str) -> httpx.Response:
        """Post a form."""
        return self.run(self.asking("POST", path, token, data=form))

    def get(self, path: str, token: str = "") -> httpx.Response:
        """Send a GET request."""
        return self.run(self.asking("GET", path, token))

    def login(self, name: str = "ann", **form: str) -> dict[str, Any]:
        """Log in with PASSWORD; return the answer."""
        answer = self.post("/auth/token", username=name, password=PASSWORD, **form)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refresh(self, refresh_token: str, **form: str) -> httpx.Response:
        """Exchange a refresh token."""
        return self.post(
            "/auth/token", grant_type="refresh_token", refresh_token=refresh_token, **form
        )

    def good(self, token: str) -> bool:
        """Whether an access token is valid now."""
        try:
            self.run(self.verifier.verify(token.encode()))
        except AuthError:
            return False
        return True


@cache
def _empty() -> bytes:
    """Return a database without users: creating one takes longer than most tests."""
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        kept = Kept(Path(folder), runner, Clock())
        runner.run(kept.journal.revoke(of_all(0.0)))
        kept.close()
        with sqlite3.connect(kept.file) as connection:
            connection.execute("DELETE FROM revocations")
        connection.close()
        return kept.file.read_bytes()


def claims(token: str) -> dict[str, Any]:
    """What a token says."""
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return found
