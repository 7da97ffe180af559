"""Noticing that a file has changed: however it was changed, once it is whole, and only then."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from propylon.process.watch import fingerprint, follow
from tests.upstream.peer import run, until

EVERY = 0.005  # seconds between two looks
LOOKS = 12  # as many as it takes to say that nothing was told
LONG_AGO = 1_000_000_000_000_000_000  # nanoseconds since 1970


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is watched, long since written."""
    found = tmp_path / "propylon.yaml"
    found.write_text("one\n")
    os.utime(found, ns=(LONG_AGO, LONG_AGO))
    return found


class Seen:
    """How often a change was told, and what the file held then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: list[str] = []

    def __call__(self) -> None:
        """Note it."""
        self.texts.append(self.path.read_text())

    async def becomes(self, *texts: str) -> None:
        """Wait until it has seen these, and then for a while whether it sees more."""
        await until(lambda: len(self.texts) >= len(texts))
        await asyncio.sleep(LOOKS * EVERY)
        assert self.texts == list(texts)


@asynccontextmanager
async def following(path: Path, *patterns: str) -> AsyncIterator[Seen]:
    """Follow a file, and what it includes, for as long as the block lasts."""
    seen, look = Seen(path), partial(fingerprint, path, patterns)
    task = asyncio.create_task(follow(look, seen, look(), every=EVERY))
    await asyncio.sleep(0)  # it has looked once
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# Every way to change a file


def in_place(file: Path) -> None:
    """As `cat >` does: the same file, another content."""
    file.write_text("other\n")


def same_size(file: Path) -> None:
    """A letter is another letter."""
    file.write_text("eno\n")


def renamed_over(file: Path) -> None:
    """As editors do: a new file takes the name."""
    other = file.with_name("propylon.yaml~")
    other.write_text("other\n")
    other.replace(file)


def renamed_with_its_time(file: Path) -> None:
    """As `cp -p`, `rsync` and packages do: a new file with an old time, of the same size."""
    other = file.with_name("propylon.yaml.new")
    other.write_text("eno\n")
    os.utime(other, ns=(LONG_AGO, LONG_AGO))
    other.replace(file)


def longer_with_its_time(file: Path) -> None:
    """In place, and the time put back."""
    file.write_text("one and more\n")
    os.utime(file, ns=(LONG_AGO, LONG_AGO))


def older(file: Path) -> None:
    """A restored copy: its time is before that of what it replaces."""
    file.write_text("eno\n")
    os.utime(file, ns=(LONG_AGO - 10**9, LONG_AGO - 10**9))


def became_a_link(file: Path) -> None:
    """A link takes the name."""
    target = file.with_name("elsewhere.yaml")
    target.write_text("other\n")
    link = file.with_name("link")
    link.symlink_to(target)
    link.replace(file)


CHANGES = [
    in_place,
    same_size,
    renamed_over,
    renamed_with_its_time,
    longer_with_its_time,
    older,
    became_a_link,
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_told_once(file: Path, change: Callable[[Path], None]) -> None:
    """And the next one again."""

    async def main() -> None:
        async with following(file) as seen:
            change(file)
            now = file.read_text()
            await seen.becomes(now)
            file.write_text("the next\n")
            await seen.becomes(now, "the next\n")

    run(main())


def test_what_does_not_change_is_not_told(file: Path) -> None:
    """Neither at the start, nor when it is read, nor when its neighbours change."""

    async def main() -> None:
        async with following(file) as seen:
            file.read_text()
            file.with_name("other.yaml").write_text("other\n")
            file.chmod(0o600)
            await seen.becomes()

    run(main())


def test_a_swapped_directory_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes swaps a ConfigMap: the file is a link through `..data`, which is another one now."""
    for version in ("1", "2"):
        folder = tmp_path / f"..version{version}"
        folder.mkdir()
        (folder / "propylon.yaml").write_text(version)
        os.utime(folder / "propylon.yaml", ns=(LONG_AGO, LONG_AGO))
    (tmp_path / "..data").symlink_to("..version1")
    file = tmp_path / "propylon.yaml"
    file.symlink_to(Path("..data", "propylon.yaml"))

    async def main() -> None:
        async with following(file) as seen:
            (tmp_path / "..data_tmp").symlink_to("..version2")
            (tmp_path / "..data_tmp").replace(tmp_path / "..data")
            await seen.becomes("2")

    run(main())


def test_a_file_that_goes_is_no_change(file: Path) -> None:
    """While it is away nothing is told; back as another one, it is."""

    async def main() -> None:
        async with following(file) as seen:
            aside = file.with_name("aside")
            file.rename(aside)
            await seen.becomes()
            aside.rename(file)
            await seen.becomes()  # the very same
            file.unlink()
            await seen.becomes()
            file.write_text("back\n")
            await seen.becomes("back\n")

    run(main())


def test_a_folder_that_goes_is_no_change(tmp_path: Path) -> None:
    """A volume that is mounted anew: the path leads nowhere for a moment."""
    folder = tmp_path / "volume"
    folder.mkdir()
    file = folder / "propylon.yaml"
    file.write_text("one\n")

    async def main() -> None:
        async with following(file) as seen:
            folder.rename(tmp_path / "away")
            await seen.becomes()
            folder.mkdir()
            await seen.becomes()
            file.write_text("back\n")
            await seen.becomes("back\n")

    run(main())


def test_a_file_that_comes_late_is_told(tmp_path: Path) -> None:
    """It was not there at the start."""
    file = tmp_path / "propylon.yaml"

    async def main() -> None:
        async with following(file) as seen:
            await seen.becomes()
            file.write_text("new\n")
            await seen.becomes("new\n")

    run(main())


# What is still being written


def told(script: list[object]) -> int:
    """How often something is told in these looks, and in some more that see the same as the last one."""
    count, left = 0, list(script)

    def changed() -> None:
        nonlocal count
        count += 1

    def look() -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    async def main() -> None:
        task = asyncio.create_task(follow(look, changed, look(), every=0))
        await until(lambda: len(left) == 1)
        for _ in range(LOOKS):
            await asyncio.sleep(0)
        task.cancel()

    run(main())
    return count


A, B, C = (1, 100, 10), (1, 200, 10), (1, 200, 20)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([A, A, A, A], 0),
        ([A, B, B, B], 1),
        ([A, A, B, C, C, C], 1),  # written in two steps: the first is nobody's business
        ([A, B, C, B, C, B, A], 0),  # back to what it was
        ([A, None, None, None, A, A], 0),
        ([A, B, None, B, None, B, B], 1),
        ([A, None, B, B], 1),
        ([None, None, A, A], 1),
        ([A, B, B, A, A, B, B], 3),
        ([A, B, B, None, None, B, B], 1),
    ],
)
def test_only_what_has_come_to_rest_is_told(script: list[object], expected: int) -> None:
    """Whatever was the same at two looks is whole; what was told already is no news."""
    assert told(script) == expected


def test_a_file_that_never_rests_is_not_told() -> None:
    """It is another one at every look."""
    assert told([*((1, number, number) for number in range(100)), None]) == 0


def test_a_change_before_it_begins_is_a_change(tmp_path: Path) -> None:
    """The file was read a moment ago, and has been written since."""
    path = tmp_path / "file"
    path.write_text("old")
    known = fingerprint(path)
    path.write_text("newer")
    seen: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(
            follow(partial(fingerprint, path), lambda: seen.append(1), known, every=0.001)
        )
        await until(lambda: seen)
        task.cancel()

    run(main())
    assert seen == [1]


# What a file includes


def test_every_change_of_what_is_included_is_told(file: Path) -> None:
    """A file that is new, one that is written, and one that is gone; what no pattern matches is nobody's business."""
    folder = file.with_name("conf.d")
    folder.mkdir()
    one = folder / "one.yaml"

    async def main() -> None:
        async with following(file, "conf.d/*.yaml") as seen:
            (folder / ".one.yaml.swp").write_text("an editor's\n")
            (folder / "one.yaml~").write_text("another's\n")
            await seen.becomes()
            one.write_text("new\n")
            await seen.becomes("one\n")
            one.write_text("longer\n")
            await seen.becomes(*["one\n"] * 2)
            one.unlink()
            await seen.becomes(*["one\n"] * 3)

    run(main())
