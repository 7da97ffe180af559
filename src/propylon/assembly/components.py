"""Hold what exists before an event loop runs and outlives reloads: the app, its data, a team's policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import BaseRoute

from propylon.assembly.guards import open_basic
from propylon.assembly.stand_ins import StandIns
from propylon.compile.basic_auth import BasicCompiler
from propylon.compile.limits import TeamCosts
from propylon.config.models.endpoints import Endpoint
from propylon.control.admin import AdminGate
from propylon.control.health import HealthState
from propylon.control.policies import Policy
from propylon.proxy.principal import Principal
from propylon.stores.seats import Seats
from propylon.stores.shared import Shared
from propylon.telemetry.audit import Audit
from propylon.telemetry.metrics import Metrics

# Databases and cryptography take half a second to load: only gateways that verify tokens need them.
if TYPE_CHECKING:
    from propylon.assembly.accounts import TokenServices

__all__ = ["Components"]


@dataclass(slots=True)
class Components:
    """What was there before the loop and outlives reloads: the app, its data, a team's policies."""

    api: FastAPI
    routes: tuple[BaseRoute, ...]  # of the app, the gateway's own
    endpoints: tuple[Endpoint, ...]  # the same, as they are routed
    token_services: TokenServices | None  # None: nothing verifies tokens
    health: HealthState
    metrics: Metrics
    shared: Shared
    audit: Audit
    gate: AdminGate
    policies: dict[str, list[Policy]] = field(default_factory=dict)
    costs: dict[str, TeamCosts] = field(default_factory=dict)
    override: Principal | None = None
    stand_ins: StandIns = field(default_factory=StandIns)
    seats: Seats = field(default_factory=Seats)
    basic: BasicCompiler = field(default_factory=open_basic)
    owns_process: bool = False  # `propylon run`: stdout and the logger are the gateway's own
    # The garbage collector and the turns of threads, too. Also where a server runs `propylon.main:app` and nothing else.
    owns_interpreter: bool = False
