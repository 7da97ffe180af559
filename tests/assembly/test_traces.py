"""Traces of a gateway that is started, reloaded and stopped: where its spans go, and that its last ones do."""

import asyncio
from pathlib import Path

import httpx

from propylon import Gateway
from tests.support.collector import Collector, facts

CONFIG = """
services: {{a: {{url: "http://127.0.0.1:9"}}}}
routes: [{{path: /a, service: a, auth: none}}]
traces: {{interval: 1h, compression: gzip, {traces}}}
"""


def write(file: Path, traces: str) -> None:
    """A configuration in which no span goes out by itself."""
    file.write_text(CONFIG.format(traces=traces))


async def ask(gateway: Gateway) -> httpx.Response:
    """A request that no route matches."""
    transport = httpx.ASGITransport(gateway.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw.test") as client:
        return await client.get("/nothing")


def test_a_reload_changes_where_spans_go(tmp_path: Path) -> None:
    """Off at first; then to one collector, then to another, each gets its own; a stop sends what is left."""
    file = tmp_path / "propylon.yaml"
    first, second = Collector(), Collector()

    async def live() -> None:
        write(file, "traceresponse: true")
        gateway = Gateway.from_file(file, {})
        async with gateway.lifespan():
            assert "traceresponse" in (await ask(gateway)).headers
            for collector in (first, second):
                write(file, f'endpoint: "{collector.url}"')
                gateway.reload()
                assert "traceresponse" not in (await ask(gateway)).headers
            await asyncio.to_thread(first.wait_for, 1)
            write(file, f'endpoint: "{second.url}", sampling: {{ratio: 0}}')
            gateway.reload()
            await asyncio.to_thread(second.wait_for, 1)
            await ask(gateway)
            write(file, f'endpoint: "{second.url}"')
            gateway.reload()
            await ask(gateway)

    asyncio.run(live())
    for collector, count in ((first, 1), (second, 2)):
        spans = collector.spans()
        assert [facts(span)["url.path"] for span in spans] == ["/nothing"] * count
        assert all(one.headers["content-encoding"] == "gzip" for one in collector.taken)
        collector.close()
