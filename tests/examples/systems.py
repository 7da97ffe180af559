"""Run each example's own tests, and the commands of its README against the running system; print the results as JSON.

A process of its own, because two examples have a package `app`. It imports what all need and forks for each: that takes half the
time of four Python processes.
"""

import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import fastapi.testclient  # noqa: F401 — before the fork, as what follows
import httpx  # noqa: F401
import pytest

import propylon.assembly.accounts
import propylon.assembly.running  # noqa: F401
from propylon import Gateway  # noqa: F401

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import run  # noqa: E402 — of examples/

_WITHIN = 60.0  # seconds: who waits so long waits in vain
_STATUS = re.compile(r"\s# ([1-5][0-9]{2})\b")


def forked(work: Callable[[], int], output: Path) -> int:
    """Start a child that writes to `output`; its exit status is what `work` returns."""
    output.touch()
    child = os.fork()
    if child:
        return child
    status = 1
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def ended(child: int) -> int:
    """Wait for a child; return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def own_tests(name: str, folder: Path) -> int:
    """Do what `pytest` does in the directory of the example."""
    os.chdir(ROOT / "examples" / name)
    sys.path.remove(str(ROOT / "examples"))
    sys.path[:] = [path for path in sys.path if Path(path) != ROOT]
    for module in [known for known in sys.modules if known.split(".")[0] == "tests"]:
        del sys.modules[module]
    # Modules that were imported before the fork: what they assert is shown less well, and nothing else.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    # A folder of its own: pytest would look for those of earlier runs, and remove them.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}", *quiet]
    return int(pytest.main(options))


def tried(name: str, folder: Path) -> list[str]:
    """Start the system, and run the commands of its README; return those that got another status than they say."""
    output = folder / f"{name}.system"
    data = folder / f"{name}.data"
    data.mkdir()
    child = forked(lambda: run.run(name, 0, data), output)
    try:
        lines = list(_printed(output, child))
        codes = _run(lines)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    status = ended(child)
    wanted = [match[1] for line in lines if (match := _STATUS.search(line))]
    wrong = [f"{want}, got {got}" for want, got in zip(wanted, codes, strict=False) if want != got]
    if len(wanted) != len(codes) or not wanted:
        wrong.append(f"{len(wanted)} statuses are written, {len(codes)} came")
    if status:
        wrong.append(f"the system ended with {status}: {output.read_text()[-2000:]}")
    return wrong


def _printed(output: Path, child: int) -> Iterator[str]:
    """Yield the commands that the system prints, once it listens."""
    end = time.monotonic() + _WITHIN
    while "Ctrl-C" not in output.read_text():
        gone, _ = os.waitpid(child, os.WNOHANG)
        if gone or time.monotonic() > end:
            raise TimeoutError(output.read_text()[-2000:])
        time.sleep(0.02)
    for line in output.read_text().partition("another terminal")[2].splitlines():
        if line.startswith("  "):
            yield line.strip()


def _run(lines: list[str]) -> list[str]:
    """Run commands in one shell; return the status of each answer."""
    quiet = "curl -s -o /dev/null -w '%{http_code}\\n' "
    script = "\n".join(
        quiet + line.removeprefix("curl -i ") if line.startswith("curl -i ") else f"{line} >&2"
        for line in lines
    )
    done = subprocess.run(
        ["bash", "-c", script], check=False, capture_output=True, text=True, timeout=_WITHIN
    )
    return done.stdout.split()


def one(name: str, folder: Path) -> int:
    """Test one example; write what failed."""
    output = folder / f"{name}.tests"
    status = ended(forked(lambda: own_tests(name, folder / f"{name}.tmp"), output))
    problems = [f"pytest ended with {status}:\n{output.read_text()[-6000:]}"] if status else []
    passed = re.search(r"(\d+) passed", output.read_text())
    result = {
        "problems": [*problems, *tried(name, folder)],
        "passed": 0 if passed is None else int(passed[1]),
    }
    (folder / f"{name}.json").write_text(json.dumps(result))
    return 0


def main() -> None:
    """Test all examples at once."""
    # pytest collects garbage at its end: what all have in common is none, and need not be looked at by each.
    gc.freeze()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        children = [
            forked(lambda name=name: one(name, folder), folder / f"{name}.out")
            for name in run.SYSTEMS
        ]
        for child in children:
            ended(child)
        results = {}
        for name in run.SYSTEMS:
            file = folder / f"{name}.json"
            broken = {"problems": [(folder / f"{name}.out").read_text()], "passed": 0}
            results[name] = json.loads(file.read_text()) if file.exists() else broken
    print(json.dumps(results))


if __name__ == "__main__":
    main()
