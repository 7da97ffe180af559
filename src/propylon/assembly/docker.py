"""Join the labels of containers to the gateway: instances follow at once, routes by a reload of what the labels say.

Strategy. Each worker follows the engine by itself, and all of them read the same list in the same order, so they come to the same routes. What the
file says is not read again for a label: an edit that nobody has asked to be put in force stays where it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from propylon.config.labels.gather import gather
from propylon.config.labels.labelled import Complaint, Labelled
from propylon.config.labels.overlay import overlaid
from propylon.config.models.discovery import DockerConfig
from propylon.config.models.endpoints import Endpoint
from propylon.config.reading.load import Loaded
from propylon.names.resolve import SrvTarget
from propylon.services.containers import Container, Containers
from propylon.upstream.dial import Address
from propylon.upstream.docker import Engine
from propylon.upstream.pools import Pools

__all__ = ["Docker"]

log = logging.getLogger(__name__)

# A list beside the events, and one more for the moment in which a connection closes.
_CONNECTIONS = 3
# Seconds between two reloads for labels: a container that is started again and again must not keep the gateway busy.
_BETWEEN = 1.0
Told = Callable[[tuple[SrvTarget, ...]], None]
Relabel = Callable[[Callable[[], None]], None]


class _Follower:
    """One who follows a service; cancelled as a task is."""

    def __init__(self, service: str, told: Told, everyone: set[_Follower]) -> None:
        self.service = service
        self.told = told
        self.last: tuple[SrvTarget, ...] | None = None
        self._everyone = everyone

    def cancel(self) -> None:
        """Follow no longer."""
        self._everyone.discard(self)


class Docker:
    """What the containers of an engine say, for as long as the gateway runs."""

    def __init__(self, pools: Pools, chance: Callable[[], float]) -> None:
        """`chance` returns a number from 0 to 1."""
        self._pools = pools
        self._chance = chance
        self._rules: DockerConfig | None = None
        self._containers: Containers | None = None
        self._close_pool: Callable[[], None] = _nothing
        self._listed: tuple[Container, ...] = ()
        self._labelled = Labelled()
        self._followers: set[_Follower] = set()
        self._complaints: frozenset[Complaint] = frozenset()
        self._refused: tuple[Complaint, ...] = ()
        self._is_in_force = False  # what the first list said
        self._timer: asyncio.TimerHandle | None = None  # of the next reload
        self._is_pending = False  # a reload is planned, or under way
        self._relabelled = -_BETWEEN
        # Has the routes of labels put in force, and calls back when that is done, or refused.
        self.relabel: Relabel = _at_once

    # As a source of instances

    def known(self, service: str) -> tuple[SrvTarget, ...]:
        """Return the instances that are known."""
        return self._labelled.instances.get(service, ())

    def follow(self, service: str, told: Told) -> _Follower:
        """Call `told` with the instances of a service, now and whenever they change; the caller cancels what is returned."""
        follower = _Follower(service, told, self._followers)
        self._followers.add(follower)
        if self._containers is not None and self._containers.up:
            self._tell(follower)
        return follower

    # As a part of the gateway

    def apply(self, rules: DockerConfig | None) -> None:
        """Go on with the rules of a configuration, the first or another."""
        before, self._rules = self._rules, rules
        if before is not None and rules is not None and before.socket == rules.socket:
            if before != rules:
                self._read(self._listed)
            return
        self.close()
        if rules is None:
            self._labelled, self._listed = Labelled(), ()
        elif before is None or before.socket != rules.socket:
            address = Address("", 0, path=rules.socket.removeprefix("unix://"))
            pool = self._pools.fresh(address, _CONNECTIONS)
            self._close_pool = pool.close
            self._containers = Containers(Engine(pool), self._hear, self._chance)

    def close(self) -> None:
        """Follow the engine no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._containers is not None:
            self._containers.close()
            self._containers = None
        self._close_pool()
        self._close_pool = _nothing

    @property
    def up(self) -> bool | None:
        """Whether what is known is up to date; None: no engine is followed."""
        return None if self._containers is None else self._containers.up

    @property
    def missing(self) -> str | None:
        """What a start waits for: that what the first list says is in force, or that there is none."""
        containers = self._containers
        if containers is None or self._is_in_force or (containers.tried and not containers.up):
            return None
        return "the containers that labels describe"

    def with_labels(self, base: Loaded, endpoints: Iterable[Endpoint]) -> Loaded:
        """Return the configuration with the routes of labels. Called in a thread."""
        rules = base.config.discovery.docker
        if rules is None:
            return base
        labelled = self._labelled if rules == self._rules else gather(self._listed, rules)
        loaded, self._refused = overlaid(base, labelled, rules, endpoints)
        return loaded

    def _hear(self, containers: tuple[Container, ...]) -> None:
        if containers != self._listed or not self._is_in_force:
            self._listed = containers
            self._read(containers)

    def _read(self, containers: tuple[Container, ...]) -> None:
        rules = self._rules
        if rules is None:
            return
        before, self._labelled = self._labelled, gather(containers, rules)
        for follower in list(self._followers):
            self._tell(follower)
        if before.routes != self._labelled.routes:
            self._plan()
        elif not self._is_pending:
            self._in_force()

    def _plan(self) -> None:
        """Have the routes of labels put in force, a second after the last time at the earliest."""
        self._is_pending = True
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._relabelled + _BETWEEN, self._relabel)

    def _relabel(self) -> None:
        self._timer = None
        self._relabelled = asyncio.get_running_loop().time()
        self.relabel(self._in_force)

    def _in_force(self) -> None:
        self._is_in_force = True
        self._is_pending = self._timer is not None
        self._complain()

    def _tell(self, follower: _Follower) -> None:
        found = self.known(follower.service)
        if found != follower.last:
            follower.last = found
            follower.told(found)

    def _complain(self) -> None:
        """Say what is wrong with labels, each once for as long as it is."""
        found = frozenset((*self._labelled.complaints, *self._refused))
        for complaint in sorted(found - self._complaints, key=str):
            log.warning("docker: %s", complaint)
        self._complaints = found


def _nothing() -> None:
    """Close nothing: no engine is followed."""


def _at_once(then: Callable[[], None]) -> None:
    then()
