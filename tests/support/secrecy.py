"""Note every secret that a test uses, and search whatever a gateway says for each of them.

Clients, upstreams and gateways note what passes through them (a token in a header, a password in a
form, a key in a configuration); whoever makes a secret notes it, too. When the session ends, every
log is searched: one hit fails the run, whichever test it was that caused it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest

SHORTEST = 8  # characters; anything shorter stands in a log by chance
_VARIED = 5  # different characters; "xxxxxxxx" is a filler, not a secret
_LONGEST = 4096  # of a secret: where so much does not show, the rest will not
_LOOKED_AT = 65536  # bytes of a write: heads and forms stand at its beginning
_SESSION = 4096  # bytes: the answer of a token endpoint; documentation with examples is longer
_BLOCK = 8

# Where secrets stand in what is sent. Cheap to ask first: whether there is any reason to look.
_HINTS = (
    b"earer.",
    b"uthorization",
    b"ookie",
    b"token",
    b"password",
    b"secret",
    b"AUTHORIZATION",
    b"COOKIE",
)
_PLACES = re.compile(
    rb"(?im)^(?:proxy-)?authorization:[ \t]*(?:[a-z-]+[ \t]+)?(?P<credentials>[^\r\n]+)"
    rb"|^sec-websocket-protocol:.*?bearer\.(?P<subprotocol>[^\s,]+)"
    rb"|^(?:set-)?cookie:[ \t]*(?P<cookies>[^\r\n]+)"
    rb"|(?:^|[?&])(?:[a-z_]*token|password|client_secret)=(?P<field>[^&\s#]+)"
)
# A cookie's value, not an attribute's: a host that is somebody's Domain is no secret.
_COOKIE = re.compile(
    rb"(?i)(?:^|;)\s*(?!(?:path|domain|expires|max-age|samesite)=)[^=;\s]+=\"?([^;\s\"]+)"
)
# Keys of a configuration whose values nobody may read in a log.
_SECRET_KEYS = frozenset({"secret", "client_secret", "password"})
# The password in a URL.
_IN_URL = re.compile(r"[a-z+]+://[^/:@]*:([^/@]+)@")
# What a JSON answer of the token endpoint hands out.
_ISSUED = re.compile(rb'"(?:access|refresh)_token":\s*"([^"]+)"')


def _is_secret(text: str) -> bool:
    return len(text) >= SHORTEST and len(set(text)) >= _VARIED


def _parts(secret: str) -> Iterator[str]:
    """The secret, and what of it is as bad: a token's claims or its signature, other spellings."""
    yield secret
    if secret.count(".") >= 2:
        yield from secret.split(".")[1:]
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]


@dataclass
class Secrecy:
    """What must not be said, and where it could have been."""

    secrets: set[str] = field(default_factory=set)
    logs: list[Path] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    def note(self, secret: str) -> str:
        """Remember a secret, and return it."""
        self.secrets |= {part[:_LONGEST] for part in _parts(secret) if _is_secret(part)}
        return secret

    def note_sent(self, data: bytes) -> None:
        """Remember the credentials in a piece of a request or an answer."""
        data = data[:_LOOKED_AT]
        if not any(hint in data for hint in _HINTS):
            return
        for match in _PLACES.finditer(data):
            found = match[match.lastgroup or 0]
            if match.lastgroup == "cookies":
                values: Iterable[bytes] = _COOKIE.findall(found)
            else:
                values = (found.strip(),)
            for value in values:
                self.note(value.decode("latin-1"))
                self.note(unquote_plus(value.decode("latin-1")))

    def note_issued(self, body: bytes) -> None:
        """Remember the tokens that an answer hands out."""
        if len(body) < _SESSION:
            for issued in _ISSUED.findall(body):
                self.note(issued.decode("latin-1"))

    def note_config(self, config: Any) -> None:
        """Remember the secrets of a configuration."""
        if isinstance(config, dict):
            for key, value in config.items():
                if key in _SECRET_KEYS and isinstance(value, str):
                    self.note(value)
                elif isinstance(value, str) and (found := _IN_URL.match(value)):
                    self.note(found[1])
                self.note_config(value)
        elif isinstance(config, list):
            for item in config:
                self.note_config(item)

    def watch(self, log: Path) -> None:
        """Search this file, too, when the session ends."""
        self.logs.append(log)

    def hear(self, where: str, text: str) -> None:
        """Search what a process has said."""
        if text:
            self.said.append((where, text))

    def leaks(self) -> list[str]:
        """Where something was said, one sentence each; the secrets themselves are cut short."""
        search = Search(self.secrets)
        texts = [(str(log), _read(log)) for log in self.logs] + self.said
        return [
            f"{where} says {secret[:6]}... ({len(secret)} characters)"
            for where, text in texts
            for secret in sorted(search.found_in(text))
        ]


def _read(log: Path) -> str:
    try:
        return log.read_text("latin-1")
    except FileNotFoundError:
        return ""


class Search:
    """A search for many secrets in many texts: thousands, and megabytes.

    A text is cut into blocks. A long secret that stands in it covers at least one whole block, which
    is one of the first windows of the secret. Only where they meet is the secret itself searched for.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._short: set[str] = set()
        self._by_window: defaultdict[str, set[str]] = defaultdict(set)
        for secret in secrets:
            if len(secret) < 2 * _BLOCK - 1:
                self._short.add(secret)
                continue
            # Of that many neighbouring windows one begins where a block does.
            for start in range(_BLOCK):
                self._by_window[secret[start : start + _BLOCK]].add(secret)

    def found_in(self, text: str) -> set[str]:
        """Which of the secrets stand in the text."""
        blocks = {text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK)}
        likely = [self._by_window[window] for window in blocks & self._by_window.keys()]
        return {secret for secret in self._short.union(*likely) if secret in text}


SECRECY = Secrecy()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test printed and logged, for the search at the end."""
    SECRECY.hear(report.nodeid, report.capstdout + report.capstderr + report.caplog)


@pytest.fixture(scope="session", autouse=True)
def secrecy() -> Iterator[None]:
    """Nothing that is secret in any test stands in any log; looked for when everything has ended."""
    yield
    if leaks := SECRECY.leaks():
        pytest.fail("\n".join(leaks), pytrace=False)
