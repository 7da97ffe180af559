"""Write configurations, and read them or what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError

SERVICES = "services: {orders: {url: 'http://orders:8000'}}\n"
# Long enough for HS512, and published nowhere.
SECRET = "Jv7-xQ2mTz9_kR4wLb8pYd3nHs6gCf1aEo5uXi0VtKqMjBrWeNlZyGhPcSdUaF8oRi"


def loaded(text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> Loaded:
    """Load a text as ./propylon.yaml."""
    Path("propylon.yaml").write_text(text, encoding="utf-8")
    return load(None, environ or {}, overrides)


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Say all problems of a text."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, environ)
    return [str(problem) for problem in caught.value.problems]


def warnings(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Say all doubts about a text."""
    return [str(warning) for warning in loaded(text, environ).warnings]


def route(rest: str) -> str:
    """Write a file with one service and one route, whose rules begin on line 3."""
    return f"{SERVICES}routes:\n  - {{service: orders, {rest}}}\n"
