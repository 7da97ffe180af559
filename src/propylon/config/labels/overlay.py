"""Put the routes of labels beside those of the file. Pure.

Rules.

1. The file wins. A route of a label that would take a request from a route of the file, or from an endpoint of the gateway, is not made.
2. A label says nothing weaker than `defaults`: of who may call, it may only ask for more.
3. A route that is wrong in any way is not made, and said with its container and label; all others are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from propylon.config.labels.claims import Claim, is_granted
from propylon.config.labels.labelled import Complaint, Labelled, LabelRoute
from propylon.config.models.discovery import DockerConfig
from propylon.config.models.endpoints import Endpoint, all_paths, builtin_endpoints
from propylon.config.models.inherit import with_defaults
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import BUILTIN_SERVICE, GatewayConfig
from propylon.config.models.services import ServiceConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.messages import findings

__all__ = ["overlaid"]

_STRICTNESS = ("none", "optional", "required")


class _Refused(ValueError):
    """A route is not made; `key` is what it is about."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def overlaid(
    base: Loaded, labelled: Labelled, rules: DockerConfig, endpoints: Iterable[Endpoint]
) -> tuple[Loaded, tuple[Complaint, ...]]:
    """Return a configuration with the routes of labels that can be made, and why others are not.

    `endpoints` are those of a team. What the file says stays as it is.
    """
    overlay = _Overlay(base, rules, endpoints)
    complaints: list[Complaint] = []
    for route in labelled.routes:
        try:
            overlay.add(route)
        except _Refused as error:
            complaints.append(route.complaint(error.key, str(error)))
    return overlay.loaded(), tuple(complaints)


class _Overlay:
    def __init__(self, base: Loaded, rules: DockerConfig, endpoints: Iterable[Endpoint]) -> None:
        config = base.config
        self._base = base
        self._rules = rules
        self._made: list[tuple[LabelRoute, RouteConfig]] = []
        self._by_name: dict[str, LabelRoute] = {}
        self._names = {route.name for route in config.routes}
        self._claims = [
            (f'the route "{route.name}" of the file', _claim(route)) for route in config.routes
        ]
        self._own = tuple(_own(config, endpoints))

    def add(self, route: LabelRoute) -> None:
        """Make a route. Raises _Refused."""
        known = self._by_name.get(route.name)
        if known is not None:
            if known.says_the_same(route):
                return  # another container of the same service
            raise _Refused(
                key="path",
                message=f'the container {known.container} has another route "{route.name}"',
            )
        if route.name in self._names:
            raise _Refused(key="path", message=f'the file has a route "{route.name}"')
        self._check_service(route.service)
        self._check_access(route.raw)
        made = self._validated(route)
        self._check_claim(made)
        self._by_name[route.name] = route
        self._made.append((route, made))

    def _check_service(self, name: str) -> None:
        written = self._base.config.services.get(name)
        if name == BUILTIN_SERVICE:
            raise _Refused(key="service", message=f'"{name}" is what logs call the gateway itself')
        if written is not None and not written.docker:
            msg = f'the service "{name}" of the file does not say docker: true'
            raise _Refused(key="service", message=msg)

    def _check_access(self, raw: Mapping[str, object]) -> None:
        defaults = self._base.defaults
        usual = str(defaults.get("auth") or "required")
        auth = str(raw.get("auth") or usual)
        if self._rules.allow_open or auth not in _STRICTNESS or usual not in _STRICTNESS:
            return
        if _STRICTNESS.index(auth) < _STRICTNESS.index(usual):
            msg = f"auth: {auth} is less than the {usual} of the file; write discovery.docker.allow_open: true to permit it"
            raise _Refused(key="auth", message=msg)
        if not _listed(raw, "scopes") >= _listed(defaults, "scopes") and "scopes" in raw:
            raise _Refused(key="scopes", message="leaves out scopes of defaults.scopes")
        if (
            "roles" in raw
            and _listed(defaults, "roles")
            and not (_listed(raw, "roles") and _listed(raw, "roles") <= _listed(defaults, "roles"))
        ):
            raise _Refused(key="roles", message="lets in roles that defaults.roles does not have")

    def _validated(self, route: LabelRoute) -> RouteConfig:
        raw = {**route.raw, "name": route.name, "service": route.service}
        written = with_defaults({"defaults": self._base.defaults, "routes": [raw]})["routes"][0]
        try:
            made = RouteConfig.model_validate(written)
        except ValidationError as error:
            path, message = next(iter(findings(error, written)))
            raise _Refused(key=str(path[0]) if path else "path", message=message) from error
        for host in made.hosts:
            if not is_granted(host, self._rules.hosts):
                msg = f"{host} is no host that labels may claim; write it into discovery.docker.hosts of the file"
                raise _Refused(key="hosts", message=msg)
        return made

    def _check_claim(self, made: RouteConfig) -> None:
        claim = _claim(made)
        whose = next((name for name, other in self._claims if claim.takes_from(other)), None)
        if any(claim.wins(own) for own in self._own):
            whose = "an endpoint of the gateway"
        for route, other in self._made:
            if claim.is_like(_claim(other)):
                whose = f'the route "{route.name}" of the container {route.container}'
        if whose is not None:
            raise _Refused(key="path", message=f"{made.path} would take requests from {whose}")

    def loaded(self) -> Loaded:
        """Return the whole."""
        if not self._made:
            return replace(self._base, base=self._base)
        config = self._base.config
        services = dict(config.services)
        for route, _ in self._made:
            services.setdefault(route.service, ServiceConfig(docker=True))
        routes = (*config.routes, *(made for _, made in self._made))
        places = self._base.places
        others = {**places.others, **dict(self._places(len(config.routes)))}
        return replace(
            self._base,
            config=config.model_copy(update={"routes": routes, "services": services}),
            places=replace(places, others=others),
            base=self._base,
        )

    def _places(self, first: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the places of the routes, and of their keys, in the whole."""
        for at, (route, _) in enumerate(self._made, first):
            yield ("routes", at), f"container {route.container}"
            for key, label in route.labels.items():
                yield ("routes", at, key), f"container {route.container}, label {label}"


def _claim(route: RouteConfig) -> Claim:
    return Claim(route.path, route.exact, frozenset(route.hosts))


def _own(config: GatewayConfig, endpoints: Iterable[Endpoint]) -> Iterator[Claim]:
    """Yield the paths of the gateway's endpoints, those that are off now included, and of a team's. What is below them is theirs, too."""
    own = builtin_endpoints(config.prefix, config.auth, dashboard=config.dashboard.path)
    paths = {*all_paths(config.prefix), *(one.path for one in (*own, *endpoints))}
    # An endpoint that yields is not there at all where a route is on such a path.
    paths |= {one.yields for one in own if one.yields is not None}
    for path in sorted(paths):
        yield Claim(path)


def _listed(raw: Mapping[str, Any], key: str) -> set[str]:
    value = raw.get(key)
    return {value} if isinstance(value, str) else set(value or ())
