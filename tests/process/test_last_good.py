"""The configuration in force, where a replacement worker finds it."""

import os
from pathlib import Path

import pytest

from propylon.config.reading.load import Loaded, load
from propylon.process.last_good import LastGood

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
    last_good = LastGood(first)
    if (child := os.fork()) == 0:
        last_good.save(second)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert last_good.load() == second
    last_good.save(first)
    assert last_good.load() == first


def test_nothing_was_put_in_force_yet(tmp_path: Path) -> None:
    """Then it is what the gateway began with."""
    first = loaded(tmp_path, FIRST)
    assert LastGood(first).load() is first


def test_where_there_is_no_such_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement goes on as the gateway began."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    first = loaded(tmp_path, FIRST)
    last_good = LastGood(first)
    last_good.save(loaded(tmp_path, SECOND))
    assert last_good.load() is first


def test_a_mixture_is_not_taken(tmp_path: Path) -> None:
    """Two that wrote at once leave what nobody wrote."""
    first = loaded(tmp_path, FIRST)
    last_good = LastGood(first)
    last_good.save(loaded(tmp_path, SECOND))
    assert last_good._memory is not None
    os.pwrite(last_good._memory, b"x", 40)
    assert last_good.load() is first
