"""compose.yaml: it says what the gateway reads, and mounts what is there."""

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from propylon.config.models.listeners import Tcp
from propylon.config.reading.load import load
from propylon.process.sockets import wanted

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
GATEWAY = COMPOSE["services"]["gateway"]
EXAMPLE = ROOT / "examples" / "isaas"


def environment() -> dict[str, str]:
    """The variables of the gateway, with those that compose asks for."""
    given = {"SECRET_KEY": secrets.token_hex(32), "POSTGRES_PASSWORD": secrets.token_hex(16)}
    image = {"PROPYLON_HOST": "::"}
    said = {
        name: re.sub(
            r"\$\{(\w+)(?::([?-])([^}]*))?\}",
            lambda found: given.get(found[1]) or (found[3] if found[2] == "-" else ""),
            text,
        )
        for name, text in GATEWAY["environment"].items()
    }
    return {**image, **said}


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="a copy without the examples")
def test_everything_that_is_mounted_is_there() -> None:
    """A path that is not there would be made by Docker, as a directory of root's."""
    mounts = [
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert [path for path in mounts if not (ROOT / path).exists()] == []


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="a copy without the examples")
def test_the_gateway_takes_its_variables() -> None:
    """They make a valid configuration of the example's file, which leads to the services that compose starts."""
    environ = {**environment(), "PROPYLON_CONFIG": str(EXAMPLE / "propylon.yaml")}
    loaded = load(None, environ)
    assert loaded.warnings == ()
    assert [one.address for one in wanted(loaded.config)] == [Tcp("::", 8000)]
    upstreams = {str(service.url) for service in loaded.config.services.values() if service.url}
    started = {
        f"http://{name}:{service['command'][-1]}"
        for name, service in COMPOSE["services"].items()
        if name.endswith("-service")
    }
    assert {url.rstrip("/") for url in upstreams} == started
    assert loaded.config.redis.url is not None


def test_no_container_may_do_more_than_it_has_to() -> None:
    """What runs our image: read-only, without capabilities, with time to drain."""
    ours = [one for one in COMPOSE["services"].values() if one["image"] == "propylon:local"]
    assert len(ours) == 5
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert GATEWAY["stop_grace_period"] == "45s"
