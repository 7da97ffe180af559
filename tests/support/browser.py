"""Drive a real headless Chromium over its DevTools protocol; where there is none, the case is skipped with a word."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--remote-debugging-port=0",
]


class Browser:
    """A browser with one page, and what went wrong in it."""

    def __init__(self, folder: Path) -> None:
        """Start it in a folder of its own."""
        found = next(filter(None, map(shutil.which, NAMES)), None)
        if found is None:
            pytest.skip("there is no Chromium here: apt-get install chromium")
        profile = folder / "profile"
        self._process = subprocess.Popen(
            [found, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._open = ExitStack()
        self._open.callback(self._kill)
        self._number = 0
        self.errors: list[str] = []
        self.asked: list[str] = []  # the URLs of all requests
        try:
            port, path = self._address(profile / "DevToolsActivePort")
            way = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None)
            self._socket = self._open.enter_context(way)
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session: str | None = attached["sessionId"]
            for domain in ("Runtime", "Log", "Network", "Page"):
                self._call(f"{domain}.enable")
        except BaseException:
            self._open.close()
            raise

    _session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._open.close()

    def _kill(self) -> None:
        # The browser's own processes are in its group.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _address(self, file: Path) -> tuple[str, str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            said = file.read_text().split("\n") if file.exists() else []
            if len(said) == 2:
                return said[0], said[1]
            time.sleep(0.05)
        pytest.skip("Chromium does not start here")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            said = json.loads(self._socket.recv(timeout=PATIENCE))
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded":
            self.errors.append(params["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Open a page."""
        self._call("Page.navigate", url=url)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def value(self, script: str) -> Any:
        """Return what a script's expression is in the page."""
        done = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.value(f"Boolean({script})"):
            assert time.monotonic() < deadline, (
                script,
                self.errors,
                self.value("document.body.innerText"),
            )
            time.sleep(0.05)
