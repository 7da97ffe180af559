"""Write a report as SARIF 2.1.0 (OASIS), which code hosts and editors show at the lines of the file."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from propylon.commands.audit.audit import Report, rule_of
from propylon.commands.audit.catalogue import RULES
from propylon.commands.audit.report import fingerprints
from propylon.config.reading.problems import Problem
from propylon.config.reading.rules import Rule
from propylon.version import __version__

__all__ = ["as_sarif"]

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_DOCS = "https://github.com/propylon/propylon/blob/main/docs/reference/audit.md"
_FINGERPRINT = "propylonFinding/v1"
# `propylon.yaml:3`, and `.env:3 NAME` for a variable that a file sets.
_IN_A_FILE = re.compile(r"(?P<file>.+?):(?P<line>[1-9][0-9]{0,8})(?: \S+)?")


def as_sarif(report: Report) -> dict[str, Any]:
    """Return the log file of one run (3.13, 3.14)."""
    used = {rule.id: at for at, rule in enumerate(RULES)}
    results = [
        _result(problem, used[problem.rule], fingerprint)
        for problem, fingerprint in zip(report.found, fingerprints(report), strict=True)
    ]
    notices = [
        {
            "level": "none",
            "message": {"text": f"not observed: {one.why}"},
            "descriptor": _reference(one.rule, used),
        }
        for one in report.unseen
    ]
    run = {
        "tool": {
            "driver": {
                "name": "propylon audit",
                "semanticVersion": __version__,
                "informationUri": _DOCS,
                "rules": [_rule(rule) for rule in RULES],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notices}],
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _reference(rule: str, used: dict[str, int]) -> dict[str, object]:
    return {"id": rule, "index": used[rule]}


def _rule(rule: Rule) -> dict[str, object]:
    """Return the metadata of a rule (3.49)."""
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.finds},
        "fullDescription": {"text": f"{rule.finds} {rule.why}"},
        "help": {"text": rule.mend},
        "helpUri": f"{_DOCS}#{rule.id.lower()}",
        "defaultConfiguration": {"level": rule.level},
    }


def _result(problem: Problem, at: int, fingerprint: str) -> dict[str, object]:
    """Return a finding (3.27)."""
    rule = rule_of(problem)
    subject = f"{problem.where}: " if problem.where else ""
    return {
        "ruleId": rule.id,
        "ruleIndex": at,
        "level": rule.level,
        "message": {"text": f"{subject}{problem.message}"},
        "locations": [_location(problem)],
        "partialFingerprints": {_FINGERPRINT: fingerprint},
    }


def _location(problem: Problem) -> dict[str, object]:
    """Return the line of a file; for a variable or the command line, its name."""
    location: dict[str, object] = {}
    if match := _IN_A_FILE.fullmatch(problem.place):
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(match["file"])},
            "region": {"startLine": int(match["line"])},
        }
    name = problem.where or problem.place or "configuration"
    location["logicalLocations"] = [{"fullyQualifiedName": name}]
    return location


def _uri(file: str) -> str:
    """Return a relative reference, or a URL of a file that is named from the root (RFC 3986)."""
    path = PurePath(file)
    # A colon in the first segment would read as a scheme.
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), safe="/")
