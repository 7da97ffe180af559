"""What a reload changed, in lines that hold no secret."""

from typing import Any

from propylon.assembly.watch.changes import ReloadHistory, differences
from propylon.config.models.schema import GatewayConfig

SECRET = "sesame-sesame"


def config(**more: Any) -> GatewayConfig:
    """A configuration of two services."""
    services = {"orders": {"url": "http://a:1"}, "users": {"url": "http://b:1"}}
    routes = [{"name": "orders", "path": "/orders", "service": "orders"}]
    return GatewayConfig.model_validate({"services": services, "routes": routes, **more})


def test_each_change_has_a_line() -> None:
    """What is new, gone and changed; numbers and switches with their values."""
    after = config(
        services={"orders": {"url": "http://a:1", "timeouts": {"total": 9}}, "new": {}},
        routes=[{"name": "shop", "path": "/shop", "service": "orders"}],
        registry={"enabled": False},
    )
    assert [*differences(config(), after)] == [
        "+ service new",
        "- service users",
        "~ service orders.timeouts.total: 60 → 9",
        "+ route shop",
        "- route orders",
        "~ registry.enabled: True → False",
    ]


def test_no_text_is_told() -> None:
    """A text of a configuration may be a secret: keys are named, and values are not."""
    headers = {"request": {"set": {"X-Key": SECRET}}}
    after = config(
        routes=[{"name": "orders", "path": "/orders", "service": "orders", "headers": headers}],
        redis=f"redis://:{SECRET}@r:6379",
        services={"orders": {"url": "http://a:2"}, "users": {"url": "http://b:1"}},
    )
    lines = [*differences(config(), after)]
    assert lines
    assert not any(SECRET in line or "a:2" in line for line in lines)


def test_the_history_is_bounded() -> None:
    """The last fifty; of a large change the first lines and how many more there are; a failure with its problems."""
    before = config()
    routes = [{"name": f"r{n}", "path": f"/r{n}", "service": "orders"} for n in range(200)]
    history = ReloadHistory(lambda: 7.0)
    for _ in range(60):
        history.succeeded(before, before)
    history.succeeded(before, config(routes=routes))
    history.failed(["propylon.yaml:1 routes: wrong"])
    known = history.dump()
    assert len(known) == 50
    assert known[0]["lines"] == ["nothing has changed"]
    assert known[-2]["lines"][-1] == "… and 151 more"
    assert known[-1] == {
        "time": 7.0, "result": "failure", "size": None, "lines": ["propylon.yaml:1 routes: wrong"],
    }  # fmt: skip
