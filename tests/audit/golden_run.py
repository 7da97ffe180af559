"""Audit what a golden file holds, at a fixed time."""

from pathlib import Path

from propylon.commands.audit.audit import Report, audit, unusable
from propylon.commands.audit.judging import Least
from propylon.commands.audit.report import as_text
from propylon.commands.audit.source import Scrape
from propylon.config.reading.load import load
from propylon.config.reading.problems import ConfigError

FOLDER = Path(__file__).parent / "golden"
# The metrics of the files say that the configuration was put into force at 1000.
NOW = 1000.0 + 2 * 3600.0


def report(yaml: str, metrics: str | None = None, ignored: tuple[str, ...] = ()) -> Report:
    """Audit a text as ./propylon.yaml; without metrics, no gateway is asked."""
    Path("propylon.yaml").write_text(yaml, encoding="utf-8")
    scraped = "nothing was asked" if metrics is None else Scrape(metrics, "metrics.txt", NOW)
    try:
        return audit(load(None, {}), (), scraped, Least(), ignored)
    except ConfigError as error:
        return unusable(error)


def told(found: Report) -> str:
    """What a person reads."""
    return as_text(found)
