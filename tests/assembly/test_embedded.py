"""A gateway in an application of somebody else's leaves its host's process as it found it."""

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from propylon import Gateway, public
from tests.support.tokens import SECRET, mint
from tests.support.zygote import ZYGOTE, environment

CONFIG = """
log: {level: info}
services: {orders: {}}
routes: [{path: /orders, service: orders, auth: none}]
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A gateway that answers /livez, and 503 for a service without an instance."""
    file = tmp_path / "propylon.yaml"
    file.write_text(CONFIG)
    return Gateway.from_file(file, {})


@pytest.fixture
def unconfigured() -> Iterator[logging.Logger]:
    """The root logger as it is before anything configures it: pytest's own handlers are put aside."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    yield root
    root.handlers = handlers


def state() -> tuple[object, ...]:
    """What belongs to the host."""
    logger = logging.getLogger("propylon")
    return (logger.propagate, logger.level, tuple(logger.handlers))


def settings() -> tuple[object, ...]:
    """What a host may have set, and what would change what it sees."""
    return (gc.get_threshold(), gc.isenabled(), sys.getswitchinterval())


def served(gateway: Gateway) -> None:
    """Mount it in an application, ask it, stop it."""
    app = FastAPI(lifespan=gateway.lifespan)
    app.mount("/", gateway.asgi)

    async def run() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client,
        ):
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/orders/7")).status_code == 503

    asyncio.run(run())


@pytest.mark.usefixtures("unconfigured")
def test_the_host_s_process_is_as_before(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs nothing is frozen; after its stop logger, level and handlers are as they were."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    before, frozen = (
        state(),
        gc.get_freeze_count(),
    )  # what tests/conftest.py has frozen; it may be freed

    async def run() -> None:
        async with gateway.lifespan():
            assert gc.get_freeze_count() <= frozen
            assert logging.getLogger("propylon").propagate

    asyncio.run(run())
    assert state() == before
    assert gc.get_freeze_count() <= frozen


@pytest.mark.usefixtures("unconfigured")
def test_its_log_goes_where_the_host_s_output_goes(
    gateway: Gateway, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The access log is written to `sys.stdout`, whatever that is, and never past it to descriptor 1."""
    capture = io.StringIO()
    monkeypatch.setattr(sys, "stdout", capture)
    served(gateway)
    assert '"path":"/orders/7"' in capture.getvalue()
    assert capfd.readouterr().out == ""


def test_a_host_that_configured_logging_is_obeyed(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handlers get the gateway's lines, at its own level, and the gateway adds none."""
    capture = io.StringIO()
    monkeypatch.setattr(sys, "stdout", capture)
    logger = logging.getLogger("propylon")

    async def run() -> None:
        async with gateway.lifespan():
            assert logger.handlers == []
            assert logger.level == logging.NOTSET
            logging.getLogger("propylon.assembly").warning("heard by the host")

    asyncio.run(run())
    assert "heard by the host" in caplog.text
    assert "heard by the host" not in capture.getvalue()


def test_a_closed_output_is_no_error(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may close its output, or have none."""
    for output in (io.StringIO(), None):
        if output is not None:
            output.close()
        monkeypatch.setattr(sys, "stdout", output)
        served(gateway)


@pytest.mark.parametrize("beside", [True, False])
def test_a_reload_of_many_routes_freezes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, beside: bool
) -> None:
    """The host's objects stay the collector's, and its settings hold, while thousands of routes are reloaded."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    file = tmp_path / "propylon.yaml"
    file.write_text(CONFIG)
    gateway = Gateway.from_file(file, {})
    frozen, before = gc.get_freeze_count(), settings()
    seen: list[bool] = []

    def unchanged() -> bool:
        # The count falls when one of the frozen is freed. The routes alone would add thousands.
        return gc.get_freeze_count() <= frozen and settings() == before

    gateway.on_reload = lambda _: seen.append(unchanged())

    async def run() -> None:
        async with gateway.lifespan():
            for version in range(3):
                routes = (
                    f"  - {{path: /{version}/{number}, service: orders}}\n"
                    for number in range(2000)
                )
                file.write_text("services: {orders: {}}\nroutes:\n" + "".join(routes))
                done = asyncio.Event()
                if beside:
                    gateway.reload_soon(done.set)
                    await done.wait()
                else:
                    gateway.reload()
                assert len(gateway.config.routes) == 2000
                assert unchanged()

    asyncio.run(run())
    assert seen == [True] * 3
    assert unchanged()


LIFESPAN = """
import asyncio, gc
from propylon.main import app

class Server:
    def __init__(self):
        self.asked, self.said = asyncio.Queue(), asyncio.Queue()

    async def runs(self):
        self.asked.put_nowait({"type": "lifespan.startup"})
        task = asyncio.create_task(app({"type": "lifespan", "state": {}}, self.asked.get, self.said.put))
        assert (await self.said.get())["type"] == "lifespan.startup.complete"
        counted = gc.get_freeze_count()
        self.asked.put_nowait({"type": "lifespan.shutdown"})
        await task
        return counted

MANY = 20_000
print("frozen:", gc.get_freeze_count(), asyncio.run(Server().runs()) > MANY, gc.get_freeze_count())
gc.freeze()
before = gc.get_freeze_count()  # it falls when one of them is freed
print("by the host:", before > MANY, before >= asyncio.run(Server().runs()) > MANY, gc.get_freeze_count() > MANY)
"""


def test_a_server_that_runs_nothing_else_is_frozen(tmp_path: Path) -> None:
    """From the start of `propylon.main:app` to its stop; not if the host has frozen something itself."""
    (tmp_path / "propylon.yaml").write_text(CONFIG)
    code = f"import gc; gc.unfreeze()\n{LIFESPAN}"  # what is frozen in the tests' zygote
    done = ZYGOTE.run([sys.executable, "-c", code], cwd=tmp_path, env=environment())
    assert done.stderr == ""
    said = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    assert said == ["frozen: 0 True 0", "by the host: True True True"]


def test_a_process_of_its_own_is_frozen() -> None:
    """Only the server of `propylon run` freezes what exists; importing it does not."""
    code = "import gc, propylon.process.server, propylon.assembly.gateway; print(gc.get_freeze_count())"
    root = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "0"


def test_the_first_request_waits_where_no_lifespan_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that mounts the gateway and runs no lifespan gets no answer either before the list of revocations is read."""
    auth = {"jwt": {"secret": SECRET}, "tokens": {"database": f"sqlite:///{tmp_path}/none.db"}}
    file = tmp_path / "propylon.yaml"
    file.write_text(CONFIG.replace("auth: none", "auth: required") + f"auth: {json.dumps(auth)}")
    gateway = Gateway.from_file(file, {})
    services = gateway._token_services
    assert services is not None
    read = services._journal.catch_up
    order: list[object] = []

    async def slowly() -> None:
        await asyncio.sleep(0.05)
        await read()
        order.append("read")

    monkeypatch.setattr(services._journal, "catch_up", slowly)

    async def main() -> None:
        headers = {"Authorization": f"Bearer {mint()}"}
        transport = httpx.ASGITransport(app=gateway.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://gw.test") as client:
            answer = await client.get("/orders", headers=headers)
            order.append(answer.json()["error"]["details"]["service"])  # past authentication
        await gateway._stop()
        await services.close()

    asyncio.run(main())
    assert order[:2] == ["read", "orders"]


@pytest.mark.parametrize("root", ["/gateway", "/a/b"])
def test_mounted_below_a_prefix_its_pages_load_their_own_documents(
    gateway: Gateway, root: str
) -> None:
    """The outer application has documents of its own, at the paths that the pages would load otherwise."""

    @gateway.api.get("/api/v1/where", dependencies=[public])
    async def where(request: Request) -> list[str]:
        return [request.url.path, request.scope["root_path"]]

    app = FastAPI(lifespan=gateway.lifespan, title="Outer")
    app.mount(root, gateway.asgi)

    async def run() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client,
        ):
            for page in ("/docs", "/redoc"):
                answer = await client.get(root + page)
                assert answer.status_code == 200
                assert f"{root}/openapi.json" in answer.text
            document = (await client.get(f"{root}/openapi.json")).json()
            assert document["info"]["title"] == "Propylon"
            assert document["servers"] == [{"url": root}]
            outer = await client.get("/openapi.json")
            assert outer.json()["info"]["title"] == "Outer"
            assert (await client.get(f"{root}/api/v1/where")).json() == [
                f"{root}/api/v1/where",
                root,
            ]
            assert (await client.head(f"{root}/docs")).status_code == 200
            assert (await client.get(f"{root}/livez")).status_code == 200
            assert (await client.get(f"{root}/orders/7")).status_code == 503

    asyncio.run(run())


@pytest.mark.parametrize("server", ["uvicorn", "python"])
def test_a_wrong_file_under_another_server_is_the_same_few_lines(
    tmp_path: Path, server: str
) -> None:
    """No traceback, and a status by which gunicorn starts no further worker."""
    (tmp_path / "propylon.yaml").write_text("routes: [{path: /a, service: oders}]\n")
    run = {
        "uvicorn": ["-m", "uvicorn", "propylon.main:app", "--port", "0"],
        "python": ["-c", "from propylon.main import app"],
    }[server]
    done = ZYGOTE.run([sys.executable, *run], cwd=tmp_path, env=environment())
    said = 'propylon.yaml:1 routes[0].service: no service "oders"\n'
    assert (done.returncode, done.stderr) == (3, said)
