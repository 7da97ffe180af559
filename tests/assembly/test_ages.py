"""What a running gateway tells of its database, its list of revoked tokens, and the tokens that it has verified."""

from pathlib import Path

import httpx
import pytest
from prometheus_client import parser

from propylon import Gateway
from tests.support.tokens import SECRET, authorized
from tests.upstream.peer import until


@pytest.mark.anyio
async def test_what_is_behind_tokens_is_measured(tmp_path: Path) -> None:
    """The database is read, the list is seconds old at most, and each verification counts by its outcome."""
    file = tmp_path / "propylon.yaml"
    file.write_text(
        f"auth: {{jwt: {{secret: {SECRET}}}, tokens: {{database: 'sqlite:///{tmp_path}/t.db'}}}}\n"
    )
    gateway = Gateway.from_file(file, {})

    def read(name: str, **labels: str) -> float | None:
        text = gateway._components.metrics.render()[0].decode()
        found = [
            sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async with gateway.lifespan():
        await until(lambda: read("propylon_revocation_lag_seconds") is not None)
        assert (read("propylon_revocation_lag_seconds") or 0.0) < 60
        assert (read("propylon_database_seconds_count", operation="read") or 0) >= 1
        transport = httpx.ASGITransport(gateway.asgi)  # type: ignore[arg-type]
        good, late, bad = (
            authorized("ann", scope="read", edge="ages"),
            authorized("ann", lasts=-3600),
            [("Authorization", "Bearer a.b.c")],
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://gw") as client:
            for headers in (good, good, late, bad):
                await client.get("/api/v1/services", headers=headers)
        counts = {
            outcome: read("propylon_token_verifications_total", outcome=outcome)
            for outcome in ("verified", "expired", "invalid", "revoked", "unavailable")
        }
    assert counts == {"verified": 1, "expired": 1, "invalid": 1, "revoked": 0, "unavailable": 0}
