"""Hold what labels say: routes, instances of services, and what is wrong with them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from propylon.names.resolve import SrvTarget

__all__ = ["Complaint", "LabelRoute", "Labelled", "Said"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a label of a container; the rest of the container's labels counts."""

    container: str
    label: str
    message: str

    def __str__(self) -> str:
        """Return e.g. `container shop-web-1, label propylon.routes.web.path: …`."""
        return f"container {self.container}, label {self.label}: {self.message}"


@dataclass(frozen=True, slots=True)
class LabelRoute:
    """A route as labels have it. `raw` are keys as the file has them, `labels` the label of each."""

    name: str
    container: str
    service: str
    raw: Mapping[str, object]
    labels: Mapping[str, str]

    def complaint(self, key: str, message: str) -> Complaint:
        """Return a complaint about a key; about the whole route where no label has it."""
        label = self.labels.get(key) or next(iter(self.labels.values()))
        return Complaint(self.container, label, message)

    def says_the_same(self, other: "LabelRoute") -> bool:
        """Whether it is the route of another container of the same service."""
        return (self.service, self.raw) == (other.service, other.raw)


@dataclass(slots=True)
class Said:
    """What the labels of one container say, while they are read."""

    container: str
    routes: list[LabelRoute] = field(default_factory=list)
    ports: dict[str, tuple[int | None, int]] = field(default_factory=dict)  # and weight, by service
    complaints: list[Complaint] = field(default_factory=list)

    def complain(self, label: str, message: str) -> None:
        """Note what is wrong."""
        self.complaints.append(Complaint(self.container, label, message))


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the labels of all containers say. A service without instances is one whose containers are not well."""

    routes: tuple[LabelRoute, ...] = ()
    instances: Mapping[str, tuple[SrvTarget, ...]] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()
