"""The example systems: their own tests, what their pages say, and what they are made of."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from propylon.config.reading.load import load

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# The directories of each whose code runs in the gateway's process; the rest are services and tests.
GATEWAYS = {
    "tracklore": ("app", "shared_libs"),
    "guide": ("app",),
    "game-library": ("gateway",),
    "isaas": ("src",),
}
FILES = (
    ".dockerignore",
    ".env.example",
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "propylon.yaml",
    "pytest.ini",
    "requirements.txt",
)
# What a gateway's code may import, besides the standard library and its own packages.
ALLOWED = {"propylon", "fastapi", "uvicorn", "pydantic", "pydantic_settings"}


def test_each_passes_its_own_tests_and_does_what_its_page_says(tmp_path: Path) -> None:
    """`pytest` in the directory, and the commands under "Try it" against the running system."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("curl and bash run the commands of the pages")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "systems.py")]
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # what it leaves if it is killed is there
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=240, env=env
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {name: result["problems"] for name, result in results.items()} == {
        name: [] for name in GATEWAYS
    }
    assert all(result["passed"] > 50 for result in results.values())


@pytest.mark.parametrize("name", GATEWAYS)
def test_all_that_belongs_to_it_is_there(name: str) -> None:
    """Each directory stands alone."""
    assert {path.name for path in (EXAMPLES / name).iterdir()} >= {*FILES, "services", "tests"}


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_gateway_part_needs_little(name: str) -> None:
    """Propylon, FastAPI, pydantic and the standard library."""
    own = {"app", "gateway", "src", "shared_libs"}
    for package in GATEWAYS[name]:
        for file in (EXAMPLES / name / package).rglob("*.py"):
            foreign = set(_imports(file)) - ALLOWED - own - sys.stdlib_module_names
            assert foreign == set(), file


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]


@pytest.mark.parametrize("name", GATEWAYS)
def test_every_requirement_is_pinned(name: str) -> None:
    """But Propylon, which comes from the checkout; to the versions that this suite runs with."""
    lines = (EXAMPLES / name / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in wanted if "==" not in line] == ["../.."]
    locked = re.sub(r"\[[a-z,]+\]==", "==", (ROOT / "requirements-dev.lock").read_text().lower())
    for line in wanted[1:]:
        if not line.startswith("pytest-cov"):  # which only the examples use
            assert f"\n{line.lower()} \\" in f"\n{locked}", line


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_example_of_variables_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env.example` sets what propylon.yaml names, and no secret."""
    text = (EXAMPLES / name / ".env.example").read_text()
    variables = dict(line.split("=", 1) for line in text.splitlines() if "=" in line[:40])
    assert re.findall(r"^(?:JWT_)?SECRET_KEY=(.*)$", text, re.MULTILINE) == [""]
    monkeypatch.chdir(EXAMPLES / name)
    defaults = load(Path("propylon.yaml"), {})
    filled = load(Path("propylon.yaml"), variables)
    for service, config in defaults.config.services.items():
        assert filled.config.services[service].url == config.url
    assert defaults.config.auth.jwt.secret is None
    named = set(re.findall(r"\$\{([A-Z_0-9]+)", Path("propylon.yaml").read_text()))
    assert named <= set(variables)


@pytest.mark.parametrize("name", GATEWAYS)
def test_services_that_variables_name_have_no_health_checks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead one is 502, and then the breaker's 503."""
    monkeypatch.chdir(EXAMPLES / name)
    config = load(Path("propylon.yaml"), {}).config
    assert all(service.health is None for service in config.services.values())


@pytest.mark.parametrize("name", GATEWAYS)
def test_compose_starts_what_the_variables_name(name: str) -> None:
    """Each service under the host and the port of its default URL."""
    compose = yaml.safe_load((EXAMPLES / name / "compose.yaml").read_text())["services"]
    text = (EXAMPLES / name / "propylon.yaml").read_text()
    urls = re.findall(r"_SERVICE_URL:-http://([a-z-]+):(\d+)", text)
    assert {host for host, _ in urls} == set(compose) - {"gateway", "redis"}
    for host, port in urls:
        assert compose[host]["command"][-1] == port
        module = compose[host]["command"][1].removeprefix("services.").removesuffix(":app")
        assert (EXAMPLES / name / "services" / f"{module}.py").exists()


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_tests_that_a_page_names_exist(name: str) -> None:
    """A table that shows a test which is gone shows nothing."""
    page = (EXAMPLES / name / "README.md").read_text()
    tests = "".join(path.read_text() for path in (EXAMPLES / name / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named
    assert [test for test in named if f"def {test}(" not in tests] == []
    files = re.findall(r"`(tests/\w+\.py)`", page)
    assert [file for file in files if not (EXAMPLES / name / file).exists()] == []


def test_the_guide_counts_its_steps() -> None:
    """Fifty, each with what fulfils it and a test or a command."""
    page = (EXAMPLES / "guide" / "README.md").read_text()
    steps = re.findall(r"^- `\{(.+)\}` (.+)$", page, re.MULTILINE)
    assert len(steps) == 50
    assert {mark for mark, _ in steps} == {"X"}
    assert all("test_" in step or "by hand" in step for _, step in steps)


def test_the_issues_of_tracklore_are_answered() -> None:
    """One by one."""
    page = (EXAMPLES / "tracklore" / "README.md").read_text()
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(n) for n in range(1, 15)]
