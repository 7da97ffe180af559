"""Run one of the example systems on this machine, its services and its gateway: `make example NAME=isaas`.

The gateway starts by the command of its document, `uvicorn app.main:app`. Data and keys last as long as the run. What to try
stands in the example's README.md; it is printed with the addresses of this run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PORT = 8000
# Seconds. A gateway that takes longer has failed, and said why.
_START = 30.0


@dataclass(frozen=True, slots=True)
class System:
    """What starts a gateway, the variable with its key, and the services: their modules, by the variable with the URL."""

    app: str
    key: str
    services: dict[str, str]


SYSTEMS = {
    "tracklore": System(
        "app.main:app", "JWT_SECRET_KEY", {"USER_SERVICE_URL": "user", "AUTH_SERVICE_URL": "auth"}
    ),
    "guide": System(
        "app.main:app",
        "JWT_SECRET_KEY",
        {
            "USERS_SERVICE_URL": "users",
            "PRODUCTS_SERVICE_URL": "products",
            "ORDERS_SERVICE_URL": "orders",
        },
    ),
    "game-library": System(
        "gateway.main:app",
        "JWT_SECRET_KEY",
        {
            "AUTH_SERVICE_URL": "auth",
            "GAME_SERVICE_URL": "game",
            "LIBRARY_SERVICE_URL": "library",
        },
    ),
    "isaas": System(
        "src.main:app",
        "SECRET_KEY",
        {
            "CONTEXT_SERVICE_URL": "context",
            "INTENT_SERVICE_URL": "intent",
            "PREDICTION_SERVICE_URL": "prediction",
            "REALTIME_SERVICE_URL": "realtime",
        },
    ),
}


def main() -> int:
    """Run the system that the command line names until a signal stops it; return the exit status."""
    parser = argparse.ArgumentParser(description="Run one of the example systems.")
    parser.add_argument("name", choices=SYSTEMS)
    parser.add_argument("--port", type=int, default=PORT, help="where the gateway listens")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix=f"{arguments.name}-") as folder:
        return run(arguments.name, arguments.port, Path(folder))


def run(name: str, port: int, folder: Path) -> int:
    """Run a system with its data in `folder`; `port` 0 takes a free one."""
    system = SYSTEMS[name]
    os.chdir(HERE / name)
    sys.path.insert(0, str(HERE / name))
    shown = {
        system.key: secrets.token_urlsafe(48),
        "DATA_DIR": str(folder),
        "PROPYLON_AUTH__TOKENS__DATABASE": f"sqlite:///{folder}/propylon.db",
    }
    listeners = {variable: socket.create_server((HOST, 0)) for variable in system.services}
    urls = {variable: f"http://{HOST}:{at.getsockname()[1]}" for variable, at in listeners.items()}
    os.environ.update(shown | urls)
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        print(f"cannot listen on port {port}: {error.strerror}; name another one with PORT=")
        return 1
    # Before the threads of the services: a process with threads must not be forked.
    gateway = multiprocessing.get_context("fork").Process(
        target=_serve_gateway, args=(system.app, listener), daemon=True
    )
    gateway.start()
    for variable, module in system.services.items():
        _serve_service(module, listeners[variable])
    bound = listener.getsockname()[1]
    listener.close()
    signal.signal(signal.SIGTERM, lambda *_: gateway.terminate())
    try:
        if _answers(bound, gateway):
            _say_what_to_try(name, bound, shown, urls)
        gateway.join()
    except KeyboardInterrupt:  # the gateway has got the signal, too
        gateway.join()
    return 0 if gateway.exitcode in (0, -signal.SIGTERM, -signal.SIGINT) else 1


def _serve_gateway(app: str, listener: socket.socket) -> None:
    """Do what `uvicorn app.main:app` does, on a port that is open already."""
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def _serve_service(module: str, listener: socket.socket) -> None:
    app = import_module(f"services.{module}").app
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, daemon=True, name=module
    ).start()


def _answers(port: int, gateway: multiprocessing.process.BaseProcess) -> bool:
    """Wait for the gateway; return whether it has started."""
    end = time.monotonic() + _START
    with socket.create_connection((HOST, port)) as connection:
        connection.settimeout(0.1)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while time.monotonic() < end and gateway.is_alive():
            try:
                return connection.recv(12) == b"HTTP/1.1 200"
            except TimeoutError:
                continue
    return False


def _say_what_to_try(name: str, port: int, shown: dict[str, str], urls: dict[str, str]) -> None:
    lines = [f"The gateway of {name} listens on http://{HOST}:{port}, in front of:"]
    lines += [f"  {variable:<24}{url}" for variable, url in urls.items()]
    variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in shown.items())
    path = shlex.quote(str(Path(sys.executable).parent))
    lines += [
        "",
        "Try, in another terminal:",
        "",
        f"  cd {shlex.quote(str(HERE / name))}",
        f'  export PATH={path}:"$PATH" {variables}',
    ]
    lines += [f"  {line}" for line in what_to_try(name, port)]
    lines += ["", "Ctrl-C ends it.", ""]
    print("\n".join(lines), flush=True)


def what_to_try(name: str, port: int) -> list[str]:
    """Return the commands under "Try it" in an example's README.md, for a gateway on this port."""
    text = (HERE / name / "README.md").read_text()
    block = re.search(r"\n## Try it\n.*?```console\n(.*?)```", text, re.DOTALL)
    lines = [] if block is None else block[1].splitlines()
    return [
        line[2:].replace("localhost:8000", f"{HOST}:{port}")
        for line in lines
        if line.startswith("$ ")
    ]


if __name__ == "__main__":
    sys.exit(main())
