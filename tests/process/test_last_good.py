"""The configuration in force, where a replacement worker finds it."""

import os
from pathlib import Path

import pytest

from propylon.config.reading.load import Loaded, load
from propylon.process.last_good import Kept

FIRST = "auth: {jwt: {secret: first-secret-of-thirty-two-bytes-and-more}}\n"
SECOND = FIRST.replace("first", "other") + "routes: [{path: /b, service: b}]\nservices: {b: {}}\n"


def loaded(tmp_path: Path, text: str) -> Loaded:
    """The configuration of that file."""
    file = tmp_path / "propylon.yaml"
    file.write_text(text)
    return load(file, {})


def test_what_one_process_put_in_force_another_finds(tmp_path: Path) -> None:
    """Secrets and places of problems included."""
    first, second = loaded(tmp_path, FIRST), loaded(tmp_path, SECOND)
    kept = Kept(first)
    if (child := os.fork()) == 0:
        kept.keep(second)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert kept.last() == second
    kept.keep(first)
    assert kept.last() == first


def test_nothing_was_put_in_force_yet(tmp_path: Path) -> None:
    """Then it is what the gateway began with."""
    first = loaded(tmp_path, FIRST)
    assert Kept(first).last() is first


def test_where_there_is_no_such_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement goes on as the gateway began."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    first = loaded(tmp_path, FIRST)
    kept = Kept(first)
    kept.keep(loaded(tmp_path, SECOND))
    assert kept.last() is first


def test_a_mixture_is_not_taken(tmp_path: Path) -> None:
    """Two that wrote at once leave what nobody wrote."""
    first = loaded(tmp_path, FIRST)
    kept = Kept(first)
    kept.keep(loaded(tmp_path, SECOND))
    assert kept._memory is not None
    os.pwrite(kept._memory, b"x", 40)
    assert kept.last() is first
