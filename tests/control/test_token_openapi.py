"""The documentation of the token endpoints: complete, with examples that are true."""

from typing import Any

import pytest
from pydantic import BaseModel

from propylon.control import token_schemas
from tests.control.token_api import TokenApi

MODELS = [getattr(token_schemas, name) for name in token_schemas.__all__]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_an_example(model: type[BaseModel]) -> None:
    """A description and an example, of the model and of each field; and the example is valid."""
    schema = model.model_json_schema()
    assert schema["description"]
    model.model_validate(schema["example"])
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert field["examples"], name
        for example in field["examples"]:
            model.model_validate({**schema["example"], name: example})


@pytest.fixture(scope="module")
def document(readonly: TokenApi) -> dict[str, Any]:
    """What /openapi.json says."""
    return readonly.app.openapi()


def test_what_needs_a_token(document: dict[str, Any]) -> None:
    """Everything but the token endpoint, with the scopes."""
    said = {
        f"{method.upper()} {path.removeprefix('/api/v1')}": operation.get("security")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    admin = [{"bearer": ["admin"]}, {"password": ["admin"]}]
    known: list[dict[str, list[str]]] = [{"bearer": []}, {"password": []}]
    assert said == {
        "POST /auth/token": None,
        "POST /auth/revoke": known,
        "GET /auth/revocations": admin,
        "DELETE /auth/revocations/{id}": admin,
        "POST /auth/introspect": admin,
        "GET /users/me": [{"bearer": ["read"]}, {"password": ["read"]}],
        "PATCH /users/me": known,
        "GET /users": admin,
        "POST /users": admin,
        "GET /users/{name}": admin,
        "PATCH /users/{name}": admin,
        "DELETE /users/{name}": admin,
        "GET /users/{name}/sessions": admin,
        "DELETE /users/{name}/sessions": admin,
        "DELETE /users/{name}/sessions/{id}": admin,
    }
    flow = document["components"]["securitySchemes"]["password"]["flows"]["password"]
    assert flow["tokenUrl"] == "/api/v1/auth/token"


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
def test_forms_are_described(document: dict[str, Any], path: str) -> None:
    """What is sent is a form, and its fields are there."""
    operation = document["paths"][f"/api/v1/auth/{path}"]["post"]
    (kind, content), *others = operation["requestBody"]["content"].items()
    assert (kind, others) == ("application/x-www-form-urlencoded", [])
    name = content["schema"]["$ref"].rpartition("/")[2]
    assert document["components"]["schemas"][name]["properties"]
    assert operation["summary"]
    assert operation["responses"]["default"]["description"]
