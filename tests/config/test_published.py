"""What is published for operators: the JSON schema and the starter file."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from propylon.commands.starter import starter
from propylon.config.models import schema
from propylon.config.models.json_schema import json_schema, json_schema_text
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import load

ROOT = Path(__file__).parents[2]
PUBLISHED = "propylon.schema.json"
MODELS = [
    kind
    for kind in vars(schema).values()
    if isinstance(kind, type) and issubclass(kind, schema.ConfigModel)
]


def published() -> str:
    """The schema that git publishes: what lies in the folder may be of another branch, or of `propylon init`."""
    git = shutil.which("git") or "git"
    command = [git, "-C", str(ROOT), "show", f":./{PUBLISHED}"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.CalledProcessError):  # no checkout, but a copy of its files
        return (ROOT / PUBLISHED).read_text(encoding="utf-8")
    return shown.stdout.decode()


def test_the_published_schema_is_the_generated_one() -> None:
    """The checked-in schema was made from these models."""
    assert published() == json_schema_text(), f"run `make docs` and `git add {PUBLISHED}`"


def test_the_schema_says_bounds_and_lets_variables_pass() -> None:
    """An editor knows the bounds, and accepts ${PORT} and an empty key as the gateway does."""
    port = json_schema()["$defs"]["ServerConfig"]["properties"]["port"]
    whole, variable, nothing = port["anyOf"]
    assert whole == {"type": "integer", "minimum": 0, "maximum": 65535}
    assert variable["type"] == "string"
    assert nothing == {"type": "null"}
    assert json.loads(json_schema_text()) == json_schema()


@pytest.mark.parametrize("model", MODELS)
def test_every_key_has_a_description(model: type[BaseModel]) -> None:
    """The schema is the documentation, so no key goes without a sentence."""
    assert [key for key, field in model.model_fields.items() if not field.description] == []


def test_the_starter_works_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter loads without any variable, and shows the true defaults."""
    monkeypatch.chdir(tmp_path)
    Path("propylon.yaml").write_text(starter(), encoding="utf-8")
    config, default = load(None, {}).config, GatewayConfig()
    assert starter().startswith("# yaml-language-server: $schema=propylon.schema.json\n")
    changed = {"services", "routes"}
    for key in GatewayConfig.model_fields.keys() - changed:
        assert getattr(config, key) == getattr(default, key), key
    shown = config.services["orders"].model_copy(update={"url": None})
    assert shown == schema.ServiceConfig()
    assert config.routes[0].model_copy(update={"auth": "required"}) == schema.RouteConfig(
        name="orders", path="/api/v1/orders", service="orders"
    )
