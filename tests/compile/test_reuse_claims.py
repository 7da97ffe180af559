"""Which routes a reload makes anew, where claims become headers or tokens are in other places."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from propylon.compile.carriers import stages_without_keys
from propylon.compile.routes import Parts
from propylon.compile.services import Dependencies, compile_service
from propylon.compile.table import Compiled, compile_slowly
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.loop.slices import at_once
from propylon.proxy.route import Route
from propylon.services.service import Service
from tests.proxy.doubles import STILL, Asked

Edit = Callable[[dict[str, Any]], object]
UP = Asked()
WRITTEN = {
    "auth": {"from": ["header", "cookie:session"]},
    "services": {
        "a": {"url": "http://a:80", "claims": {"X-Tenant": "tenant"}, "forward_token": False},
        "b": {"url": "http://b:80"},
    },
    "routes": [{"path": "/a", "service": "a"}, {"path": "/b", "service": "b"}],
}


class Reloads:
    """Compiles one configuration after the other; what is written alike stays the same object, as after a reload."""

    def __init__(self) -> None:
        self._config = GatewayConfig()
        self._services: dict[str, Service] = {}
        self._compiled: Compiled | None = None
        self._stages = stages_without_keys(("header",))

    def load(self, written: Mapping[str, Any]) -> dict[str, Route]:
        """The routes of the file, by their paths."""
        config = GatewayConfig.model_validate(written)
        before = list(self._config.routes)
        routes = tuple(next((old for old in before if old == new), new) for new in config.routes)
        config = config.model_copy(update={"routes": routes})
        services = {name: self._service(name, one) for name, one in config.services.items()}
        parts = Parts(UP, STILL, self._stages)
        self._compiled = at_once(compile_slowly(config, parts, services, self._compiled))
        self._config, self._services = config, services
        return {
            route.name: route for route in self._compiled.table.routes if not route.service.builtin
        }

    def _service(self, name: str, written: ServiceConfig) -> Service:
        if self._config.services.get(name) == written:
            return self._services[name]
        dependencies = Dependencies(lambda _address, _limit: UP, lambda: 0.0)
        return compile_service(name, written, dependencies).service


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (lambda file: None, {"/a", "/b"}),
        (lambda file: file["routes"].append({"path": "/c", "service": "a"}), {"/a", "/b"}),
        # The names that are taken from clients belong to every route.
        (lambda file: file["services"]["a"].pop("claims"), set()),
        (lambda file: file["services"]["b"].update(claims={"X-Plan": "plan"}), set()),
        (lambda file: file["routes"][1].update(claims={"X-Plan": "plan"}), set()),
        # The same names from another claim: only the service that gets them.
        (lambda file: file["services"]["a"].update(claims={"X-Tenant": "org"}), {"/b"}),
        (lambda file: file["routes"][1].update(claims={"X-Tenant": "org"}), {"/a"}),
        (lambda file: file["routes"][0].update(issuers=["https://a"]), {"/b"}),
        (lambda file: file["services"]["a"].update(forward_token=True), {"/b"}),
        (lambda file: file["auth"].update({"from": ["header", "cookie:other"]}), set()),
        (lambda file: file.pop("auth"), set()),
    ],
)
def test_what_a_reload_reuses(edit: Edit, kept: set[str]) -> None:
    """A route is reused only while the claims it passes, the names it guards and the tokens it hides are the same."""
    reloads = Reloads()
    file = json.loads(json.dumps(WRITTEN))
    file["auth"]["jwt"] = {"issuer": ["https://a"]}
    before = reloads.load(file)
    edit(file)
    after = reloads.load(file)
    assert {name for name in before if after[name] is before[name]} == kept


def test_names_are_taken_away_after_a_reload() -> None:
    """A reload that gives one service a claim takes that header from clients of every other service, too."""
    reloads = Reloads()
    file = json.loads(json.dumps(WRITTEN))
    assert reloads.load(file)["/b"].vouched == {b"xtenant"}
    file["services"]["a"]["claims"]["X-Plan"] = "plan"
    assert reloads.load(file)["/b"].vouched == {b"xtenant", b"xplan"}
