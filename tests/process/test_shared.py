"""What is made before the workers are forked: where, what is refused, what is said."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propylon.config.reading.load import load
from propylon.config.reading.problems import ConfigError
from propylon.process import shared as module
from propylon.process.shared import share
from propylon.stores.shared import Shared

Mount = Callable[[str], Path]


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /dev/shm."""
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(module, "private_bases", lambda environ: iter([memory]))
    return memory


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a file system in memory with these options, where that is allowed."""
    mounted: list[Path] = []

    def run(options: str) -> Path:
        folder = tmp_path / f"mounted-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "none", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=20)
        except FileNotFoundError:
            pytest.skip("there is no mount")
        if done.returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(folder)
        return folder

    yield run
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True, timeout=20)


def shared(tmp_path: Path, *, workers: int = 2, state_dir: Path | None = None) -> Shared:
    """What the workers of such a gateway share."""
    file = tmp_path / "propylon.yaml"
    named = "" if state_dir is None else f"  state_dir: {state_dir}\n"
    file.write_text(f"server:\n  workers: {workers}\n{named}")
    return share(load(file, {}))


def names(folder: Path) -> list[str]:
    """What is in it."""
    return [found.name for found in folder.iterdir()]


def test_a_directory_of_its_own(
    tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In memory, with the number of the process; at the end it is gone."""
    with shared(tmp_path) as made:
        assert made.place is not None
        assert made.place.parent == memory
        assert made.place.name.startswith(f"propylon-{os.getpid()}-")
        assert made.last_good is not None
    assert names(memory) == []
    assert capsys.readouterr().err == ""


def test_a_named_directory(tmp_path: Path, memory: Path) -> None:
    """It is made, used instead, and stays; what else is in it stays, too."""
    named = tmp_path / "run" / "propylon"
    with shared(tmp_path, state_dir=named) as made:
        assert made.place is not None
        assert made.place.parent == named
        (named / "notes").write_text("x")
    assert (names(named), names(memory)) == (["notes"], [])


def test_one_worker_shares_nothing(tmp_path: Path, memory: Path) -> None:
    """No directory, no memory; a directory that the operator named is made all the same."""
    with shared(tmp_path, workers=1) as made:
        assert (made.place, made.last_good, names(memory)) == (None, None, [])
    named = tmp_path / "named"
    with shared(tmp_path, workers=1, state_dir=named) as made:
        assert made.place is not None
        assert made.place.parent == named
    assert names(named) == []


def test_what_a_killed_gateway_left(tmp_path: Path, memory: Path) -> None:
    """The next one removes it; those of gateways that run stay."""
    if (pid := os.fork()) == 0:
        shared(tmp_path)
        os._exit(0)
    os.waitpid(pid, 0)
    [left] = names(memory)
    with shared(tmp_path) as one, shared(tmp_path) as other:
        assert one.place is not None
        assert other.place is not None
        assert sorted(names(memory)) == sorted([one.place.name, other.place.name])
        assert left not in names(memory)


def test_a_directory_that_others_may_write_to(tmp_path: Path) -> None:
    """It is refused, with its line."""
    named = tmp_path / "named"
    named.mkdir()
    named.chmod(0o777)
    with pytest.raises(ConfigError) as refused:
        shared(tmp_path, state_dir=named)
    assert str(refused.value) == (
        f'{tmp_path}/propylon.yaml:3 server.state_dir: others may write into "{named}" (mode 0777);'
        f' chmod go-w it, or write "{named}/propylon", which the gateway makes for itself'
    )
    assert names(named) == []


def test_a_named_directory_that_cannot_be_written(
    tmp_path: Path, memory: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read-only file system: it is said, and the workers share elsewhere."""
    named = mount("ro")
    with shared(tmp_path, state_dir=named) as made:
        assert made.place is not None
        assert made.place.parent == memory
    said = capsys.readouterr().err
    assert said == (
        f"propylon: warning: server.state_dir: {named} cannot be used: Read-only file system\n"
    )


def test_no_directory_can_be_written(
    tmp_path: Path,
    mount: Mount,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said once, what it means and what to do; messages and the configuration are shared all the same."""
    bases = [mount("ro"), tmp_path / "propylon.yaml"]
    monkeypatch.setattr(module, "private_bases", lambda environ: iter(bases))
    with shared(tmp_path) as made:
        assert made.place is None
        assert made.last_good is not None
    assert capsys.readouterr().err == (
        "propylon: warning: no directory can be written for what the workers share, so each counts for itself;"
        " set server.state_dir to one that can\n"
    )


def test_a_full_directory(tmp_path: Path, mount: Mount, capsys: pytest.CaptureFixture[str]) -> None:
    """As /dev/shm of a container that something else fills: what it means is said at the start."""
    named = mount("size=17m")
    (named / "ballast").write_bytes(bytes(4 * 2**20))
    with shared(tmp_path, state_dir=named) as made:
        assert made.place is not None
    assert capsys.readouterr().err == (
        f"propylon: warning: {named} has 13 MB free: what the workers share may not fit into it, and then each counts"
        " for itself; give it more room (docker run --shm-size), or name another directory in server.state_dir\n"
    )
    (named / "more").write_bytes(bytes(13 * 2**20))
    with shared(tmp_path, state_dir=named) as made:
        assert made.place is not None
    assert "has 0 MB free" in capsys.readouterr().err
