"""Fork the processes that tests start from one that has imported Propylon already.

A new interpreter spends half a second of CPU on imports. The zygote spends it once for a session. A
child finds what a new interpreter would find: its arguments, environment, folder, output and limits,
default signals, and no descriptor or variable of the zygote or of the tests. Only the seed of hashes is
the same for all children of a zygote, and passwords are hashed at a low cost. A child that ends well leaves its memory to the system, after its
threads, its exit handlers and a collection: to take a thousand modules apart took as long as a start, for
each page of them is the zygote's and has to be copied first. Linux and macOS.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import os
import pickle
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

ROOT = Path(__file__).resolve().parents[2]

# What `propylon run`, `propylon demo` and uvicorn with our app import until they serve. Neither
# `propylon.__main__` nor `uvicorn.__main__` is here: `python -m` runs them anew in each child.
_IMPORTED = (
    "aiosqlite",
    "encodings.ascii",
    "encodings.idna",
    "encodings.utf_8_sig",
    "propylon.assembly.accounts",
    "propylon.cli.main",
    "propylon.commands.app",
    "propylon.commands.demo.demo",
    "propylon.compile.authentication",
    "propylon.main",
    "propylon.names.nameserver",
    "propylon.process.run",
    "propylon.proxy.authenticate.keys",
    "pydantic.v1",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
)
# Variables that are read when they are needed. An interpreter or a library reads others when it starts
# (PYTHON…, LC_…, TZ, TERM): a child for which one of those differs would not be what it seems to be.
_READ_LATE = (
    "PROPYLON",
    "TMPDIR",
    # Of the systems in examples/.
    *("ACCESS_TOKEN_EXPIRE_MINUTES", "API_V1_PREFIX", "CORS_ORIGINS", "DEBUG", "JWT_SECRET_KEY"),
    *("RATE_LIMIT_PER_SECOND", "REDIS_", "SECRET_KEY"),
)
_SERVICE = "_SERVICE_URL"


class Order(TypedDict):
    """What a child is to be.

    `files` is its limit on open ones, if it has one of its own. It inherits `descriptors`, from 3 on: they
    come along with the order, and have other numbers in the zygote than in the tests.
    """

    args: list[str]
    cwd: str
    env: dict[str, str]
    stdout: str
    stderr: str
    files: int
    descriptors: list[int]


def environment(**more: str) -> dict[str, str]:
    """What a process of ours finds in its environment: nothing of the session that tests it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PROPYLON", "PYTEST", "COV_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


# The side of the tests


class Forked:
    """A child of the zygote, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, zygote: "Zygote", args: list[str], pid: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._zygote = zygote

    def poll(self) -> int | None:
        """Its exit status, if it has ended; until it is asked for, nobody else gets its number."""
        if self.returncode is None:
            self.returncode = self._zygote.ask("poll", self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that forks; it begins with the first start, and ends with `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._environment: dict[str, str] = {}

    def start(
        self,
        args: list[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path | None = None,
        files: int = 0,
        descriptors: Sequence[int] = (),
    ) -> Forked:
        """Start `python -m MODULE …` or `python -c CODE …`, in a session of its own, as Popen would.

        What it prints replaces what is in those files; without `stderr` both go to one. Those `descriptors`
        are its own from number 3 on.
        """
        if args[0] != sys.executable or args[1] not in {"-m", "-c"}:
            raise ValueError(f"not a start of this interpreter: {args}")
        order = Order(
            args=args,
            cwd=str(cwd),
            env=dict(env),
            stdout=str(stdout),
            stderr=str(stderr or stdout),
            files=files,
            descriptors=list(descriptors),
        )
        pid: int = self.ask("start", order, descriptors)
        return Forked(self, args, pid)

    def run(
        self,
        args: list[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Do the same to the end, as `subprocess.run` would."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "stdout"), Path(folder, "stderr")
            process = self.start(args, cwd=cwd, env=env, stdout=out, stderr=err)
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
            return subprocess.CompletedProcess(args, status, out.read_text(), err.read_text())

    def ask(self, verb: str, what: Any, descriptors: Sequence[int] = ()) -> Any:
        """Have it start something, or say what became of it."""
        with self._lock:
            if self._control is None:
                self._control = self._begin()
            if verb == "start":
                self._check(what["env"])
            self._control.sendall(pickle.dumps((verb, what)))
            if descriptors:
                socket.send_fds(self._control, [b"+"], descriptors)
            with self._control.makefile("rb", buffering=0) as answers:
                answer = pickle.load(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        """End it, and whatever it has started and nobody has waited for."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait(20)
        self._control = None

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._environment = environment()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the tests, which then close it
                pass_fds=[theirs.fileno()],
            )
        return ours

    def _check(self, env: Mapping[str, str]) -> None:
        """Raise ValueError for an environment that has to be there when an interpreter starts."""
        different = {
            name
            for name in env.keys() | self._environment.keys()
            if env.get(name) != self._environment.get(name)
            and not name.startswith(_READ_LATE)
            and not name.endswith(_SERVICE)
        }
        if different:
            raise ValueError(f"{sorted(different)} differ: start a new interpreter")


ZYGOTE = Zygote()


# The side of the zygote


def _serve(control: socket.socket) -> Order | None:
    """Fork and tell how they ended, until the tests are gone; return the order in a child."""
    alive: set[int] = set()
    with control, control.makefile("rb", buffering=0) as questions:
        while True:
            try:
                verb, what = pickle.load(questions)
            except EOFError:
                break
            if verb == "poll":
                answer: int | OSError | None = _ended(what)
                alive -= {what} if answer is not None else set()
            else:
                order: Order = what
                order["descriptors"] = _passed(control, len(order["descriptors"]))
                answer = _fork(order)
                if answer == 0:
                    return order
                if isinstance(answer, int):
                    alive.add(answer)
            control.sendall(pickle.dumps(answer))
    for pid in alive:
        with contextlib.suppress(PermissionError):  # macOS says so of a group that has ended
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def _passed(control: socket.socket, count: int) -> list[int]:
    return socket.recv_fds(control, 1, count)[1] if count else []


def _hand_on(passed: list[int]) -> None:
    """Give the descriptors their numbers, from 3 on."""
    above = [fcntl.fcntl(one, fcntl.F_DUPFD, 3 + len(passed)) for one in passed]
    for number, one in enumerate(above, 3):
        os.dup2(one, number)
    for one in {*above, *passed} - set(range(3, 3 + len(passed))):
        os.close(one)


def _ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(order: Order) -> int | OSError:
    """Return the child's number when it is what it is to be, or why it could not; 0 in the child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            _become(order)
        except OSError as error:
            os.write(writer, pickle.dumps(error))
            os._exit(1)
        os.close(writer)
        return 0
    for number in (writer, *order["descriptors"]):
        os.close(number)
    with os.fdopen(reader, "rb") as told:
        failure = told.read()
    if failure:
        os.waitpid(pid, 0)
        found: OSError = pickle.loads(failure)
        return found
    return pid


def _become(order: Order) -> None:
    """Take on what an interpreter finds when it starts."""
    os.setsid()
    for path, number in ((order["stdout"], 1), (order["stderr"], 2)):
        if number == 2 and path == order["stdout"]:
            os.dup2(1, 2)  # one position for both, as with Popen
            continue
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(order["cwd"])
    if order["files"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order["files"], order["files"]))
    # PEP 538: in the C locale the interpreter itself sets this one for its children.
    coerced = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    os.environ.clear()
    os.environ.update(coerced | order["env"])


def _run(order: Order) -> None:
    """Be `python -m MODULE …` or `python -c CODE …`; what it raises is the interpreter's business."""
    _hand_on(order["descriptors"])
    _, option, what, *rest = order["args"]
    sys.orig_argv[:] = order["args"]
    sys.argv[:] = [option, *rest]
    sys.path.insert(0, str(Path.cwd()) if option == "-m" else "")
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = type(sys)("__main__")
    exec(compile(what, "<string>", "exec"), main.__dict__)


def _end_well(order: Order) -> None:
    """Run it to its end, and end; what goes wrong is left to the interpreter, which says it."""
    status = 0
    try:
        _run(order)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        status = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what nobody holds may have a last word: a coroutine that was never awaited
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def _make_commands() -> None:
    """Have typer make our program's commands once: for each call of it, it reads the signatures of all of them."""
    main = importlib.import_module("typer.main")
    made = main.get_command(importlib.import_module("propylon.cli.main").app)
    setattr(main, "get_command", lambda _: made)  # noqa: B010 — mypy wants no assignment


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path.pop(0)  # of this file
    for name in _IMPORTED:
        importlib.import_module(name)
    _make_commands()
    # A hash at its usual cost keeps four processors for a tenth of a second; `tests/stores` looks at that cost.
    importlib.import_module("propylon.stores.passwords").Cost.__init__.__defaults__ = (1, 8, 1)
    if threading.active_count() > 1:
        raise RuntimeError(f"a fork loses threads: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # what is never collected need not be copied for each child
    if (order := _serve(control)) is not None:
        _end_well(order)


if __name__ == "__main__":
    _main()
