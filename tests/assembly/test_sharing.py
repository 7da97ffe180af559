"""What a gateway shares that another server runs: where its workers meet, and when they are told that they cannot."""

import asyncio
import sys
from pathlib import Path

import pytest

from propylon.assembly import running
from propylon.assembly.gateway import Gateway
from propylon.assembly.sharing import has_siblings, shared_of
from propylon.config.reading.load import Loaded, load
from propylon.config.reading.problems import ConfigError
from propylon.services.registration import Registration
from propylon.stores.shared import Shared
from tests.stores.test_shared import opened
from tests.upstream.peer import run, until


def loaded(folder: Path, name: str = "propylon.yaml", **environ: str) -> Loaded:
    """A configuration of that name."""
    file = folder / name
    file.write_text(
        'registry: {allow: ["127.0.0.1"]}\nservices: {orders: {}}\nroutes: [{path: /o, service: orders}]\n'
    )
    return load(file, environ)


def met(shared: Shared) -> str:
    """The name of the directory in which it meets others."""

    async def main() -> str:
        shared.start(asyncio.get_running_loop())
        place = shared.place
        await shared.stop()
        assert place is not None
        return place.name

    return run(main())


# Which gateways meet


def test_by_the_file_and_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of one file and port meet, wherever they start; others do not."""
    state = str(tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    first = met(shared_of(loaded(tmp_path, PROPYLON_STATE_DIR=state)))
    assert first.startswith("propylon-8000-")
    same = load(Path("propylon.yaml"), {"PROPYLON_STATE_DIR": state})
    assert met(shared_of(same)) == first
    others = [
        loaded(tmp_path, PROPYLON_STATE_DIR=state, PORT="9000"),
        loaded(tmp_path, "other.yaml", PROPYLON_STATE_DIR=state),
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    others += [
        load(None, {"PROPYLON_STATE_DIR": state, "A_SERVICE_URL": "http://127.0.0.1:1"}),
    ]
    assert len({first, *(met(shared_of(one)) for one in others)}) == 4


def test_a_file_that_a_platform_swaps_is_the_same_file(tmp_path: Path) -> None:
    """A ConfigMap is a link, which leads elsewhere after each change: old workers and new ones meet."""
    state = str(tmp_path / "state")
    link = tmp_path / "propylon.yaml"
    names = set()
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        loaded(tmp_path / version)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / version / "propylon.yaml")
        names.add(met(shared_of(load(link, {"PROPYLON_STATE_DIR": state}))))
    assert len(names) == 1


def test_a_directory_that_others_may_write_to(tmp_path: Path) -> None:
    """The gateway is not made: it says where that was written, and what to write instead."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(ConfigError) as refused:
        Gateway(loaded(tmp_path, PROPYLON_STATE_DIR=str(state)))
    assert str(refused.value) == (
        f'PROPYLON_STATE_DIR server.state_dir: others may write into "{state}" (mode 0777);'
        f' chmod go-w it, or write "{state}/propylon", which the gateway makes for itself'
    )


# Who is told that there is nowhere to meet


@pytest.mark.parametrize(
    ("environ", "arguments", "known"),
    [
        ({}, [], False),
        ({}, ["pytest", "-n", "4", "-w4"], False),
        ({}, ["/usr/bin/uvicorn", "propylon.main:app"], False),
        ({}, ["/usr/bin/uvicorn", "propylon.main:app", "--workers", "1"], False),
        ({}, ["/usr/bin/uvicorn", "propylon.main:app", "--workers", "4"], True),
        ({}, ["/site-packages/uvicorn/__main__.py", "--workers=2", "propylon.main:app"], True),
        ({}, ["granian", "--interface", "asgi", "--workers", "2", "propylon.main:app"], True),
        ({}, ["hypercorn", "-w", "2", "propylon.main:app"], True),
        ({}, ["uvicorn", "--workers"], False),
        ({}, ["uvicorn", "--workers", "many"], False),
        ({"WEB_CONCURRENCY": "4"}, ["server.py"], True),
        ({"WEB_CONCURRENCY": "1"}, ["server.py"], False),
        ({"WEB_CONCURRENCY": "²"}, ["server.py"], False),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, ["gunicorn", "propylon.main:app"], True),
    ],
)
def test_who_has_siblings(environ: dict[str, str], arguments: list[str], known: bool) -> None:
    """A server that was told to start several workers; a test, or a single worker, is not to be warned."""
    assert has_siblings(environ, arguments) is known


@pytest.mark.parametrize("told", [True, False])
def test_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, told: bool
) -> None:
    """With what it means; and not where there is nobody to share with."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(sys, "argv", ["uvicorn", "--workers", "4" if told else "1"])
    gateway = Gateway(loaded(tmp_path))

    async def main() -> None:
        for _ in range(2):
            async with gateway.lifespan():
                pass

    run(main())
    said = [line for line in caplog.text.splitlines() if "state_dir" in line]
    assert len(said) == told
    assert all("set PROPYLON_STATE_DIR" in one for one in said)


# Several gateways in one process


def test_gateways_in_one_process_meet(tmp_path: Path) -> None:
    """What registers with one of them is known to the other; the stop leaves no task, no socket, no directory."""
    state = tmp_path / "state"
    made = loaded(tmp_path, PROPYLON_STATE_DIR=str(state))
    before = opened()

    async def main() -> None:
        here, there = Gateway(made), Gateway(made)
        async with here.lifespan(), there.lifespan():
            registry = here.start().membership.registry
            other = there.start().membership.registry
            await registry.register(Registration(service="orders", host="127.0.0.1", port=9))
            await until(lambda: len(other.registrations()) == 1)
            late = Gateway(made)
            async with late.lifespan():
                known = late.start().membership.registry
                await until(lambda: len(known.registrations()) == 1)
        # A probe that is under way ends in the next turns of the loop.
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    run(main())
    assert list(state.iterdir()) == []
    assert opened() <= before


class Stuck(Shared):
    """What never lets go: a store whose server does not answer, say."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    async def stop(self) -> None:
        """Wait for ever."""
        self.asked = True
        await asyncio.sleep(3600)


def test_a_stop_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and everything else is let go of all the same."""
    monkeypatch.setattr(running, "_LET_GO", 0.01)
    shared = Stuck()
    gateway = Gateway(loaded(tmp_path), shared=shared)
    before = opened()

    async def main() -> None:
        async with gateway.lifespan():
            assert not shared.asked
        assert asyncio.all_tasks() - {asyncio.current_task()} == set()

    run(main())
    assert shared.asked
    assert opened() <= before
    assert "stopping: what the workers share was not let go of in time" in caplog.text
