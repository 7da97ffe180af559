"""Pieces of bytes that workers share: found by all, kept when a worker dies, and with one keeper."""

from pathlib import Path

import pytest

from propylon.stores.shelf import FolderShelf, MemoryShelf


@pytest.fixture(params=["memory", "folder"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryShelf | FolderShelf:
    """Either kind."""
    return MemoryShelf() if request.param == "memory" else FolderShelf(tmp_path / "shelf")


def test_what_is_put_is_found(shelf: MemoryShelf | FolderShelf) -> None:
    """Under its name, the latest, until it is dropped."""
    shelf.put("a-1", b"one")
    shelf.put("a-1", b"two!")
    shelf.put("b", b"")
    assert (shelf.get("a-1"), shelf.get("b"), shelf.get("c")) == (b"two!", b"", None)
    assert shelf.sizes() == {"a-1": 4, "b": 0}
    shelf.drop("a-1")
    shelf.drop("c")
    assert shelf.sizes() == {"b": 0}
    assert shelf.keeps()
    shelf.close()


def test_there_is_one_keeper_and_the_next_takes_its_place(tmp_path: Path) -> None:
    """While it lives no other worker becomes the keeper."""
    first, second = FolderShelf(tmp_path / "shelf"), FolderShelf(tmp_path / "shelf")
    assert (first.keeps(), second.keeps(), first.keeps()) == (True, False, True)
    first.put("a", b"kept")
    first.close()
    assert second.keeps()
    assert second.get("a") == b"kept"
    second.close()


def test_a_shelf_that_is_gone_is_empty(tmp_path: Path) -> None:
    """The directory may be removed under it: then there is nothing, and what is put fails."""
    shelf = FolderShelf(tmp_path / "shelf")
    shelf.put("a", b"one")
    (tmp_path / "shelf" / "a").unlink()
    (tmp_path / "shelf" / ".keeper").unlink()
    (tmp_path / "shelf").rmdir()
    assert (shelf.sizes(), shelf.get("a")) == ({}, None)
    shelf.drop("a")
    with pytest.raises(OSError, match="No such file"):
        shelf.put("a", b"two")
    shelf.close()
