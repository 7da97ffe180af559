"""Measures Propylon beside other gateways: one core each, in turns, and prints a table of ratios."""

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import install
import load
import report
from load import Traffic
from peers import PEERS, Peer, Site
from processes import (
    BODY_SIZE,
    GATEWAY_CORE,
    LOAD_CORE,
    NotStarted,
    Running,
    body,
    can_pin,
    start_gateway,
    start_upstream,
)
from proof import NotProven, WrongAnswer, check
from tokens import Tokens, make_tokens

from propylon.wire import native

ALONE = "(no gateway)"
WARM_UP = 2
# Access logs of one turn at the fastest gateway's speed, with room to spare.
LOG_SPACE = 2 << 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="load on each gateway in a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="", help="names that begin so: envoy,haproxy,propylon")
    parser.add_argument("--vary", action="store_true", help="512 different requests, all routes")
    parser.add_argument(
        "--vary-answers", action="store_true", help="each answer has a header of its own"
    )
    parser.add_argument("--post", action="store_true", help="a body of 200 bytes with each request")
    parser.add_argument("--size", type=int, default=BODY_SIZE, help="bytes of an answer")
    parser.add_argument("--tokens", type=int, default=16, help="callers with a token of their own")
    parser.add_argument("--no-auth", action="store_true", help="no tokens, and nobody checks any")
    parser.add_argument("--json", type=Path, help="write every sample into this file")
    parser.add_argument("--no-install", action="store_true", help="measure what is there")
    options = parser.parse_args()
    threads = min(options.tokens, options.connections)
    if threads < 1 or options.connections % threads:
        parser.error("--connections has to be a multiple of --tokens, or less; each at least 1")
    if options.size < len(body(0)):
        parser.error(f"--size is {len(body(0))} at least")
    return options


def main() -> int:
    options = arguments()
    problems = [] if options.no_install else install.install()
    if shutil.which("wrk") is None:
        problems.append("Nothing can be measured without wrk: apt-get install wrk.")
        print("\n".join(problems), file=sys.stderr)
        return 1
    # In memory where that is possible: the logs are to cost the gateways, not the disk.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=log_place()) as folder:
        return Bench(options, Path(folder), problems).run()


def log_place() -> str | None:
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > LOG_SPACE:
        return str(memory)
    return None


class Bench:
    """One run: all gateways up, rounds over all of them, one table."""

    def __init__(self, options: argparse.Namespace, folder: Path, problems: list[str]) -> None:
        self.options = options
        self.folder = folder
        self.problems = problems
        self.running: dict[str, tuple[Running, Site]] = {}
        self.samples: dict[str, list[load.Sample]] = {}
        self.failed = False
        tokens = None if options.no_auth else make_tokens(options.tokens, int(time.time()))
        self.tokens: Tokens | None = tokens
        self.traffic = Traffic(options.connections, options.seconds, options.vary, options.post)
        if tokens:
            file = folder / "tokens.txt"
            file.write_text("".join(f"{token}\n" for token in tokens.good))
            self.traffic = replace(self.traffic, tokens=options.tokens, tokens_file=file)

    def run(self) -> int:
        with contextlib.ExitStack() as stack:
            try:
                upstream = start_upstream(
                    self.folder / "upstream",
                    self.options.size,
                    different_answers=self.options.vary_answers,
                )
            except NotStarted as problem:
                print(f"Nothing can be measured: {problem}", file=sys.stderr)
                return 1
            stack.callback(upstream.stop)
            self.running[ALONE] = (upstream, Site(self.folder / "upstream", upstream.port, 0, 0))
            try:
                for peer in self.wanted():
                    self.start(peer, upstream.port, stack)
            except NotProven as problem:
                print(f"Aborted, since figures would mislead: {problem}.", file=sys.stderr)
                return 1
            for number in range(self.options.rounds):
                self.round(number, upstream)
        return self.show()

    def wanted(self) -> list[Peer]:
        names = [name.strip().lower() for name in self.options.only.split(",") if name.strip()]
        return [p for p in PEERS if not names or any(p.name.lower().startswith(n) for n in names)]

    def start(self, peer: Peer, upstream_port: int, stack: contextlib.ExitStack) -> None:
        """Start it, see that it does what is asked, warm it up; or say why it is left out."""
        why = peer.missing()
        if why is not None:
            self.problems.append(f"{peer.name} left out: {why}.")
            return
        folder = self.folder / "".join(c for c in peer.name.lower() if c.isalnum())
        try:
            secret = self.tokens.secret if self.tokens else None
            running, site = start_gateway(peer, folder, upstream_port, secret)
        except NotStarted as problem:
            self.problems.append(f"{peer.name} left out: {problem}.")
            return
        stack.callback(running.stop)
        try:
            check(peer, site, self.tokens, self.options.size)
            load.warm_up(site.port, self.traffic, WARM_UP)
        except (WrongAnswer, OSError, ValueError, http.client.HTTPException) as problem:
            said = f"{problem}. Its last words: {running.last_words()}"
            self.problems.append(f"{peer.name} left out: {said}")
            return
        self.running[peer.name] = (running, site)

    def round(self, number: int, upstream: Running) -> None:
        """Every gateway once; each round begins with another one."""
        names = list(self.running)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            try:
                self.measure(name, number, upstream)
            except WrongAnswer as problem:
                said = f"{problem}. Its last words: {self.running.pop(name)[0].last_words()}"
                self.problems.append(f"{name} FAILED in round {number + 1}: {said}")
                self.failed = True

    def measure(self, name: str, number: int, upstream: Running) -> None:
        """One gateway in one round."""
        running, site = self.running[name]
        sample = load.measure(running, upstream, self.traffic)
        self.samples.setdefault(name, []).append(sample)
        # A run of many rounds must not fill the memory with logs.
        for log in (site.access_log, site.stdout):
            if log.exists():
                os.truncate(log, 0)
        print(
            f"round {number + 1}: {name:20} {sample.rps:9,.0f} req/s,"
            f" {sample.gateway_cpu:4.0%} CPU, {sample.foreign:4.0%} foreign,"
            f" {sample.failures} errors",
            file=sys.stderr,
        )

    def show(self) -> int:
        checking = {p.name for p in PEERS if p.checks_tokens} if self.tokens else set()
        rows = [
            report.summarise(name, each, checks_tokens=name in checking)
            for name, each in self.samples.items()
        ]
        alone = next((row for row in rows if row.name == ALONE), None)
        gateways = [row for row in rows if row.name != ALONE]
        print(self.heading(), report.table(gateways), sep="\n\n", end="\n\n")
        for line in [*report.notes(gateways, alone), *self.problems]:
            print(f"- {line}")
        if self.options.json:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            found = report.as_json(rows, self.samples, self.heading())
            self.options.json.write_text(json.dumps(found, indent=1))
        return 1 if self.failed or any(row.failures for row in gateways) else 0

    def heading(self) -> str:
        chosen = self.options
        cores = (
            f"gateway on core {GATEWAY_CORE}, wrk and the service on core {LOAD_CORE}"
            if can_pin()
            else "NOT PINNED: this system cannot, so the figures say little"
        )
        kind = "512 different requests" if chosen.vary else "one request"
        kind += " with a body of 200 bytes" if chosen.post else ""
        kind += f", answers of {chosen.size} bytes" + (
            " that differ" if chosen.vary_answers else ""
        )
        kind += f", {chosen.tokens} HS256 tokens" if self.tokens else ", no tokens"
        return (
            f"{chosen.rounds} rounds of {chosen.seconds} s, {chosen.connections} kept connections, {kind}; {cores}; "
            f"{platform.machine()}, {platform.system()} {platform.release()}, access logs in {self.folder.parent}; "
            f"Propylon {native.implementation} on {interpreter()}"
        )


def interpreter() -> str:
    """What runs Propylon, and whether it was built with a profile, which is worth a tenth to a fifth."""
    built = str(sysconfig.get_config_var("CONFIG_ARGS"))
    profile = "with PGO" if "--enable-optimizations" in built else "without PGO"
    return f"CPython {platform.python_version()} ({platform.python_compiler()}, {profile})"


if __name__ == "__main__":
    sys.exit(main())
