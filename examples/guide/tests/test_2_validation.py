"""Section 2, request validation."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app.schemas import NewOrder, NewProduct
from tests.conftest import token
from tests.echo import Echo

ADMIN = token(roles=["admin"])
GOOD: dict[str, Any] = {"name": "Teapot", "price": "24.50", "stock": 3}
BAD: dict[str, dict[str, Any]] = {
    "name": GOOD | {"name": ""},
    "price": GOOD | {"price": "much"},
    "stock": GOOD | {"stock": -1},
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_field_is_422(client: TestClient, echoes: dict[str, Echo], field: str) -> None:
    """The answer names it, and the service is not asked."""
    answer = client.post("/api/v1/products", json=BAD[field], headers=ADMIN)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert field in str(error["details"])
    assert echoes["products"].hits == []


@pytest.mark.parametrize("body", ["", "{", "[]", '{"price": 1}'])
def test_what_is_no_product_is_4xx(client: TestClient, body: str) -> None:
    """Malformed JSON, another type, a missing field."""
    headers = ADMIN | {"Content-Type": "application/json"}
    answer = client.post("/api/v1/products", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


def test_rules_of_our_own(client: TestClient, echoes: dict[str, Echo]) -> None:
    """A product stands once in an order."""
    line = {"product": 7, "quantity": 1}
    answer = client.post("/api/v1/orders", json={"lines": [line, line]}, headers=token())
    assert answer.status_code == 422
    assert "two lines" in answer.text
    assert echoes["orders"].hits == []


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "offset=-1"])
def test_the_query_is_checked(client: TestClient, query: str) -> None:
    """Like the body."""
    assert client.get(f"/api/v1/products?{query}").status_code == 422


def test_models_alone() -> None:
    """A unit test needs no gateway."""
    assert NewProduct.model_validate(GOOD).stock == 3
    with pytest.raises(ValidationError, match="price"):
        NewProduct.model_validate(GOOD | {"price": 0})
    with pytest.raises(ValidationError, match="lines"):
        NewOrder(lines=[])
