"""Put together what all rules find: the doubts of `check`, what lets in too much, and what traffic shows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from propylon.commands.audit.catalogue import BY_ID, UNUSABLE
from propylon.commands.audit.judging import Least, Seen, Traffic, Unseen
from propylon.commands.audit.observed import not_observed, observed_findings
from propylon.commands.audit.scrape import NoMetrics, read
from propylon.commands.audit.source import Scrape
from propylon.commands.audit.wide import wide_findings
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem
from propylon.config.reading.rules import IN_USE, Level, Rule

__all__ = ["LEVELS", "Report", "audit", "rule_of", "unusable"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""From the worst to the mildest."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, what could not be judged, and what was asked.

    - `found`: each with the id of its rule, in the order of the file.
    - `unseen`: the rules about traffic that were not judged, or not everywhere, and why.
    - `observed`: where the facts about traffic come from, in words; "" if there are none.
    - `routes`: the name of each route of the file, with its methods: its place in the list is no lasting name.
    """

    found: tuple[Problem, ...]
    unseen: tuple[Unseen, ...] = ()
    observed: str = ""
    file: str = ""
    routes: tuple[str, ...] = ()

    def status(self, fail_on: str) -> int:
        """Return the exit status (`fail_on`: a level, or `never`): 2 for a configuration that cannot be used, 1 for a finding at that level or worse, else 0."""
        rules = [rule_of(problem) for problem in self.found]
        if UNUSABLE in rules:
            return 2
        failing = next((LEVELS[: at + 1] for at, one in enumerate(LEVELS) if one == fail_on), ())
        return 1 if any(rule.level in failing for rule in rules) else 0


def rule_of(problem: Problem) -> Rule:
    """Return the rule that a finding is of."""
    return BY_ID[problem.rule]


def unusable(error: ConfigError) -> Report:
    """Return the report about a configuration that cannot be used: nothing else of it can be judged."""
    found = tuple(replace(problem, rule=UNUSABLE.id) for problem in error.problems)
    return Report(found, file=found[0].place.partition(":")[0] if found else "")


def audit(
    loaded: Loaded,
    doubts: Collection[Problem],
    scraped: Scrape | str,
    least: Least,
    ignored: Collection[str] = (),
) -> Report:
    """Return the report about a valid configuration. Raises NoMetrics if the scrape is none.

    `doubts` are those about listeners and certificates. `scraped` is a text of metrics, or why there is none.
    """
    seen, observed = _traffic(loaded, scraped, least)
    found = [*wide_findings(loaded.config)]
    found += (doubt for one in seen for doubt in one.found)
    # That the address is in use means that the gateway runs: no finding here.
    checked = [one for one in (*loaded.warnings, *doubts) if one.rule != IN_USE.id]
    everything = (*checked, *loaded.places.ordered(found))
    unseen = tuple(one for each in seen for one in each.unseen if one.rule not in ignored)
    routes = tuple(
        " ".join([route.name, *route.methods]) if route.methods else route.name
        for route in loaded.config.routes
    )
    kept = tuple(problem for problem in everything if problem.rule not in ignored)
    return Report(kept, unseen, observed, loaded.places.file, routes)


def _traffic(loaded: Loaded, scraped: Scrape | str, least: Least) -> tuple[list[Seen], str]:
    if isinstance(scraped, str):
        return [not_observed(scraped)], ""
    try:
        observed = read(scraped.text)
    except NoMetrics as error:
        msg = f"{scraped.place} {error}"
        raise NoMetrics(msg) from error
    traffic = Traffic(loaded.config, observed, scraped.taken, least)
    return list(observed_findings(traffic)), f"{traffic.total} requests, from {scraped.place}"
