"""Run the image whose root is mounted read-only at ROOT, and show what it does: `deploy/check-image` calls this.

usage: try_image.py ROOT PORT
"""

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

USER = 65532
SECONDS = 2.0  # that a request takes


class Slow(http.server.BaseHTTPRequestHandler):
    """A service whose answer takes its time."""

    asked = threading.Event()

    def do_GET(self) -> None:
        """Answer late."""
        self.asked.set()
        time.sleep(SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"whole")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def started(root: Path, *command: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a command in the image, as its user, with its variables and these."""
    env = {"PATH": "/opt/propylon/bin:/usr/bin:/bin", "HOME": "/data", "PROPYLON_HOST": "::"}

    def enter() -> None:
        os.chroot(root)
        os.chdir("/data")
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)

    return subprocess.Popen(
        ["/opt/propylon/bin/propylon", *command],
        env={**env, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables},
        preexec_fn=enter,
    )


def healthy(root: Path, **variables: str) -> bool:
    """Whether `propylon health` says so."""
    return started(root, "health", **variables).wait(30) == 0


def until_healthy(root: Path, **variables: str) -> None:
    """Wait for it."""
    for _ in range(30):
        if healthy(root, **variables):
            return
        time.sleep(1)
    raise SystemExit("the gateway in the image did not become ready")


def get(url: str) -> tuple[int, bytes]:
    """Return the status and the body."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def writable(root: Path) -> list[str]:
    """Return what the user of the image could write to, were the root not read-only."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            one
            for one in folders
            if Path(folder, one).parent != root or one not in {"proc", "dev", "sys", "data"}
        ]
        for path in (Path(folder, name) for name in (*files, *folders)):
            status = path.lstat()
            if not path.is_symlink() and (status.st_uid == USER or status.st_mode & 0o002):
                found.append(str(path.relative_to(root)))
    return found


def main() -> int:
    """Try everything; the first thing that does not hold ends it."""
    root, port = Path(sys.argv[1]), sys.argv[2]
    base = f"http://127.0.0.1:{port}"

    bare = started(root, "run")
    until_healthy(root)
    assert get(f"http://[::1]:{port}/livez")[0] == get(f"{base}/livez")[0] == 200
    print("starts without any variable, on IPv4 and IPv6")
    bare.send_signal(signal.SIGTERM)
    assert bare.wait(30) == 0
    assert not healthy(root)
    print("SIGTERM: exit status 0")

    slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    variables = {
        "WEB_CONCURRENCY": "2",
        "PORT": port,
        "JWT_SECRET_KEY": os.urandom(32).hex(),
        "SLOW_SERVICE_URL": f"http://127.0.0.1:{slow.server_port}",
        "SLOW_SERVICE_PUBLIC": "/now",
    }
    gateway = started(root, "run", **variables)
    until_healthy(root, PORT=port)
    answers: list[tuple[int, bytes]] = []
    client = threading.Thread(target=lambda: answers.append(get(f"{base}/api/v1/slow/now")))
    client.start()
    assert Slow.asked.wait(30)
    gateway.send_signal(signal.SIGTERM)
    client.join(30)
    assert answers == [(200, b"whole")], answers
    assert gateway.wait(60) == 0
    print(f"2 workers, users in /data: SIGTERM during a request of {SECONDS:g} s completed it")

    found = [path for path in writable(root) if path not in {"tmp", "var/tmp", "run/lock"}]
    assert found == [], found
    print("no file in the image can be written to by its user")
    return 0


if __name__ == "__main__":
    sys.exit(main())
