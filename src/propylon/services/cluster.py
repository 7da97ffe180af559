"""Follow the services of a Kubernetes cluster: list and watch their EndpointSlices through the API.

Strategy. Each worker follows the API by itself: one connection for each namespace, whatever number of services it has there. A worker
that is replaced needs nobody, and what one believes is not what another has heard.

Facts. A list says at which version of the collection it is true (`resourceVersion`, a text without a meaning), and a watch goes on from there.
Bookmarks keep the version young. A watch that the API has ended is no failure.

Rules.

1. While the API is away, the last known instances stay: an API that does not answer says nothing about the pods.
2. After any failure, and when the API has forgotten the version, everything is listed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from propylon.errors import GatewayError
from propylon.loop.tasks import spawn_forever
from propylon.names.resolve import SrvTarget
from propylon.services.slices import PortUnclear, Slice, read_slice, targets_of
from propylon.upstream.dial import Address
from propylon.upstream.kubernetes import Api, ApiSettings, Gone, Pooled, UnusableAnswer

__all__ = ["Cluster", "ClusterService"]

log = logging.getLogger(__name__)

_MOST_PAGES = 100
_MOST_SLICES = 10_000
# Seconds
_LEAST = 1.0  # between two watches: an API that ends each of them at once must not be asked without a pause
_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class ClusterService:
    """A service in the cluster; `port` is as in `targets_of`."""

    namespace: str
    service: str
    port: str

    def __str__(self) -> str:
        """Return e.g. `orders.shop`, as in the names of DNS."""
        return f"{self.service}.{self.namespace}"


Told = Callable[[tuple[SrvTarget, ...]], None]


class _Follower:
    """One who follows a service; cancelled as a task is."""

    def __init__(
        self, service: ClusterService, told: Told, leave: Callable[[_Follower], None]
    ) -> None:
        self.service = service
        self.told = told
        self.last: tuple[SrvTarget, ...] | None = None
        self.complaint = ""
        self._leave = leave

    def cancel(self) -> None:
        """Follow no longer."""
        self._leave(self)


class Cluster:
    """The services of one cluster."""

    def __init__(self, connect: Callable[[Address], Pooled], chance: Callable[[], float]) -> None:
        """`connect` returns a new pool at an address; `chance` returns a number from 0 to 1."""
        self._connect = connect
        self._chance = chance
        self._settings: ApiSettings | None = None
        self._followed: dict[str, _Namespace] = {}

    def apply(self, settings: ApiSettings) -> None:
        """Ask this API from now on."""
        if settings != self._settings:
            self._settings = settings
            for one in self._followed.values():
                one.begin(settings)

    @property
    def up(self) -> bool | None:
        """Whether every namespace that is followed is up to date; None: none is followed."""
        return all(one.up for one in self._followed.values()) if self._followed else None

    @property
    def missing(self) -> str | None:
        """What a start waits for: the first answer, or the first failure."""
        waits = any(not one.tried for one in self._followed.values())
        return "the instances of services in Kubernetes" if waits else None

    def known(self, service: ClusterService) -> tuple[SrvTarget, ...]:
        """Return the instances that are known, without a request."""
        found = self._followed.get(service.namespace)
        try:
            return () if found is None else found.targets(service)
        except PortUnclear:
            return ()

    def follow(self, service: ClusterService, told: Told) -> _Follower:
        """Call `told` with the instances of a service, now and whenever they change; the caller cancels what is returned."""
        space = self._followed.get(service.namespace)
        if space is None:
            space = _Namespace(service.namespace, self._connect, self._chance)
            self._followed[service.namespace] = space
        follower = _Follower(service, told, self._leave)
        space.add(follower, self._settings)
        return follower

    def _leave(self, follower: _Follower) -> None:
        name = follower.service.namespace
        space = self._followed.get(name)
        # What is known stays until a reload has ended: the same service may be followed again in a moment.
        if space is not None and space.remove(follower):
            asyncio.get_running_loop().call_soon(self._drop, name)

    def _drop(self, name: str) -> None:
        space = self._followed.get(name)
        if space is not None and not space.followers:
            del self._followed[name]
            space.close()

    def close(self) -> None:
        """Follow nothing any more."""
        for space in self._followed.values():
            space.close()
        self._followed.clear()


class _Namespace:
    """Follows one namespace."""

    def __init__(
        self, name: str, connect: Callable[[Address], Pooled], chance: Callable[[], float]
    ) -> None:
        self.followers: list[_Follower] = []
        self.tried = False
        self.up = False
        self._name = name
        self._connect = connect
        self._chance = chance
        self._api: Api | None = None
        self._slices: dict[str, Slice] = {}
        self._synced = False
        self._names: frozenset[str] = frozenset()  # the services that are listed and watched
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self._failures = 0  # in a row

    # Who follows

    def add(self, follower: _Follower, settings: ApiSettings | None) -> None:
        """Have one more follow."""
        self.followers.append(follower)
        if settings is None:
            return
        if self._api is None or follower.service.service not in self._names:
            self.begin(settings)
        else:
            self._tell(follower)

    def remove(self, follower: _Follower) -> bool:
        """Remove one who follows; tell whether nobody is left."""
        if follower in self.followers:
            self.followers.remove(follower)
        return not self.followers

    def begin(self, settings: ApiSettings) -> None:
        """List and watch anew: other services are followed, or another API is asked."""
        self.close()
        self._synced = False
        self._names = frozenset(one.service.service for one in self.followers)
        self._api = Api(settings, self._name, self._connect)
        self._task = spawn_forever(self._run(self._api))

    def close(self) -> None:
        """Stop; what is known stays."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._api is not None:
            self._api.close()
            self._api = None

    def targets(self, service: ClusterService) -> tuple[SrvTarget, ...]:
        """Return the instances of a service. Raises PortUnclear."""
        mine = [one for one in self._slices.values() if one.service == service.service]
        return targets_of(mine, service.port)

    # List and watch

    async def _run(self, api: Api) -> None:
        version = ""  # empty: everything has to be listed
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                if not version:
                    version = await self._list(api)
                version = await self._watch(api, version)
            except Gone:
                version = ""
            except (GatewayError, UnusableAnswer, OSError, ValueError) as error:
                version = ""
                self._is_down(error)
                await asyncio.sleep(self._pause())
            await asyncio.sleep(max(0.0, began + _LEAST - clock()))

    def _pause(self) -> float:
        # With a random part: the workers must not come all at once when the API is back.
        longest = min(_BACKOFF * 2.0 ** min(self._failures, 10), _LONGEST_BACKOFF)
        self._failures += 1
        return longest * (0.5 + self._chance() / 2)

    async def _list(self, api: Api) -> str:
        """List everything; return its version."""
        found: dict[str, Slice] = {}
        version, page = "", ""
        for _ in range(_MOST_PAGES):
            answer = await api.list(self._names, page)
            metadata = answer.get("metadata")
            items = answer.get("items") or []
            if not isinstance(metadata, dict) or not isinstance(items, list):
                msg = "its answer is no list"
                raise UnusableAnswer(msg)
            found |= {one.name: one for one in map(read_slice, items) if one is not None}
            version, page = (
                str(metadata.get(key) or "") for key in ("resourceVersion", "continue")
            )
            if not page or len(found) > _MOST_SLICES or not version:
                break
        if page or not version:
            msg = f"it has no version, or has more than {_MOST_SLICES} EndpointSlices"
            raise UnusableAnswer(msg)
        self._slices, self._synced, self.tried = found, True, True
        self._tell_all()
        return version

    async def _watch(self, api: Api, version: str) -> str:
        """Watch from a version on until the API ends it; return the last version. Raises Gone."""
        async with aclosing(api.watch(self._names, version)) as changes:
            async for kind, item in changes:
                self._is_up()
                metadata = item.get("metadata")
                said = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
                version = said if isinstance(said, str) else version
                if kind != "BOOKMARK" and self._apply(kind, item):
                    self._tell_all()
        return version

    def _apply(self, kind: str, item: dict[str, object]) -> bool:
        """Take one change; tell whether it is one."""
        read = read_slice(item)
        if read is None:
            return False
        if kind == "DELETED":
            return self._slices.pop(read.name, None) is not None
        if self._slices.get(read.name) == read or len(self._slices) > _MOST_SLICES:
            return False
        self._slices[read.name] = read
        return True

    # What is told

    def _tell_all(self) -> None:
        for follower in list(self.followers):
            self._tell(follower)

    def _tell(self, follower: _Follower) -> None:
        if not self._synced:
            return
        found: tuple[SrvTarget, ...] = ()
        complaint = ""
        try:
            found = self.targets(follower.service)
        except PortUnclear as error:
            complaint = str(error)
        if complaint and complaint != follower.complaint:
            log.warning("kubernetes: %s has no instances here: %s", follower.service, complaint)
        follower.complaint = complaint
        if found != follower.last:
            follower.last = found
            follower.told(found)

    def _is_up(self) -> None:
        self.up, self._failures = True, 0
        if self._warned:
            self._warned = False
            log.warning("kubernetes: the namespace %s is watched again", self._name)

    def _is_down(self, error: Exception) -> None:
        self.tried, self.up = True, False
        if not self._warned:
            self._warned = True
            reason = getattr(error, "reason", "") or str(error)
            log.warning(
                "kubernetes: the namespace %s is not watched, its last known instances stay: %s",
                self._name,
                reason,
            )
