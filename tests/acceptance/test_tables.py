"""The tables of the documentation name every line of the checklist and every threat, with tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.zygote import ROOT

TESTS = ROOT / "tests"
CHECKLIST = ROOT / "docs/reference/checklist.md"
THREATS = ROOT / "docs/topics/threats.md"
LINES = {"A": 27, "B": 17, "C": 20, "D": 24, "E": 40}
_NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_\w+)`")


@cache
def functions(file: Path) -> frozenset[str]:
    """The tests that pytest collects from a file."""
    return frozenset(
        one.name
        for one in ast.parse(file.read_text()).body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_")
    )


def rows(page: Path) -> dict[str, list[tuple[str, str]]]:
    """Each row of a page's tables by its first cell: the tests that it names, as file and function."""
    cells = re.findall(r"(?m)^\| ([A-E]?\d+) \|(.*)$", page.read_text())
    assert len({number for number, _ in cells}) == len(cells)
    return {number: _NAMED.findall(rest) for number, rest in cells}


def test_every_line_of_the_checklist_is_listed() -> None:
    """The page has the 128 lines, in their order."""
    expected = [f"{letter}{n:02}" for letter, size in LINES.items() for n in range(1, size + 1)]
    assert list(rows(CHECKLIST)) == expected


def test_every_line_has_the_test_of_its_number() -> None:
    """Each line names one test, whose name has the line's number; and each such test stands in the page."""
    named = {}
    for line, tests in rows(CHECKLIST).items():
        assert len(tests) == 1, line
        assert tests[0][1].startswith(f"test_{line.lower()}_"), line
        named[tests[0][1]] = tests[0][0]
    there = {
        name: f"acceptance/{file.name}"
        for file in (TESTS / "acceptance").glob("test_*.py")
        for name in functions(file)
        if re.match(r"test_[a-e]\d\d_", name)
    }
    assert named == there


def test_every_threat_is_listed() -> None:
    """The page has the 76 threats, in their order, each with a test."""
    found = rows(THREATS)
    assert list(found) == [str(number) for number in range(1, 77)]
    assert [number for number, tests in found.items() if not tests] == []


@pytest.mark.parametrize("page", [CHECKLIST, THREATS], ids=lambda page: page.stem)
def test_every_named_test_exists(page: Path) -> None:
    """What the tables name is collected by pytest."""
    named = [one for tests in rows(page).values() for one in tests]
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (TESTS / file).exists() or name not in functions(TESTS / file)
    ]
    assert missing == []


def test_every_module_that_is_named_exists() -> None:
    """Where a threat is withstood is a module or a package of the gateway."""
    named = re.findall(r"`([a-z_]+/[a-z_0-9/]*(?:\.py)?)`", THREATS.read_text())
    modules = [name for name in named if not name.endswith("/") or "/" in name.rstrip("/")]
    assert [one for one in modules if not (ROOT / "src/propylon" / one).exists()] == []
