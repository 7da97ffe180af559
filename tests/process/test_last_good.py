"""The configuration in force, where a replacement worker finds it."""

import os
from pathlib import Path

from propylon.config.reading.load import Loaded, load
from propylon.process.last_good import LastGood
from propylon.stores.slot import Slot

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
    last_good = LastGood(first, Slot())
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
    assert LastGood(first, Slot()).load() is first


def test_a_worker_without_others(tmp_path: Path) -> None:
    """Nothing is kept for a replacement that there will not be."""
    first = loaded(tmp_path, FIRST)
    last_good = LastGood(first, None)
    last_good.save(loaded(tmp_path, SECOND))
    assert last_good.load() is first
