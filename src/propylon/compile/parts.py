"""Hold what a table is made of besides the configuration."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from propylon.compile.basic_auth import Overridden, Users
from propylon.compile.cache import CacheCompiler
from propylon.compile.detours import DetourCompiler
from propylon.compile.forward_auth import Asks
from propylon.compile.idempotency import IdempotencyCompiler
from propylon.compile.limits import LimitCompiler, TeamCosts
from propylon.compile.samples import Samples
from propylon.config.models.endpoints import Endpoint
from propylon.documents.in_force import InForce
from propylon.edge.body import Body
from propylon.proxy.authenticate import always, anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.check import RESULTS
from propylon.proxy.coding.decompress import MakeBody
from propylon.proxy.counts import Counts
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authenticate, Before, Forwards
from propylon.stores.seats import Seats
from propylon.upstream.ports import Upstream

__all__ = ["NOTHING_TO_VERIFY_WITH", "Parts"]

# The authenticate stages where there is nothing to verify tokens with.
NOTHING_TO_VERIFY_WITH: Mapping[str, Authenticate] = {
    "none": anonymous,
    "optional": unverifiable_if_asked,
    "required": unverifiable,
    "offered": unverifiable_if_asked,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a table needs besides the configuration.

    - `forward`: sends requests on; see `Route.forward`.
    - `builtin`: the FastAPI app in this process, as an upstream. It answers the `endpoints`.
    - `endpoints`: the gateway's own endpoints, and those of a team.
    - `stages`: the authenticate stage for each value of a route's `auth`.
    - `policies`: by the names of the routes that they guard, what makes the policy stage, given the route's total time.
    - `override`: in a test, the principal of every request; no token is verified then.
    - `limits`: makes the limit stages; None: in a dry run, nothing is limited.
    - `caches`: makes the cache stages; None: in a dry run, nothing is cached.
    - `idempotency`: makes the stages for Idempotency-Key; None: in a dry run, no key is kept.
    - `basic`: makes the authenticate stages of routes with `basic_auth`; None: in a dry run, nobody can log in there.
    - `asks`: makes the forward stages of routes with `forward_auth`.
    - `costs`: by the names of routes, what a team's functions say of their costs.
    - `seats`: counts the open sockets of callers.
    - `documents`: what the documents of services say, for routes that take their security from them or check requests.
    - `checks`: where the checks of a route's requests are counted, by the route's name.
    - `detours`: makes the stages for mirrors and fallbacks; None: in a dry run, there are none.
    - `bodies`: makes the plain bodies of requests that are unpacked; None: in a dry run, no body comes.
    - `samples`: takes samples of answers; None: in a dry run, none are taken. `chance` draws from 0 to 1.
    """

    builtin: Upstream
    forward: Forwards
    stages: Mapping[str, Authenticate] = field(default_factory=lambda: NOTHING_TO_VERIFY_WITH)
    endpoints: tuple[Endpoint, ...] = ()
    policies: Mapping[str, Callable[[float], Before]] = field(default_factory=dict)
    override: Principal | None = None
    limits: LimitCompiler | None = None
    caches: CacheCompiler[Any] | None = None
    idempotency: IdempotencyCompiler | None = None
    basic: Users | None = None
    asks: Asks | None = None
    costs: Mapping[str, TeamCosts] = field(default_factory=dict)
    seats: Seats = field(default_factory=Seats)
    documents: InForce = field(default_factory=InForce)
    checks: Callable[[str], Counts] = lambda _: [0.0] * len(RESULTS)
    detours: DetourCompiler | None = None
    bodies: MakeBody | None = Body
    samples: Samples | None = None
    chance: Callable[[], float] = random.random

    @property
    def authenticate(self) -> Mapping[str, Authenticate]:
        """The authenticate stage for each value of a route's `auth`; with `override`, a fixed principal."""
        if self.override is not None:
            fixed = always(self.override)
            return {
                "none": anonymous,
                "optional": fixed,
                "required": fixed,
                "offered": fixed,
            }
        return self.stages

    @property
    def users(self) -> Users | None:
        """What makes the authenticate stages of routes with `basic_auth`; with `override`, a fixed principal."""
        return self.basic if self.override is None else Overridden(self.override)
