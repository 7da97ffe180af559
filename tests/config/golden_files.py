"""Read golden files: what an operator writes, and what `propylon check` says of it.

A file has sections, each behind a line `=== NAME`: the files of the directory by their names, `environment` with a variable on
each line, `command line` with a key on each line, `config` with the name of the file to read; and `check` with what is said,
in which the directory is called DIRECTORY. Behind the name of a file may stand `(hex)`,
`(N bytes)`: its text is repeated so far, or `(new key)`: a private key that is made for the run.

`tests/config/test_golden.py` runs them. After a change of a message, write them anew with UPDATE_GOLDEN=1, and read the
difference.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from propylon.commands.check import listener_findings
from propylon.config.reading.load import load
from propylon.config.reading.problems import ConfigError
from propylon.config.reading.rules import DOUBTS

_KEY = generate_private_key(SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)
_RULES = {rule.id for rule in DOUBTS}
FOLDER = Path(__file__).parent / "golden"
_MARK = "=== "
_ENVIRONMENT, _COMMAND_LINE, _CONFIG, _CHECK = "environment", "command line", "config", "check"


@dataclass
class Golden:
    """One golden file."""

    files: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    config: str = ""
    expected: str = ""

    @classmethod
    def of(cls, text: str) -> "Golden":
        """Read the sections."""
        golden = cls()
        for section in text.removeprefix(_MARK).split(f"\n{_MARK}"):
            name, _, body = section.partition("\n")
            if name == _ENVIRONMENT:
                golden.environ = dict(line.split("=", 1) for line in body.splitlines())
            elif name == _COMMAND_LINE:
                golden.overrides = dict(line.split("=", 1) for line in body.splitlines())
            elif name == _CONFIG:
                golden.config = body.strip()
            elif name == _CHECK:
                golden.expected = body
            else:
                golden.files[name] = body
        return golden

    def text(self) -> str:
        """Write the sections."""
        sections = dict(self.files)
        for name, pairs in ((_ENVIRONMENT, self.environ), (_COMMAND_LINE, self.overrides)):
            if pairs:
                sections[name] = "\n".join(f"{key}={value}" for key, value in pairs.items())
        if self.config:
            sections[_CONFIG] = self.config
        sections[_CHECK] = self.expected
        return "\n".join(f"{_MARK}{name}\n{body}" for name, body in sections.items())

    def run(self, directory: Path, *, listens: bool = False) -> str:
        """Return what is said, in an empty directory that is the working directory; `listens`: also of listeners."""
        for title, body in self.files.items():
            name, content = _content(title, body.replace("DIRECTORY", str(directory)))
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        environ = {
            key: value.replace("DIRECTORY", str(directory)) for key, value in self.environ.items()
        }
        config = Path(self.config) if self.config else None
        try:
            loaded = load(config, environ, self.overrides)
            said = [f"warning: {doubt}" for doubt in loaded.warnings]
            assert {doubt.rule for doubt in loaded.warnings} <= _RULES, "each doubt has a rule"
            if listens:
                said += map(str, listener_findings(loaded)[0])
        except ConfigError as error:
            said = [str(problem) for problem in error.problems]
        lines = [line.replace(str(directory), "DIRECTORY") for line in said]
        return "".join(f"{line}\n" for line in lines)


def _content(title: str, body: str) -> tuple[str, bytes]:
    """Return name and content of a file."""
    name, _, how = title.partition(" (")
    if how == "hex)":
        return name, bytes.fromhex(body)
    if how == "new key)":  # no private key stands in the repository
        return name, _KEY
    if not how:
        return name, body.encode()
    size = int(how.removesuffix(" bytes)"))
    text = body.strip().encode()
    return name, (text * (size // len(text) + 1))[:size]


@contextmanager
def lines_run(file: str) -> Iterator[set[int]]:
    """Collect the lines of a file that are run."""
    found: set[int] = set()

    def within(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            found.add(frame.f_lineno)
        return within

    def calls(frame: FrameType, _event: str, _: Any) -> Any:
        return within if frame.f_code.co_filename == file else None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        yield found
    finally:
        sys.settrace(before)
