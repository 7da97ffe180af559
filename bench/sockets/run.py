"""Measures WebSockets: messages a second beside nginx and HAProxy in one run, memory, idle CPU, and the delay of events."""

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
UPSTREAM, PROPYLON, NGINX, HAPROXY, PORTABLE = range(19000, 19005)
SIZE = "32"
TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = f"""
server: {{host: 127.0.0.1, port: {PROPYLON}}}
services: {{up: {{url: "http://127.0.0.1:{UPSTREAM}"}}}}
routes: [{{path: /ws, service: up, auth: none}}]
"""
NGINX_CONFIG = """
worker_processes 1; daemon off; error_log {folder}/nginx.err; pid {folder}/nginx.pid;
events {{ worker_connections 18000; }}
http {{ access_log off; map $http_upgrade $change {{ default upgrade; '' close; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://127.0.0.1:{upstream};
  proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $change;
  proxy_read_timeout 600s; }} }} }}
"""
HAPROXY_CONFIG = """
global
 maxconn 9000
 nbthread 1
defaults
 mode http
 timeout connect 5s
 timeout client 600s
 timeout server 600s
 timeout tunnel 600s
frontend in
 bind 127.0.0.1:{port} backlog 4096
 default_backend out
backend out
 server s 127.0.0.1:{upstream}
"""


def family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu(pid: int) -> float:
    fields = [
        Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split() for one in family(pid)
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def memory(pid: int) -> int:
    texts = [Path(f"/proc/{one}/status").read_text() for one in family(pid)]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("RssAnon")]
    return sum(int(line.split()[1]) * 1024 for line in lines)


@contextlib.contextmanager
def running(*command: str, env: dict[str, str] | None = None) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=env) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    for _ in range(300):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2),
        ):
            return
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def start(stack: contextlib.ExitStack, folder: Path) -> dict[str, tuple[int, int]]:
    (folder / "propylon.yaml").write_text(CONFIG)
    propylon = (sys.executable, "-m", "propylon", "run", "--config", str(folder / "propylon.yaml"))
    gateways = {"propylon": (PROPYLON, stack.enter_context(running(*propylon)))}
    if shutil.which("nginx"):
        file = folder / "nginx.conf"
        file.write_text(NGINX_CONFIG.format(folder=folder, port=NGINX, upstream=UPSTREAM))
        gateways["nginx"] = (NGINX, stack.enter_context(running("nginx", "-c", str(file))))
    if shutil.which("haproxy"):
        file = folder / "haproxy.cfg"
        file.write_text(HAPROXY_CONFIG.format(port=HAPROXY, upstream=UPSTREAM))
        gateways["haproxy"] = (HAPROXY, stack.enter_context(running("haproxy", "-f", str(file))))
    wait_for(PROPYLON)
    return gateways


def compare(ws: str, folder: Path, asked: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(ws, "serve", str(UPSTREAM), SIZE))
        gateways = start(stack, folder)
        for _ in range(asked.rounds):
            for name, (port, pid) in gateways.items():
                before, used = memory(pid), cpu(pid)
                command = [ws, "load", str(port), SIZE, str(asked.sockets), str(asked.seconds)]
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
                    time.sleep(asked.seconds * 0.8)
                    grown = memory(pid) - before
                    rate = float(generator.communicate()[0])
                busy = rate * (asked.seconds + 1) / (cpu(pid) - used)
                found.setdefault(name, []).append((rate, busy))
                print(
                    f"{name:9} {rate:7.0f} msg/s, {busy:7.0f} per CPU second, {grown / asked.sockets:6.0f} B a socket"
                )
    own = [median(values) for values in zip(*found.pop("propylon"), strict=True)]
    for name, values in found.items():
        other = [median(each) for each in zip(*values, strict=True)]
        print(
            f"ratio to {name}: {own[0] / other[0]:.2f} by the clock, {own[1] / other[1]:.2f} by CPU"
        )


def idle(ws: str, folder: Path, asked: argparse.Namespace) -> None:
    (folder / "propylon.yaml").write_text(CONFIG)
    propylon = (sys.executable, "-m", "propylon", "run", "--config", str(folder / "propylon.yaml"))
    with running(ws, "serve", str(UPSTREAM), SIZE), running(*propylon) as pid:
        wait_for(PROPYLON)
        before = memory(pid)
        command = [ws, "load", str(PROPYLON), SIZE, str(asked.idle), "-60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as generator:
            assert generator.stdout is not None
            generator.stdout.readline()
            time.sleep(2)
            used, grown = cpu(pid), memory(pid) - before
            time.sleep(20)
            share = (cpu(pid) - used) / 20
            generator.kill()
        print(f"{asked.idle} idle sockets: {share:.2%} of a core, {grown / asked.idle:.0f} B each")


async def tick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head)
        for _ in range(10):
            await asyncio.sleep(1)
            event = b"data: %d\n\n" % time.time_ns()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
    writer.close()


async def delays(port: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")
    found: list[float] = []
    while len(found) < 10 and (line := await reader.readline()):
        if line.startswith(b"data: "):
            found.append((time.time_ns() - int(line[6:])) / 1e6)
    writer.close()
    return found


async def events() -> None:
    listener = await asyncio.start_server(tick, "127.0.0.1", UPSTREAM)
    for name, port in (("direct", UPSTREAM), ("fast edge", PROPYLON), ("portable edge", PORTABLE)):
        found = await delays(port)
        print(
            f"{name:13}: an event arrives after {max(found):.2f} ms at the most, {median(found):.2f} ms usually"
        )
    listener.close()


def stream(folder: Path) -> None:
    (folder / "propylon.yaml").write_text(CONFIG)
    file = str(folder / "propylon.yaml")
    uvicorn = ("uvicorn", "propylon.main:app", "--no-proxy-headers", "--port", str(PORTABLE))
    env = {**os.environ, "PROPYLON_CONFIG": file}
    fast = running(sys.executable, "-m", "propylon", "run", "--config", file)
    with fast, running(sys.executable, "-m", *uvicorn, env=env):
        wait_for(PROPYLON)
        wait_for(PORTABLE)
        asyncio.run(events())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["compare", "idle", "stream"])
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=9500, help="two descriptors each")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ws = str(folder / "ws")
        subprocess.run(["cc", "-O2", "-o", ws, str(HERE / "ws.c")], check=True)
        if "compare" in asked.what:
            compare(ws, folder, asked)
        if "idle" in asked.what:
            idle(ws, folder, asked)
        if "stream" in asked.what:
            stream(folder)


if __name__ == "__main__":
    main()
