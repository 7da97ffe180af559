"""A golden file for every message of the configuration: what is written, and what `propylon check` says of it.

Place, cause and cure can be read side by side there, as a reviewer of a change reads them.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from propylon.config.reading import messages
from tests.config.golden_files import FOLDER, Golden, lines_run
from tests.config.message_sites import Site, sites

SITES = {site.name: site for site in sites()}
KINDS = {f"sentence.{kind}": kind for kind in messages._SENTENCES}
GOLDEN = sorted(file.stem for file in FOLDER.glob("*.txt"))
# Messages without a golden file, and why.
EXCUSED = {
    "process.rehearse._certificates.1": "the words are OpenSSL's, and change with it: tests/process/test_tls.py",
    "process.rehearse._certificates.2": "the same",
    "process.rehearse._certificates.3": "the same; it hangs on the date, too",
    "process.rehearse._unix.2": "root may write into every directory",
    "process.rehearse._tcp.2": "it hangs on who has the port: tests/process/test_rehearse.py",
    "reading.envfile.read_envfile.1": "root, who runs the tests in a container, may read every file",
    "sentence.model_attributes_type": "pydantic says so where a model is read from attributes; kept for its next release",
    "models.coding._coding": "it hangs on what is installed: tests/compile/test_coding.py",
    "reading.include.include": "a thousand files: tests/config/test_include.py",
    "reading.otel.encoder_findings": "it hangs on what is installed: tests/config/test_otel.py",
    "reading.messages._unknown.1": "for keys below a value that is no section; pydantic asks about none",
}


# A line of a file, a variable or the command line; behind it the key, if it is about one.
PLACE = re.compile(
    r"(?:warning: )?(?:command line|[^ ]+?(?::[0-9]+)?(?: [A-Z][A-Z0-9_]*)?)(?: [^:]+)?: .+"
)
NOWHERE = "warning: there is no propylon.yaml"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is what the file says, has a place, and is the one that the file is called by."""
    file = FOLDER / f"{name}.txt"
    golden = Golden.of(file.read_text(encoding="utf-8"))
    seen: set[str] = set()
    say = messages._message

    def noting(detail: Any, path: Any) -> str:
        seen.add(detail["type"])
        return say(detail, path)

    monkeypatch.setattr(messages, "_message", noting)
    site = SITES.get(name, Site(name, "", 0, -1))
    with lines_run(site.file) as run:
        said = golden.run(directory, listens=site.file.endswith("rehearse.py"))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.expected = said
        file.write_text(golden.text(), encoding="utf-8")
    assert said == golden.expected != ""
    assert all(line.startswith(NOWHERE) or PLACE.fullmatch(line) for line in said.splitlines())
    assert KINDS.get(name) in seen or any(site.first <= line <= site.last for line in run)


def test_every_message_has_a_golden_file() -> None:
    """A new message needs one: write the input and `=== check`, and run this file with UPDATE_GOLDEN=1."""
    expected = SITES.keys() | KINDS.keys()
    assert expected - set(GOLDEN) - EXCUSED.keys() == set()
    assert set(GOLDEN) - expected == set(), "a file for a message that is no more"
    assert not EXCUSED.keys() & set(GOLDEN)
    assert EXCUSED.keys() <= expected
