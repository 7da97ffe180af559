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
    return doubts(loaded(text, environ))


# Most texts here have no route, and some no service: what is doubted about that is for tests of its own.
_IDLE = ("routes: there are none,", "no route leads to it", "there is no propylon.yaml")


def doubts(read: Loaded) -> list[str]:
    """Say what is doubted of what was written, but for what is left without work."""
    said = map(str, read.warnings)
    return [doubt for doubt in said if not any(words in doubt for words in _IDLE)]


def route(rest: str) -> str:
    """Write a file with one service and one route, whose rules begin on line 3."""
    return f"{SERVICES}routes:\n  - {{service: orders, {rest}}}\n"
