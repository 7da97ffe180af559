"""Follow the containers of a Docker Engine: which there are, where they can be asked, what their labels say.

Strategy. Any event has all containers listed anew. The list is short, and what it says is true; what events say is one change, which may be missed,
doubled or late. The events begin before the list, so no change between the two is lost. A burst of events is one list.

Rule. While the engine is away, the last known containers stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from propylon.errors import GatewayError, UpstreamTimeout
from propylon.loop.tasks import spawn_forever
from propylon.upstream.docker import Engine, UnusableEngine
from propylon.upstream.lines import Lines

__all__ = ["Container", "Containers", "read_containers"]

log = logging.getLogger(__name__)

MOST_CONTAINERS = 1000
_MOST_LABELS = 500  # of one container
_LONGEST_LABEL = 4096
_BACKOFF, _LONGEST_BACKOFF = 0.25, 10.0  # seconds
_LEAST = 0.25  # between two streams of events, for an engine that ends each of them at once
_BURST = 0.1  # seconds that the events of one change may come after another
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs. `networks` has its address in each, `ports` the TCP ports that its image exposes.

    `asked`: it has no health check, or has passed it; and it is not paused.
    """

    id: str
    name: str
    created: int
    labels: Mapping[str, str]
    networks: Mapping[str, str]
    ports: tuple[int, ...]
    asked: bool


def read_containers(items: list[object]) -> tuple[Container, ...]:
    """Return what a list of the engine says, in an order that all workers see: the oldest first. What cannot be read is left out."""
    found = [one for one in map(_read, items) if one is not None]
    found.sort(key=lambda one: (one.created, one.id))
    return tuple(found[:MOST_CONTAINERS])


def _read(item: object) -> Container | None:
    if not isinstance(item, dict):
        return None
    identity, names, labels = item.get("Id"), item.get("Names"), item.get("Labels")
    if (
        not isinstance(identity, str)
        or not identity
        or item.get("State") not in ("running", "paused")
    ):
        return None
    name = (
        next((one for one in names if isinstance(one, str)), "") if isinstance(names, list) else ""
    )
    created = item.get("Created")
    return Container(
        identity,
        name.removeprefix("/") or identity[:12],
        created if type(created) is int else 0,
        dict(_labels(labels)),
        dict(_networks(item.get("NetworkSettings"))),
        tuple(sorted(set(_ports(item.get("Ports"))))),
        item.get("State") == "running" and _is_well(item.get("Status")),
    )


def _is_well(status: object) -> bool:
    """Whether a status, such as `Up 5 minutes (healthy)`, tells of no check, or of one that was passed."""
    text = status if isinstance(status, str) else ""
    return not text.endswith(("(unhealthy)", "(health: starting)", "(starting)"))


def _labels(written: object) -> Iterator[tuple[str, str]]:
    labels = written if isinstance(written, dict) else {}
    for key, value in list(labels.items())[:_MOST_LABELS]:
        if isinstance(value, str) and len(key) + len(value) <= _LONGEST_LABEL:
            yield key, value


def _networks(settings: object) -> Iterator[tuple[str, str]]:
    networks = settings.get("Networks") if isinstance(settings, dict) else None
    for name, one in networks.items() if isinstance(networks, dict) else ():
        for key in ("IPAddress", "GlobalIPv6Address"):
            address = one.get(key) if isinstance(one, dict) else None
            if isinstance(address, str) and _is_address(address):
                yield name, address
                break


def _is_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


def _ports(written: object) -> Iterator[int]:
    for one in written if isinstance(written, list) else ():
        number = one.get("PrivatePort") if isinstance(one, dict) else None
        if type(number) is int and 0 < number <= _LARGEST_PORT and one.get("Type") == "tcp":
            yield number


async def _comes(events: Lines) -> bool:
    """Wait for the next event; return False if the stream has ended, or nothing has happened for long."""
    try:
        await anext(events)
    except (StopAsyncIteration, UpstreamTimeout):
        return False
    return True


class Containers:
    """Follows the containers of one engine until it is closed."""

    def __init__(
        self,
        engine: Engine,
        told: Callable[[tuple[Container, ...]], None],
        chance: Callable[[], float],
    ) -> None:
        """Call `told` with all containers whenever they may have changed. `chance` returns a number from 0 to 1."""
        self.up = False
        self.tried = False
        self._engine = engine
        self._told = told
        self._chance = chance
        self._failures = 0
        self._warned = False
        self._task = spawn_forever(self._run())

    def close(self) -> None:
        """Stop."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
                await asyncio.sleep(_LEAST)
            except (GatewayError, UnusableEngine, OSError) as error:
                self._is_down(getattr(error, "reason", "") or str(error))
                await asyncio.sleep(self._pause())

    async def _follow(self) -> None:
        """List the containers, and again after each event, until the events end."""
        async with self._engine.events() as events:
            await self._look()
            while await _comes(events):
                await asyncio.sleep(_BURST)
                events.skip()  # before the list: what comes from now on may not be in it
                await self._look()

    async def _look(self) -> None:
        self._told(read_containers(await self._engine.containers()))
        self._is_up()

    def _pause(self) -> float:
        longest = min(_BACKOFF * 2.0 ** min(self._failures, 10), _LONGEST_BACKOFF)
        self._failures += 1
        return longest * (0.5 + self._chance() / 2)

    def _is_up(self) -> None:
        self.up = self.tried = True
        self._failures = 0
        if self._warned:
            self._warned = False
            log.warning("docker: the containers are followed again")

    def _is_down(self, reason: str) -> None:
        self.up, self.tried = False, True
        if not self._warned:
            self._warned = True
            log.warning(
                "docker: the containers are not followed, the last known ones stay: %s", reason
            )
