"""What is published for operators: the JSON schema and the starter file."""

import json
import re
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
from propylon.config.reading.model_keys import all_paths

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


def test_the_full_starter_works_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads without any variable, and shows the true defaults."""
    monkeypatch.chdir(tmp_path)
    Path("propylon.yaml").write_text(starter(full=True), encoding="utf-8")
    config, default = load(None, {}).config, GatewayConfig()
    changed = {"services", "routes"}
    for key in GatewayConfig.model_fields.keys() - changed:
        assert getattr(config, key) == getattr(default, key), key
    shown = config.services["orders"].model_copy(update={"url": None})
    assert shown == schema.ServiceConfig()
    assert config.routes[0].model_copy(update={"auth": "required"}) == schema.RouteConfig(
        name="orders", path="/api/v1/orders", service="orders"
    )


def test_the_full_starter_has_every_key() -> None:
    """As a key or, where it would change something, in a comment."""
    words = set(re.findall(r"[a-z0-9_]+", starter(full=True)))
    assert {path[-1] for path in all_paths()} - {"NAME"} <= words


def test_the_short_starter_is_short_and_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person reads it whole, on a small terminal; without any variable there is nothing to warn of."""
    monkeypatch.chdir(tmp_path)
    lines = starter().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) <= 15
    assert max(map(len, lines)) <= 100
    Path("propylon.yaml").write_text(starter(), encoding="utf-8")
    loaded = load(None, {})
    assert (len(loaded.config.routes), loaded.warnings) == (1, ())


@pytest.mark.parametrize("full", [False, True])
def test_the_starter_names_the_schema(*, full: bool) -> None:
    """For editors, in the first line."""
    assert starter(full=full).startswith("# yaml-language-server: $schema=propylon.schema.json\n")
