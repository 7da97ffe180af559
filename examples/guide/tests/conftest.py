"""Start the gateway in this process, with the real services behind it or others in their place."""

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient

# The settings are read when the gateway is imported. Without another application in their place, nothing listens at a service's
# address, and the orders service takes connections and never answers.
SILENT = socket.create_server(("127.0.0.1", 0))
KEY = secrets.token_urlsafe(48)
FOLDER = tempfile.mkdtemp(prefix="guide-")
os.environ.update(
    JWT_SECRET_KEY=KEY,
    USERS_SERVICE_URL="http://127.0.0.1:1",
    PRODUCTS_SERVICE_URL="http://127.0.0.1:1",
    ORDERS_SERVICE_URL=f"http://127.0.0.1:{SILENT.getsockname()[1]}",
    DATA_DIR=FOLDER,
    PROPYLON_AUTH__TOKENS__DATABASE=f"sqlite:///{FOLDER}/propylon.db",
    PROPYLON_SERVICES__ORDERS__TIMEOUTS__FIRST_BYTE="100ms",
    PROPYLON_SERVICES__USERS__RETRY__ATTEMPTS="1",
    PROPYLON_SERVICES__PRODUCTS__RETRY__ATTEMPTS="1",
)

from app.main import app, gateway  # noqa: E402
from services import orders, products, users  # noqa: E402
from tests.echo import Echo  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def clean_up() -> Iterator[None]:
    """Close the socket that answers nobody, and remove the databases, at the end."""
    with SILENT:
        yield
    shutil.rmtree(FOLDER)


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the running gateway."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def echoes() -> Iterator[dict[str, Echo]]:
    """An upstream in the place of each service that tells what it got."""
    echoes = {name: Echo() for name in ("users", "products", "orders")}
    with ExitStack() as stack:
        for name, echo in echoes.items():
            stack.enter_context(gateway.override_service(name, echo))
        yield echoes


@pytest.fixture
def services() -> Iterator[None]:
    """The services of this directory."""
    with (
        gateway.override_service("users", users.app),
        gateway.override_service("products", products.app),
        gateway.override_service("orders", orders.app),
    ):
        yield


def token(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> dict[str, str]:
    """Return the header with a token that is valid for a minute, unless `claims` say otherwise."""
    written = {"sub": "42", "exp": time.time() + 60, **claims}
    present = {name: value for name, value in written.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(present, key, algorithm)}"}
