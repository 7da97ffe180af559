"""Tests in several processes: each is counted as if it had run in one, whatever becomes of its worker."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.spread import pytest_shuffle
from tests.support.zygote import ROOT, ZYGOTE, environment

TESTS = """
import os, time, warnings
import pytest

IMPORTED_BY = os.getpid()

def test_passes(tmp_path):
    (tmp_path / "note").write_text("mine")

def test_fails():
    print("said by it")
    assert 1 == 2

def test_dies():
    os._exit(3)

def test_comes_after_it():
    assert os.getpid() != IMPORTED_BY == os.getppid()

def test_warns():
    warnings.warn("hear, hear")

@pytest.mark.skip(reason="no reason")
def test_is_left_out(): ...

@pytest.fixture
def bad():
    yield
    raise ValueError("torn down badly")

def test_passes_before(bad): ...
"""
HANGS = """
import time
import tests.support.hanging as hanging
hanging.HANGS = 0.1
def test_hangs():
    time.sleep(60)
def test_goes_on(): ...
"""


def pytest_of(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of its own in that folder, in a process that has imported pytest already."""
    plugins = ["tests.support.spread", "tests.support.hanging"]
    options = [part for name in plugins for part in ("-p", name)]
    quiet = ["-p", "no:xdist", "-p", "no:xdist.looponfail", "-p", "no:cacheprovider"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    config = ["-c", "/dev/null", f"--rootdir={folder}", f"--basetemp={folder}/tmp"]
    command = ["-m", "pytest", *config, *options, *quiet, *arguments, str(folder)]
    return ZYGOTE.run([sys.executable, *command], cwd=ROOT, env=environment())


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """What the last line counts."""
    counted = re.findall(r"(\d+) ([a-z]+)", done.stdout.splitlines()[-1].partition(" in ")[0])
    return {what.removesuffix("s"): int(number) for number, what in counted}


def test_every_test_runs_once(tmp_path: Path) -> None:
    """Whatever it does: the tests behind one that ends its worker run in the next worker."""
    for name in ("a", "b", "c"):
        (tmp_path / f"test_{name}.py").write_text(TESTS)
    done = pytest_of(tmp_path, "-n", "2")
    assert done.returncode == 1
    assert outcomes(done) == {"passed": 12, "failed": 6, "skipped": 3, "warning": 3, "error": 3}
    assert len(re.findall(r"(?m)^the worker ended with status 3 during", done.stdout)) == 3
    assert done.stdout.count("said by it") == 6  # in the source, and as what was captured
    assert done.stdout.count("torn down badly") >= 3


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    """With -x no worker goes on, and what they have set up is torn down."""
    torn, up = tmp_path / "torn", tmp_path / "up"
    (tmp_path / "test_a.py").write_text(
        "import pathlib, time\n"
        "def test_fails():\n"
        f"    while not pathlib.Path({str(up)!r}).exists(): time.sleep(0.01)\n"
        "    assert False\n"
        "def test_never(): ...\n"
    )
    (tmp_path / "test_b.py").write_text(
        "import pathlib, time, pytest\n"
        "@pytest.fixture(scope='session')\n"
        f"def kept():\n    pathlib.Path({str(up)!r}).touch()\n    yield\n    pathlib.Path({str(torn)!r}).touch()\n"
        "def test_waits(kept): time.sleep(60)\n"
    )
    done = pytest_of(tmp_path, "-n", "2", "-x")
    assert "stopping after 1 failures" in done.stdout
    assert outcomes(done) == {"failed": 1}
    assert torn.exists()


def test_a_test_that_hangs_ends_its_worker(tmp_path: Path) -> None:
    """It says where it hangs, fails, and the tests behind it run."""
    (tmp_path / "test_a.py").write_text(HANGS)
    (tmp_path / "test_b.py").write_text("def test_passes(): ...\n")
    done = pytest_of(tmp_path, "-n", "2")
    assert outcomes(done) == {"passed": 2, "failed": 1}
    assert re.search(r"Timeout .*\n(.*\n)*.*test_a.py\", line 6 in test_hangs", done.stderr)


@pytest.mark.parametrize("arguments", [["-n", "0"], ["-n", "auto", "--collect-only"]])
def test_one_process_if_it_is_enough(tmp_path: Path, arguments: list[str]) -> None:
    """Without workers, and where nothing is to be run."""
    code = "import os\ndef test_here(): assert os.environ['PYTEST_VERSION']\n"
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(code)
    done = pytest_of(tmp_path, *arguments)
    assert done.returncode == 0
    assert "2 passed" in done.stdout or "2 tests collected" in done.stdout


def shuffled(names: list[str], seed: int) -> list[str]:
    """Tests of those names, in the order that the number decides."""
    config: Any = SimpleNamespace(getoption=lambda _: seed)
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    for _ in pytest_shuffle(config, items):
        pass  # here pytest groups the tests that share a fixture
    return [item.nodeid for item in items]


def test_an_order_of_its_own(tmp_path: Path) -> None:
    """A number shuffles the files and the tests within each of them; the same number, in the same way."""
    names = [f"test_{file}.py::test_{number}" for file in "abc" for number in range(9)]
    for file in "abc":
        tests = "".join(f"def test_{number}(): ...\n" for number in range(9))
        (tmp_path / f"test_{file}.py").write_text(tests)
    done = pytest_of(tmp_path, "-n", "0", "--collect-only", "-q", "--shuffle", "7")
    order = [line for line in done.stdout.splitlines() if "::" in line]
    assert order == shuffled(names, 7) != shuffled(names, 8)
    assert sorted(order) == names
    files = [name.partition("::")[0] for name in order]
    assert len(list(itertools.groupby(files))) == 3  # the tests of a file stay together
    assert [name for name in order if "test_a" in name] != names[:9]
