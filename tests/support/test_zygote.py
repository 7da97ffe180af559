"""A fork of the zygote is what a new interpreter would have been."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.zygote import ZYGOTE, Forked, Zygote, environment

# What a process finds of itself; a module of the same text is run by `-m`.
REPORT = """
import gc, json, os, resource, signal, sys, threading
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": list(sys.flags),
    "name": __name__, "file": globals().get("__file__"), "main": sys.modules["__main__"].__name__,
    "package": __package__, "cwd": os.getcwd(), "environment": dict(os.environ),
    "files": sorted(int(fd) for fd in os.listdir("/dev/fd"))[:-1],
    "stdin": os.fstat(0).st_rdev, "leads": os.getsid(0) == os.getpid() == os.getpgrp(),
    "signals": {number.name: str(signal.getsignal(number)) for number in signal.Signals},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "limits": [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT" in name], "umask": os.umask(0o22),
    "encodings": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
    "buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.isatty()],
    "threads": threading.active_count(), "gc": [gc.isenabled(), gc.get_threshold()],
    "hooks": [sys.excepthook is sys.__excepthook__, sys.gettrace(), sys.getprofile()],
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module that reports on its process."""
    (tmp_path / "report.py").write_text(REPORT)
    return tmp_path


def fresh(args: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A new interpreter, in a session of its own."""
    return subprocess.run(
        args,
        cwd=cwd,
        env=environment(PROPYLON_CONFIG="here.yaml"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


def forked(args: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same by the zygote."""
    return ZYGOTE.run(args, cwd=cwd, env=environment(PROPYLON_CONFIG="here.yaml"))


@pytest.mark.parametrize("how", [["-c", REPORT], ["-m", "report"]], ids=["-c", "-m"])
def test_it_finds_what_a_new_interpreter_finds(folder: Path, how: list[str]) -> None:
    """Arguments, path, environment, folder, descriptors, signals, limits and streams are the same."""
    args = [sys.executable, *how, "one", "--two"]
    found: list[dict[str, Any]] = [json.loads(run(args, folder).stdout) for run in (fresh, forked)]
    assert found[1] == found[0]
    assert found[1]["environment"]["PROPYLON_CONFIG"] == "here.yaml"
    assert (found[1]["files"], found[1]["leads"]) == ([0, 1, 2], True)


ENDS = {
    "well": "print('said')",
    "with a status": "import sys; sys.exit(3)",
    "with a sentence": "raise SystemExit('a sentence')",
    "with an error": "raise ValueError('of its own')",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    # What the interpreter does with SIGINT unless its parent ignores it, as a shell does for a job in the background.
    "by Ctrl-C": (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "os.kill(os.getpid(), signal.SIGINT); signal.pause()"
    ),
    "after its exit handlers": "import atexit; atexit.register(print, 'behind'); print('before')",
    "after its threads": "import threading as t, time; t.Timer(0.1, print, ['thread']).start()",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_as_a_new_interpreter_ends(tmp_path: Path, code: str) -> None:
    """The same exit status, the same output, and the same last word of a traceback."""
    args = [sys.executable, "-c", code]
    new, ours = fresh(args, tmp_path), forked(args, tmp_path)
    assert (ours.returncode, ours.stdout) == (new.returncode, new.stdout)
    assert ours.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


@pytest.mark.parametrize("module", ["propylon", "uvicorn"])
def test_commands_run_as_they_do_otherwise(tmp_path: Path, module: str) -> None:
    """`python -m` finds a package's own __main__, which nobody has imported before."""
    args = [sys.executable, "-W", "error", "-m", module, "--help"]
    assert forked([args[0], *args[3:]], tmp_path).stdout == fresh(args, tmp_path).stdout


SLEEP = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Forked]:
    """A process that waits for a signal."""
    process = ZYGOTE.start(SLEEP, cwd=tmp_path, env=environment(), stdout=tmp_path / "said")
    yield process
    process.kill()
    process.wait(20)


def test_it_is_a_process_like_any_other(sleeping: Forked) -> None:
    """It is there, it is waited for in vain, a signal ends it, and its status stays known."""
    assert (sleeping.poll(), sleeping.returncode) == (None, None)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeping.wait(0.01)
    sleeping.terminate()
    assert sleeping.wait(20) == -signal.SIGTERM
    assert (sleeping.poll(), sleeping.returncode) == (-signal.SIGTERM, -signal.SIGTERM)
    sleeping.kill()  # of what has ended: nothing


def test_its_group_is_there_at_once(sleeping: Forked) -> None:
    """It leads its own session from the moment that its number is known: no kill can miss it."""
    os.killpg(sleeping.pid, signal.SIGKILL)
    assert sleeping.wait(20) == -signal.SIGKILL


def test_limit_on_files(tmp_path: Path) -> None:
    """The limit is the child's alone."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    args, said = [sys.executable, "-c", code], tmp_path / "said"
    for files, expected in ((80, (80, 80)), (0, resource.getrlimit(resource.RLIMIT_NOFILE))):
        process = ZYGOTE.start(args, cwd=tmp_path, env=environment(), stdout=said, files=files)
        assert process.wait(20) == 0
        assert said.read_text() == f"{expected}\n"


def test_what_cannot_start_is_an_error(tmp_path: Path) -> None:
    """A folder that is not there, as with Popen; a command of another kind."""
    with pytest.raises(FileNotFoundError):
        ZYGOTE.start(SLEEP, cwd=tmp_path / "none", env=environment(), stdout=tmp_path / "said")
    with pytest.raises(ValueError, match="not a start of this interpreter"):
        ZYGOTE.run(["true"], cwd=tmp_path, env=environment())


@pytest.mark.parametrize("name", ["PYTHONOPTIMIZE", "TZ", "LC_ALL"])
def test_what_is_read_at_a_start_cannot_differ(tmp_path: Path, name: str) -> None:
    """A variable that only a new interpreter would obey is refused, not ignored."""
    with pytest.raises(ValueError, match=f"'{name}'.* start a new interpreter"):
        ZYGOTE.run(SLEEP, cwd=tmp_path, env=environment(**{name: "1"}))


def test_what_is_left_ends_with_it(tmp_path: Path) -> None:
    """A session that is over leaves no gateway behind."""
    zygote = Zygote()
    process = zygote.start(SLEEP, cwd=tmp_path, env=environment(), stdout=tmp_path / "said")
    zygote.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
