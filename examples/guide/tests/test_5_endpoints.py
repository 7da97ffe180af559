"""Section 5, endpoint routing: products and orders, with the real services behind the gateway."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.dependencies import Orders, Products
from app.main import app, gateway
from propylon import Principal, current_principal, service
from tests.conftest import token

ADMIN = token(roles=["admin"])
TEAPOT = {"name": "Teapot", "price": "24.50", "stock": 3}

pytestmark = pytest.mark.usefixtures("services")


def test_products_are_listed_made_changed_and_deleted(client: TestClient) -> None:
    """Everybody sees them; administrators change them."""
    made = client.post("/api/v1/products", json=TEAPOT, headers=ADMIN)
    assert made.status_code == 201
    path = f"/api/v1/products/{made.json()['id']}"
    assert client.post("/api/v1/products", json=TEAPOT, headers=ADMIN).status_code == 409
    assert client.get(path).json() == made.json()
    assert client.get("/api/v1/products?name=POT").json() == [made.json()]
    assert client.get("/api/v1/products?name=cup").json() == []
    assert client.get("/api/v1/products?offset=1").json() == []
    cheaper = TEAPOT | {"price": "19.00"}
    assert client.put(path, json=cheaper, headers=ADMIN).json()["price"] == "19.00"
    assert client.get(f"/products/{made.json()['id']}").json()["price"] == "19.00"
    assert client.delete(path, headers=ADMIN).status_code == 204
    assert client.delete(path, headers=ADMIN).status_code == 404
    assert client.get(path).status_code == 404


def test_orders_are_listed_made_changed_and_deleted(client: TestClient) -> None:
    """By each user their own."""
    ann, bob = token(sub="ann"), token(sub="bob")
    order = {"lines": [{"product": 7, "quantity": 2}]}
    made = client.post("/api/v1/orders", json=order, headers=ann)
    assert made.status_code == 201
    path = f"/api/v1/orders/{made.json()['id']}"
    assert client.get(path, headers=ann).json() == made.json()
    assert client.get(path, headers=bob).status_code == 404
    assert client.get("/api/v1/orders", headers=ann).json() == [made.json()]
    assert client.get("/api/v1/orders", headers=bob).json() == []
    more = {"lines": [{"product": 7, "quantity": 3}]}
    assert client.put(path, json=more, headers=bob).status_code == 404
    assert client.put(path, json=more, headers=ann).json()["lines"] == more["lines"]
    assert client.delete(path, headers=bob).status_code == 404
    assert client.delete(path, headers=ann).status_code == 204
    assert client.get("/api/v1/orders", headers=ann).json() == []


def test_services_are_injected() -> None:
    """So a test of an endpoint can put another one in their place, without the gateway."""

    class Answer:
        status_code = 200
        content = b"[]"

        def raise_for_status(self) -> "Answer":
            return self

        def json(self) -> list[Any]:
            return []

    class Nothing:
        async def get(self, path: str, params: dict[str, Any]) -> Answer:
            assert (path, params) == ("/orders", {"limit": 20, "offset": 0})
            return Answer()

    assert Orders != Products
    gateway.api.dependency_overrides |= {
        service("orders"): Nothing,
        current_principal: lambda: Principal(subject="7"),
    }
    try:
        assert TestClient(gateway.api).get("/api/v1/orders").json() == []
    finally:
        gateway.api.dependency_overrides.clear()
    assert app is gateway.asgi
