"""Follow DNS and Kubernetes: change the instances of a service whenever its name resolves to other addresses, or its pods change.

A name with one address is one instance. A name with several addresses is one instance for each, so that
balancing, health checks and ejection treat them singly. An SRV record lists the instances and their ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from propylon.names.resolve import Resolver, SrvTarget, split
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance

__all__ = ["Discovery", "Following", "MemberKey", "Members", "TargetSource", "ToldMembers"]

# What distinguishes the instances of one name: an address, an SRV target, or None for the name as a whole.
# None stands for a name with a single address. Its pool resolves the name for each new connection, so the
# instance stays the same when the address changes.
MemberKey = str | SrvTarget | None


class Following(Protocol):
    """What goes on until it is cancelled: a task, or a place in a list."""

    def cancel(self) -> object:
        """Stop."""


S_contra = TypeVar("S_contra", contravariant=True)


class TargetSource(Protocol[S_contra]):
    """What knows the instances of services, and tells when they change."""

    def known(self, service: S_contra) -> tuple[SrvTarget, ...]:
        """Return the instances that are known, without a request."""

    def follow(self, service: S_contra, told: Callable[[tuple[SrvTarget, ...]], None]) -> Following:
        """Call `told` with the instances of a service, now and whenever they change; cancel what is returned to stop."""


class Members:
    """The instances behind one DNS name."""

    def __init__(
        self, name: str, make: Callable[[MemberKey], Instance], *, srv: bool = False
    ) -> None:
        """Take a host name, or that of an SRV record (`srv`). `make` returns the instance for a key."""
        self._name = name
        self._make = make
        self._srv = srv
        self._members: dict[MemberKey, Instance] = {}

    def start(self, resolver: Resolver) -> tuple[Instance, ...]:
        """Return the instances of the last known answer, for a new fleet. Makes no DNS query."""
        return self._begin(self._known(resolver))

    def _begin(self, known: Iterable[MemberKey]) -> tuple[Instance, ...]:
        self._members = {key: self._make(key) for key in known}
        return tuple(self._members.values())

    def follow(
        self, resolver: Resolver, fleet: Fleet, retire: Callable[[Instance], None]
    ) -> Following:
        """Follow the name and change the fleet with each new answer; cancel what is returned to stop.

        `retire` is called with each instance that leaves, to close its connections.
        """
        if self._srv:
            return resolver.follow_service(
                self._name, lambda targets: self._update(targets, fleet, retire)
            )
        return resolver.follow(
            self._name, lambda found: self._update(_member_keys(found), fleet, retire)
        )

    def _known(self, resolver: Resolver) -> Iterable[MemberKey]:
        if self._srv:
            return resolver.known_targets(self._name)
        return _member_keys(resolver.known(self._name))

    def _update(
        self, keys: Iterable[MemberKey], fleet: Fleet, retire: Callable[[Instance], None]
    ) -> None:
        # A dict keeps the order of the answer; a set would shuffle the instances with each answer.
        wanted = dict.fromkeys(keys)
        before = self._members
        gone = [instance for key, instance in before.items() if key not in wanted]
        # Most answers change nothing. The fleet is asked, too: a registered instance with our id may have left it.
        if not gone and len(wanted) == len(before) and all(map(fleet.find, _ids(before.values()))):
            return
        # Instances that left are going away. Requests in flight finish; idle connections are closed.
        for instance in gone:
            retire(instance)
        self._members = {key: before.get(key) or self._make(key) for key in wanted}
        # The fleet may hold copies of our instances (same id and upstream, other state). And an instance with
        # the id of ours may have registered itself: that one stays, and ours is left out.
        ours = {(instance.id, instance.upstream) for instance in before.values()}
        others = [one for one in fleet.instances if (one.id, one.upstream) not in ours]
        taken = _ids(others)
        fleet.replace((*others, *(one for one in self._members.values() if one.id not in taken)))


class ToldMembers(Members, Generic[S_contra]):
    """The instances of a service of which a source tells: Kubernetes, Docker."""

    def __init__(
        self,
        source: TargetSource[S_contra],
        service: S_contra,
        make: Callable[[MemberKey], Instance],
    ) -> None:
        """`make` returns the instance at an address and a port."""
        super().__init__(str(service), make)
        self._source = source
        self._service = service

    def follow(
        self, resolver: Resolver, fleet: Fleet, retire: Callable[[Instance], None]  # noqa: ARG002
    ) -> Following:
        """Follow the service and change the fleet whenever the source tells so, as a name is followed."""
        return self._source.follow(
            self._service, lambda targets: self._update(targets, fleet, retire)
        )

    def known(self) -> tuple[Instance, ...]:
        """Return the instances that are known already, for a new fleet. Makes no request."""
        return self._begin(self._source.known(self._service))


def _member_keys(addresses: tuple[str, ...]) -> tuple[MemberKey, ...]:
    return split(addresses) or (None,)


def _ids(instances: Iterable[Instance]) -> set[str]:
    return {instance.id for instance in instances}


class Discovery:
    """Follows the names of all services in force."""

    def __init__(self, resolver: Resolver, retire: Callable[[Instance], None]) -> None:
        """`retire` is called with each instance that leaves because of DNS."""
        self._resolver = resolver
        self._retire = retire
        self._following: dict[Members, Following] = {}

    def follow(self, named: Iterable[tuple[Fleet, Members]]) -> None:
        """Follow exactly these names, each for its fleet. Names that are followed already are not restarted."""
        wanted = {members: fleet for fleet, members in named}
        # A task that goes on keeps its schedule: a reload every second must not become a DNS query every second.
        for members in self._following.keys() - wanted.keys():
            self._following.pop(members).cancel()
        for members, fleet in wanted.items():
            if members not in self._following:
                task = members.follow(self._resolver, fleet, self._retire)
                self._following[members] = task

    def close(self) -> None:
        """Stop following all names."""
        self.follow(())
