"""Compile `websocket` and `upgrade` of a route into the rules of its sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from propylon.compile.basic_auth import Users, of_users
from propylon.compile.carriers import about_caller
from propylon.compile.cors import allows_origins
from propylon.config.models.cors import CorsConfig
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.loop.ticker import NEVER
from propylon.proxy.authenticate.sockets import SOCKET
from propylon.proxy.route import Authenticate, SocketRules
from propylon.stores.seats import Seats

__all__ = ["Sockets"]


class Sockets:
    """Compiles the rules of sockets. Routes that say the same share one object."""

    def __init__(
        self,
        config: GatewayConfig,
        stages: Mapping[str, Authenticate],
        seats: Seats,
        basic: Users | None = None,
    ) -> None:
        """`stages` are the authenticate stages; `seats` counts the open sockets of callers."""
        self._config = config
        self._basic = basic
        self._stages = stages
        self._seats = seats
        self._listed = allows_origins(config.cors)
        self._known: dict[tuple[object, ...], SocketRules] = {}

    def rules(self, written: RouteConfig) -> SocketRules:
        """Return the rules of a route."""
        usual = self._stages.get(SOCKET + written.auth, self._stages[written.auth])
        stage = of_users(about_caller(usual, written, self._config), written, self._basic)
        key = (stage, written.websocket, written.upgrade, written.cors)
        if (known := self._known.get(key)) is None:
            known = self._known[key] = self._compile(written, stage)
        return known

    def _compile(self, written: RouteConfig, stage: Authenticate) -> SocketRules:
        said = written.websocket
        rate = said.max_rate
        return SocketRules(
            authenticate=stage,
            trusts=self._trusts(said.origins, written.cors),
            upgrades=frozenset(name.encode("ascii") for name in written.upgrade),
            close_on_expiry=said.close_on_expiry,
            idle=said.idle,
            max_lifetime=NEVER if said.max_lifetime is None else said.max_lifetime,
            max_message=said.max_message,
            max_rate=None if rate is None else (rate.amount, rate.seconds),
            ping=NEVER if said.ping is None else said.ping,
            max_open=said.max_open,
            seats=self._seats,
        )

    def _trusts(self, origins: tuple[str, ...], own: CorsConfig | None) -> Callable[[bytes], bool]:
        if not origins:
            return self._listed if own is None else allows_origins(own)
        if "*" in origins:
            return lambda _origin: True
        return allows_origins(CorsConfig(origins=origins))
