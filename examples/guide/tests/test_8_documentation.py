"""Section 8, API documentation."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

OPERATIONS = {
    "/api/v1/products": {"get", "post"},
    "/api/v1/products/{product}": {"get", "put", "delete"},
    "/api/v1/orders": {"get", "post"},
    "/api/v1/orders/{order}": {"get", "put", "delete"},
    "/api/v1/overview": {"get"},
}
PUBLIC = {("/api/v1/products", "get"), ("/api/v1/products/{product}", "get")}
MODELS = ("NewProduct", "Product", "NewOrder", "Order", "Line", "Account", "Overview")


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages(client: TestClient, path: str) -> None:
    """Swagger UI and ReDoc, for everybody."""
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_every_operation_is_there(document: dict[str, Any]) -> None:
    """With a summary, and a description of each parameter."""
    for path, methods in OPERATIONS.items():
        assert set(document["paths"][path]) >= methods
        for method in methods:
            operation = document["paths"][path][method]
            assert operation["summary"]
            assert operation["description"]
            assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_models_have_descriptions_and_examples(document: dict[str, Any]) -> None:
    """Each model an example, each field a description."""
    schemas = document["components"]["schemas"]
    for name in MODELS:
        assert schemas[name]["description"]
        assert schemas[name]["example"]
        assert all(field["description"] for field in schemas[name]["properties"].values())


def test_who_needs_a_token_is_written(document: dict[str, Any]) -> None:
    """At the operations that need one, and only there."""
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, methods in OPERATIONS.items():
        for method in methods:
            needed = bool(document["paths"][path][method].get("security"))
            assert needed is ((path, method) not in PUBLIC), (method, path)
