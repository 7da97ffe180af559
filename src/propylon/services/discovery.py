"""Keep the instances of a service in step with what DNS says of their name.

A name with one address is one instance, which is connected to wherever the name leads. A name with several
is an instance each, so that balancing, probes and ejection see them singly. An SRV record lists its
instances itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from propylon.names.resolve import Resolver, SrvTarget, split
from propylon.services.fleet import Fleet
from propylon.services.instance import Instance

__all__ = ["Discovery", "MemberKey", "Members"]

# What an instance is made of: an address of the name, a target of its SRV record, or the name itself.
MemberKey = str | SrvTarget | None


class Members:
    """The instances that one name stands for."""

    def __init__(
        self, name: str, make: Callable[[MemberKey], Instance], *, srv: bool = False
    ) -> None:
        """Take a name without its port, or that of an SRV record; `make` gives each its connections."""
        self._name = name
        self._make = make
        self._srv = srv
        self._members: dict[MemberKey, Instance] = {}

    def start(self, resolver: Resolver) -> tuple[Instance, ...]:
        """Return the instances by the last known answer, for a fleet to begin with. Asks nobody."""
        known = self._known(resolver)
        self._members = {key: self._make(key) for key in known}
        return tuple(self._members.values())

    def follow(
        self, resolver: Resolver, fleet: Fleet, retire: Callable[[Instance], None]
    ) -> asyncio.Task[None]:
        """Change the fleet whenever the answer does; cancel the task to stop.

        `retire` is given each instance that leaves, to close its connections.
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
        wanted = dict.fromkeys(keys)
        before = self._members
        gone = [instance for key, instance in before.items() if key not in wanted]
        if not gone and len(wanted) == len(before) and all(map(fleet.find, _ids(before.values()))):
            return
        for instance in gone:
            retire(instance)
        self._members = {key: before.get(key) or self._make(key) for key in wanted}
        # The fleet may have copied ours; and one of the same id may have registered itself.
        ours = {(instance.id, instance.upstream) for instance in before.values()}
        others = [one for one in fleet.instances if (one.id, one.upstream) not in ours]
        taken = _ids(others)
        fleet.replace((*others, *(one for one in self._members.values() if one.id not in taken)))


def _member_keys(addresses: tuple[str, ...]) -> tuple[MemberKey, ...]:
    return split(addresses) or (None,)


def _ids(instances: Iterable[Instance]) -> set[str]:
    return {instance.id for instance in instances}


class Discovery:
    """Follows every name of the services in force."""

    def __init__(self, resolver: Resolver, retire: Callable[[Instance], None]) -> None:
        """`retire` is given each instance that leaves because of DNS."""
        self._resolver = resolver
        self._retire = retire
        self._following: dict[Members, asyncio.Task[None]] = {}

    def follow(self, named: Iterable[tuple[Fleet, Members]]) -> None:
        """Follow these names and no others, each for its fleet; who is followed already goes on."""
        wanted = {members: fleet for fleet, members in named}
        for members in self._following.keys() - wanted.keys():
            self._following.pop(members).cancel()
        for members, fleet in wanted.items():
            if members not in self._following:
                task = members.follow(self._resolver, fleet, self._retire)
                self._following[members] = task

    def close(self) -> None:
        """Follow nothing any more."""
        self.follow(())
