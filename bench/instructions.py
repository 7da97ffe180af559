"""What a request costs in instructions, counted by valgrind: a figure that a busy machine does not change.

The gateway runs in this process on transports of memory (`tests/support/loads.py`), so that neither the kernel nor the other
side is counted. Only the requests are: callgrind is switched on behind the start and some warm ones.

`--check` holds the figures against `instructions.json`: more than 3 % above fails. Its figures are those of one interpreter, which
it names, and count for no other; `--write` adds those of the one that runs.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from asyncio import Runner
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.loads import LOADS, Loop, World

TABLE = Path(__file__).with_suffix(".json")
ROOM = 1.03
WARM = 50


def inside(load: str, requests: int) -> None:
    """Serve under callgrind, which counts nothing yet."""

    def switch(state: str) -> None:
        command = ["callgrind_control", "-i", state, str(os.getpid())]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w", encoding="utf-8") as quiet,
        contextlib.redirect_stdout(quiet),
        Runner(loop_factory=Loop) as runner,
    ):
        world = World(load, Path(folder))
        runner.run(world.run(WARM, requests, lambda: switch("on"), lambda: switch("off")))


def instructions(load: str, requests: int, source: str, profile: Path | None) -> float:
    """The instructions of a request."""
    with tempfile.TemporaryDirectory() as folder:
        out = profile or Path(folder, "out")
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={out}",
        ]
        done = subprocess.run(
            [*command, sys.executable, __file__, "--inside", load, str(requests)],
            env={**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(done.stderr[-2000:])
    return int(found[1]) / requests


def implementation(source: str) -> str:
    """Which part reads heads: native or pure."""
    say = "from propylon.wire import native; print(native.implementation)"
    done = subprocess.run(
        [sys.executable, "-c", say],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "pure"  # before there was such a module


def checked(figures: dict[str, float], key: str, *, write: bool) -> int:
    """Compare with the table, or write into it; return the exit status."""
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if write:
        table.setdefault(key, {}).update({load: round(figure) for load, figure in figures.items()})
        TABLE.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
        return 0
    if key not in table:
        print(f"{TABLE.name} has no figures of {key}: nothing is compared; --write adds them")
        return 0
    dearer = {
        load: f"{figure / table[key][load]:.3f} of {table[key][load]:,}"
        for load, figure in figures.items()
        if figure > ROOM * table[key].get(load, figure)
    }
    for load, ratio in dearer.items():
        print(f"{load} has become dearer: {ratio}")
    return 1 if dearer else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--source", default=str(Path(__file__).parents[1] / "src"))
    parser.add_argument("--against", help="another checkout's src: the ratio is printed")
    parser.add_argument("--loads", default=",".join(LOADS), help="such as repeated,repeated+limit")
    parser.add_argument("--check", action="store_true", help="against the table")
    parser.add_argument("--write", action="store_true", help="into the table")
    parser.add_argument("--profile", type=Path, help="keep callgrind's file of the last load here")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside[0], int(options.inside[1]))
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: no instructions are counted")
        return 0 if options.check else 1
    which = implementation(options.source)
    key = f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}, {which}"
    print(key)
    figures = {}
    for load in options.loads.split(","):
        figures[load] = figure = instructions(
            load, options.requests, options.source, options.profile
        )
        beside = ""
        if options.against:
            other = instructions(load, options.requests, options.against, None)
            beside = f" against {other:,.0f}: {figure / other:.3f}"
        print(f"{load}: {figure:,.0f} instructions a request{beside}", flush=True)
    return checked(figures, key, write=options.write) if options.check or options.write else 0


if __name__ == "__main__":
    raise SystemExit(main())
