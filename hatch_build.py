"""Compile `propylon.wire._heads`, where that can be done, while a wheel is built or an editable install is made.

An install never fails for want of a compiler: the gateway runs without the compiled part, with the same results and slower.
What was done is printed (`pip install -v`), and `propylon --version` tells which part runs.

- `PROPYLON_PURE=1`: compile nothing.
- `PROPYLON_REQUIRE_NATIVE=1`: fail where it cannot be compiled. For those who build wheels for others.
- `CC`, `CFLAGS`, `LDFLAGS` and `ARCHFLAGS` (macOS): as for other packages.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "src/propylon/wire/_heads.c"
_FILE = "_heads.abi3.so"  # one build for CPython 3.11 and newer
_INSIDE = f"propylon/wire/{_FILE}"
_TAG = "cp311-abi3"
_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden"]
# Loaded once in a process of its own: a compiler may write what the interpreter cannot read.
_TRY = (
    "import sys; from importlib.machinery import ExtensionFileLoader as Loader;"
    " from importlib.util import module_from_spec, spec_from_loader;"
    " name = 'propylon.wire._heads'; loader = Loader(name, sys.argv[1]);"
    " module = module_from_spec(spec_from_loader(name, loader)); loader.exec_module(module);"
    " assert module.request(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')[0] == 'GET'"
)


class _NotCompiledError(Exception):
    """Why there is no compiled part."""


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling calls `initialize` before it collects the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the source tree for an editable install, and elsewhere for a wheel, which is then of this platform."""
        if self.target_name != "wheel":
            return
        in_place = Path(self.root, _SOURCE).with_name(_FILE)
        editable = version == "editable"
        if editable:
            in_place.unlink(missing_ok=True)
        self._folder = tempfile.mkdtemp()
        built = Path(self._folder, _FILE)
        try:
            _compile(Path(self.root, _SOURCE), built)
        except _NotCompiledError as error:
            if _asked("PROPYLON_REQUIRE_NATIVE"):
                msg = f"propylon: the compiled part was asked for: {error}"
                raise SystemExit(msg) from error
            self.app.display_warning(f"propylon: pure Python, without the compiled part: {error}")
            return
        self.app.display_info(f"propylon: compiled {_SOURCE}")
        if editable:
            shutil.copyfile(built, in_place)
            return
        build_data["pure_python"] = False
        platform = self.build_config.builder.get_best_matching_tag().rpartition("-")[2]
        build_data["tag"] = f"{_TAG}-{platform}"
        build_data["force_include"][str(built)] = _INSIDE

    def finalize(self, *_: object) -> None:
        """Remove what was compiled elsewhere."""
        shutil.rmtree(getattr(self, "_folder", ""), ignore_errors=True)


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def _words(variable: str) -> list[str]:
    return shlex.split(os.environ.get(variable, ""))


def _compile(source: Path, target: Path) -> None:
    """Compile `source` into `target`, and try it. Raises _NotCompiledError."""
    if _asked("PROPYLON_PURE"):
        msg = "PROPYLON_PURE is set"
        raise _NotCompiledError(msg)
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        msg = "it is for CPython with its global lock"
        raise _NotCompiledError(msg)
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").is_file():
        msg = f"the headers of Python are not installed ({include}/Python.h)"
        raise _NotCompiledError(msg)
    _run([*_command(), f"-I{include}", str(source), "-o", str(target), *_words("LDFLAGS")])
    _run([sys.executable, "-c", _TRY, str(target)])


def _command() -> list[str]:
    compiler = _words("CC") or shlex.split(sysconfig.get_config_var("CC") or "cc")[:1]
    found = next((name for name in (compiler[0], "cc", "gcc", "clang") if shutil.which(name)), None)
    if found is None:
        msg = "there is no C compiler"
        raise _NotCompiledError(msg)
    shared = (
        ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    )
    return [found, *compiler[1:], *_FLAGS, *shared, *_words("ARCHFLAGS"), *_words("CFLAGS")]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 — the compiler and the interpreter
            command, capture_output=True, text=True, check=False, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotCompiledError(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        msg = f"{command[0]} failed:\n{said}"
        raise _NotCompiledError(msg)
