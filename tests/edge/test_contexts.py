"""Each exchange has a context of its own, whatever callback steps it; foreign code has a task."""

import asyncio
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from propylon.edge.asgi import serve
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import STATE_KEY
from propylon.loop.signal import Signal
from propylon.loop.tasks import in_task
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.message import Request
from tests.edge.test_asgi import App, scope
from tests.edge.test_regressions import Wire
from tests.proxy.doubles import route
from tests.support.virtual import run

TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


class Marking:
    """A stage that says which tenant it finds, then sets one."""

    def __init__(self) -> None:
        self.found: list[str] = []

    async def __call__(self, request: Request, client: str) -> Principal:
        """Look, wait for a moment in some cases, set."""
        self.found.append(TENANT.get())
        TENANT.set(request.path.decode())
        if request.path.endswith(b"slow"):
            await asyncio.sleep(1)
        self.found.append(TENANT.get())
        return ANONYMOUS


def test_pipelined_exchanges_do_not_see_each_other() -> None:
    """Two requests that come in one piece are stepped in one callback: the second finds nothing of the first."""
    stage = Marking()

    async def main() -> None:
        app = App(route("/a", authenticate=stage))
        loop = asyncio.get_running_loop()
        state = SimpleNamespace(connections=set(), tasks=set(), total_requests=0)
        protocol = GatewayProtocol(None, state, {STATE_KEY: app.edge}, loop)
        protocol.connection_made(Wire())
        protocol.data_received(
            b"GET /a/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /a/2 HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert TENANT.get() == "nobody"

    run(main())
    assert stage.found == ["nobody", "/a/1", "nobody", "/a/2"]


def test_a_context_survives_waiting() -> None:
    """What a stage set before it waited is there afterwards, whoever ran meanwhile."""
    stage = Marking()

    async def main() -> None:
        app = App(route("/a", authenticate=stage))
        await asyncio.gather(
            *(app_ask(app, path) for path in ("/a/slow", "/a/1")),
        )

    run(main())
    assert stage.found == ["nobody", "nobody", "/a/1", "/a/slow"]


async def app_ask(app: App, path: str) -> None:
    """One request on the portable edge."""
    app.silent = True
    await serve(app.edge, scope(path=path, raw_path=path.encode()), app.receive, app.send)


def test_the_server_s_variables_are_seen() -> None:
    """On the portable edge the exchange's context is a copy of the server's."""
    stage = Marking()

    async def main() -> None:
        TENANT.set("the server's")
        app = App(route("/a", authenticate=stage))
        await app_ask(app, "/a/1")
        assert TENANT.get() == "the server's"

    run(main())
    assert stage.found == ["the server's", "/a/1"]


def test_foreign_code_has_a_task_and_its_variables_stay() -> None:
    """`asyncio.timeout` works in it, and what it sets is set for its caller."""

    async def foreign() -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        assert asyncio.current_task() is not None
        TENANT.set("theirs")
        return "done"

    async def stage(request: Request, client: str) -> Principal:
        assert asyncio.current_task() is None
        assert await in_task(foreign()) == "done"
        assert TENANT.get() == "theirs"
        return ANONYMOUS

    async def main() -> None:
        await app_ask(App(route("/a", authenticate=stage)), "/a")

    run(main())


@pytest.mark.parametrize("ending", ["error", "gone"])
def test_foreign_code_ends_with_its_caller(ending: str) -> None:
    """Its error is the caller's; a caller that gives up cancels it."""
    ended: list[str] = []

    async def foreign() -> None:
        try:
            if ending == "error":
                raise ValueError(ending)
            await Signal[None]()
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    async def main() -> None:
        waiting: Any = asyncio.ensure_future(in_task(foreign()))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises((ValueError, asyncio.CancelledError)):
            await waiting
        await asyncio.sleep(1)

    run(main())
    assert ended == ["ValueError" if ending == "error" else "CancelledError"]
