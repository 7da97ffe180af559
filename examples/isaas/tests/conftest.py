"""Start the gateway in this process, with the real services behind it or others in their place."""

import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest
import uvicorn
from fastapi.testclient import TestClient

# The settings are read when the gateway is imported. Without another application in its place, nothing listens at a service's address.
KEY = secrets.token_urlsafe(48)
FOLDER = tempfile.mkdtemp(prefix="isaas-")
os.environ.update(
    SECRET_KEY=KEY,
    ACCESS_TOKEN_EXPIRE_MINUTES="5",
    DATA_DIR=FOLDER,
    PROPYLON_AUTH__TOKENS__DATABASE=f"sqlite:///{FOLDER}/propylon.db",
    PROPYLON_SERVICES__CONTEXT__RETRY__ATTEMPTS="1",
    PROPYLON_SERVICES__REALTIME__RETRY__ATTEMPTS="1",
)
NAMES = ("context", "intent", "prediction", "realtime")
for _name in NAMES:
    os.environ[f"{_name.upper()}_SERVICE_URL"] = "http://127.0.0.1:1"
os.environ.pop("REDIS_HOST", None)
# The realtime service gets a port of its own, because WebSockets need a socket. Nothing listens there before `services`.
PORT = socket.socket()
PORT.bind(("127.0.0.1", 0))
os.environ["REALTIME_SERVICE_URL"] = f"http://127.0.0.1:{PORT.getsockname()[1]}"

from services import context, intent, prediction, realtime  # noqa: E402
from src.main import app, gateway  # noqa: E402
from tests.echo import Echo  # noqa: E402


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the running gateway."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def echoes() -> Iterator[dict[str, Echo]]:
    """An upstream in the place of each service that tells what it got."""
    echoes = {name: Echo() for name in NAMES}
    with ExitStack() as stack:
        for name, echo in echoes.items():
            stack.enter_context(gateway.override_service(name, echo))
        yield echoes


@pytest.fixture(scope="session")
def realtime_service() -> Iterator[None]:
    """The realtime service, on its socket."""
    server = uvicorn.Server(uvicorn.Config(realtime.app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [PORT]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield
    server.should_exit = True
    thread.join()


@pytest.fixture
def services(realtime_service: None) -> Iterator[None]:
    """The services of this directory."""
    with (
        gateway.override_service("context", context.app),
        gateway.override_service("intent", intent.app),
        gateway.override_service("prediction", prediction.app),
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def clean_up() -> Iterator[None]:
    """Close the socket of the realtime service, and remove the databases, at the end."""
    with PORT:
        yield
    shutil.rmtree(FOLDER)


def token(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> dict[str, str]:
    """Return the header with a token that is valid for a minute, unless `claims` say otherwise."""
    written = {"sub": "ann", "exp": time.time() + 60, **claims}
    present = {name: value for name, value in written.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(present, key, algorithm)}"}
