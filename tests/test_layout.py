"""The shape of the project: names, docstrings, version, public surface and import contracts."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.secure import Authority

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "propylon"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A name that says nothing collects everything.
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "core"}
# A file that outgrows this becomes a package of the same name.
MAX_LINES = 400
# Each exception with its reason; one that is no longer needed must go.
LONGER: dict[str, str] = {
    "src/propylon/errors.py": "one tree, which is to be seen whole; each class is a few lines",
    "src/propylon/edge/protocol.py": "one state machine; its rules must be read together",
    "src/propylon/upstream/connection.py": "one state machine; its rules must be read together",
}


def relative(path: Path) -> str:
    """A module's path as the reader of a failure wants to see it."""
    return path.relative_to(ROOT).as_posix()


def pyproject() -> dict[str, object]:
    """The project's own description."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module, parsed once."""
    return {relative(path): ast.parse(path.read_text()) for path in MODULES}


def test_modules_say_what_they_do(trees: dict[str, ast.Module]) -> None:
    """Every module starts with a docstring."""
    assert [name for name, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_imports_are_absolute(trees: dict[str, ast.Module]) -> None:
    """A module is imported by the name that the reader can search for."""
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_no_file_outgrows_one_reading() -> None:
    """No module is longer than 400 lines, but for the exceptions that are listed with their reason."""
    sizes = {relative(path): len(path.read_text().splitlines()) for path in MODULES}
    longer = {name: size for name, size in sizes.items() if size > MAX_LINES}
    assert {name: size for name, size in longer.items() if name not in LONGER} == {}
    assert LONGER.keys() <= longer.keys()


def test_no_name_says_nothing() -> None:
    """No module or package is called utils, helpers, manager, common or core."""
    parts = {path: set(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}
    assert [relative(path) for path, names in parts.items() if names & FORBIDDEN_NAMES] == []


def test_every_folder_is_a_package() -> None:
    """Each folder with modules has an __init__, which is its map."""
    folders = {path.parent for path in MODULES}
    missing = [folder for folder in folders if not (folder / "__init__.py").is_file()]
    assert [relative(folder) for folder in missing] == []


def test_maps_list_all_rooms(trees: dict[str, ast.Module]) -> None:
    """Each package's docstring names every module and package in it, in backticks."""
    missing = []
    for name, tree in trees.items():
        folder = (ROOT / name).parent
        if name.endswith("/__init__.py"):
            rooms = {path.stem for path in folder.glob("*.py")} - {"__init__"}
            rooms |= {path.parent.name for path in folder.glob("*/__init__.py")}
            named = re.findall(r"`([^`]+)`", ast.get_docstring(tree) or "")
            missing += [f"{name}: {room}" for room in sorted(rooms.difference(named))]
    assert missing == []


def test_all_is_the_public_surface() -> None:
    """`propylon.__all__` names exactly what is imported for type checkers, and all of it is there."""
    package = importlib.import_module("propylon")
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("propylon")
        for alias in node.names
    }
    assert set(package.__all__) == imported
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_version_stands_in_one_place() -> None:
    """pyproject.toml reads the version from the package and has none of its own."""
    described = pyproject()
    project, tool = described["project"], described["tool"]
    assert isinstance(project, dict)
    assert isinstance(tool, dict)
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    source = (ROOT / tool["hatch"]["version"]["path"]).read_text()
    written = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert written is not None
    assert written[1] == importlib.import_module("propylon").__version__


def test_version_is_in_the_changelog() -> None:
    """The version that is installed has its section in the changelog, or is still unreleased."""
    version = importlib.import_module("propylon").__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{version}]" in changelog or "## [Unreleased]" in changelog


def test_types_are_published() -> None:
    """The package carries py.typed, so that annotations reach those who import it."""
    assert (PACKAGE / "py.typed").is_file()


def test_importing_propylon_prints_and_starts_nothing() -> None:
    """Nothing happens at import: no output, no thread, no event loop."""
    code = "import threading, propylon; assert threading.active_count() == 1"
    done = run("-W", "error", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_contracts_hold() -> None:
    """Each layer imports only what stands below it, and pure modules do no I/O."""
    # Its own cache would be written into the checkout.
    call = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    done = run("-c", call)
    assert done.returncode == 0, done.stdout + done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python on the checkout's own source, in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-build.lock", "requirements-dev.lock"]
)
def test_lock_pins_and_hashes_everything(lock: str) -> None:
    """Each locked package has one version and its hashes, and no index or path is written down."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^ *#.*\n", "", text))
    loose = [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
    assert loose == []
    assert re.findall(r"https?://|file:|^-", text, re.MULTILINE) == []


def test_dependencies_are_locked() -> None:
    """Every dependency of pyproject.toml stands in the lock."""
    project = pyproject()["project"]
    assert isinstance(project, dict)
    wanted = {re.split(r"[<>=!~ \[;]", line)[0].lower() for line in project["dependencies"]}
    locked = re.findall(
        r"(?m)^([A-Za-z0-9_.-]+)(?:\[.+?\])?==", (ROOT / "requirements.txt").read_text()
    )
    assert wanted - set(locked) == set()


def test_the_lock_names_extras_that_its_packages_ask_for() -> None:
    """The pip that Python 3.11 brings takes `coverage[toml]` for another package than `coverage`."""
    locked = re.findall(
        r"(?m)^([\w.-]+)(\[[\w,]+\])?==", (ROOT / "requirements-dev.lock").read_text()
    )
    wanted = {
        re.sub(r"[\s;<>=!~].*", "", line).lower()
        for name, _ in locked
        for line in _requirements(name)
        if "extra ==" not in line and re.match(r"[\w.-]+\[", line)
    }
    assert "coverage[toml]" in wanted
    assert wanted - {(name + extras).lower() for name, extras in locked} == set()


def _requirements(name: str) -> list[str]:
    """What an installed package needs; nothing for one that another platform or Python has."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


EXAMPLES = [
    pytest.param(text, id=f"{relative(page)}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"(?s)```yaml\n(.*?)```", page.read_text()))
    if re.search(r"(?m)^(server|services|routes|tls):", text)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_valid_configuration(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page shows as propylon.yaml is accepted as it stands."""
    load = importlib.import_module("propylon.config.reading.load").load
    monkeypatch.chdir(tmp_path)  # no .env of somebody's own
    identity = Authority(tmp_path, "internal-ca").issue()  # the files that examples name
    identity.chain.rename("gateway.crt")
    identity.key.rename("gateway.key")
    (tmp_path / "users.htpasswd").write_text(f"ann:$2y$10${'x' * 53}\n")
    file = tmp_path / "propylon.yaml"
    file.write_text(text)
    assert load(file, {}).path == file
