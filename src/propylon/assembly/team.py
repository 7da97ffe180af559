"""Take what a team says in Python: policies, what requests and answers cost, and stand-ins in tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from propylon.assembly.components import Components
from propylon.assembly.override import Override
from propylon.compile.limits import TeamCosts, names_of_limits
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.spelling import did_you_mean
from propylon.control.costs import Cost, compose_charge, compose_price
from propylon.control.policies import Policy, check_policy
from propylon.proxy.principal import Principal, identify
from propylon.upstream.inprocess import ASGIApp

__all__ = ["TeamApi"]


class TeamApi:
    """The part of the façade that a team's own module calls."""

    _components: Components

    @property
    def config(self) -> GatewayConfig:
        """The configuration that policies and endpoints are checked against."""
        raise NotImplementedError

    def _compile_again(self) -> None:
        raise NotImplementedError

    def before(self, route: str) -> Callable[[Policy], Policy]:
        """Put a policy before a route, after authorization and before the limit: a decorator.

        The function, `async def` or `def`, is called with the request and the principal. It refuses by raising a
        GatewayError or an HTTPException, and returns nothing. What it has to tell the upstream it says by
        `request.set_header(name, value)`. Raises ValueError for a route that is not there, TypeError for what is no
        policy.
        """
        self._check_route("before", route)

        def register(policy: Policy) -> Policy:
            check_policy(policy)
            self._components.policies.setdefault(route, []).append(policy)
            self._compile_again()
            return policy

        return register

    def cost(self, route: str, *, limit: str | None = None) -> Callable[[Cost], Cost]:
        """Say what a request of a route costs, before it is counted: a decorator.

        The function, `async def` or `def`, is called with the request and the principal, and returns units: a whole
        number, 0 or more. It may refuse as a policy does. It counts for the limits of the route that write no `cost`, or
        for the one that `limit` names. Raises ValueError for a route or a limit that is not there.
        """
        self._check_route("cost", route, limit)

        def register(function: Cost) -> Cost:
            price = compose_price(function)
            self._put_costs(route, price=price, priced=limit)
            return function

        return register

    def charge(self, route: str, *, limit: str | None = None) -> Callable[[Cost], Cost]:
        """Say what an answer has cost, after it was sent: a decorator.

        The function, `async def` or `def`, is called with the request, the principal and the `Answer`, once for each
        answer of the service, also for one that broke off. It returns units that are spent besides what the request has
        cost; a negative number gives units back. It counts for all limits of the route, or for the one that `limit` names.
        Raises ValueError for a route or a limit that is not there.
        """
        self._check_route("charge", route, limit)

        def register(function: Cost) -> Cost:
            charge = compose_charge(function)
            self._put_costs(route, charge=charge, charged=limit)
            return function

        return register

    def _put_costs(self, route: str, **said: Any) -> None:
        costs = self._components.costs
        costs[route] = costs.get(route, TeamCosts())._replace(**said)
        self._compile_again()

    def _check_route(self, decorator: str, route: str, limit: str | None = None) -> None:
        if callable(route):
            msg = f'`@gateway.{decorator}` needs the name of a route: write @gateway.{decorator}("orders")'
            raise TypeError(msg)
        names = [written.name for written in self.config.routes]
        if route not in names:
            msg = f'no route "{route}"{did_you_mean(route, names)}'
            raise ValueError(msg)
        found = names_of_limits(self.config, route)
        if limit is not None and limit not in found:
            msg = f'the route "{route}" has no limit "{limit}"{did_you_mean(limit, found)}'
            raise ValueError(msg)

    def override_principal(self, principal: Principal | None) -> Override[Principal]:
        """Have every request come from `principal`, until the returned value's `with` block ends.

        For tests of proxied routes: tokens are not looked at, scopes and roles are. None ends it.
        """
        override = Override(self._set_override, self._components.override)
        self._set_override(None if principal is None else identify(principal))
        return override

    def override_service(self, name: str, app: ASGIApp | None) -> Override[ASGIApp]:
        """Have an ASGI app in this process answer for a service, until the returned value's `with` block ends.

        For tests of routes with no socket. The app's lifespan is the caller's to run. None ends it. Raises ValueError
        if there is no such service.
        """
        if name not in self.config.services:
            msg = f'no service "{name}"{did_you_mean(name, self.config.services)}'
            raise ValueError(msg)
        put = partial(self._stand_in, name)
        override = Override(put, self._components.stand_ins.get(name))
        put(app)
        return override

    def _stand_in(self, name: str, app: ASGIApp | None) -> None:
        self._components.stand_ins.put(name, app)
        self._compile_again()

    def _set_override(self, principal: Principal | None) -> None:
        self._components.override = principal
        self._compile_again()
