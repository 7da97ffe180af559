"""Start the gateway in this process, with the real services behind it or others in their place."""

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest

# The settings are read when the gateway is imported. Without another application in their place, nothing listens at the user
# service's address, and the auth service takes connections and never answers.
SILENT = socket.create_server(("127.0.0.1", 0))
KEY = secrets.token_urlsafe(48)
FOLDER = tempfile.mkdtemp(prefix="tracklore-")
os.environ.update(
    JWT_SECRET_KEY=KEY,
    USER_SERVICE_URL="http://127.0.0.1:1",
    AUTH_SERVICE_URL=f"http://127.0.0.1:{SILENT.getsockname()[1]}",
    DATA_DIR=FOLDER,
    PROPYLON_AUTH__TOKENS__DATABASE=f"sqlite:///{FOLDER}/propylon.db",
    PROPYLON_SERVICES__USER__RETRY__ATTEMPTS="1",
    PROPYLON_SERVICES__AUTH__TIMEOUTS__FIRST_BYTE="100ms",
)

from app.main import app, gateway  # noqa: E402
from services import auth, user  # noqa: E402
from tests.echo import Echo  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def clean_up() -> Iterator[None]:
    """Close the socket that answers nobody, and remove the databases, at the end."""
    with SILENT:
        yield
    shutil.rmtree(FOLDER)


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio."""
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running gateway."""
    transport = httpx.ASGITransport(app)
    async with (
        gateway.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


@pytest.fixture
def echo() -> Iterator[Echo]:
    """An upstream in the place of both services that tells what it got."""
    echo = Echo()
    with gateway.override_service("user", echo), gateway.override_service("auth", echo):
        yield echo


@pytest.fixture
def services() -> Iterator[None]:
    """The services of this directory."""
    with gateway.override_service("user", user.app), gateway.override_service("auth", auth.app):
        yield


def token(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> dict[str, str]:
    """Return the header with a token that is valid for a minute, unless `claims` say otherwise."""
    written = {"sub": "42", "exp": time.time() + 60, **claims}
    present = {name: value for name, value in written.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(present, key, algorithm)}"}
