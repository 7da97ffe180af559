"""Find conflicts between parts of a configuration: unknown services, duplicate names, colliding routes. Pure."""

from collections.abc import Iterator, Mapping

from propylon.config.models.auth import WHILE_USERS
from propylon.config.models.endpoints import all_paths
from propylon.config.models.schema import BUILTIN_SERVICE, with_defaults
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.syntax import prefix_of
from propylon.config.models.units import is_false, parse_share
from propylon.config.reading.credentials import credential_findings
from propylon.config.reading.issuers import issuer_findings
from propylon.config.reading.listeners import listener_findings
from propylon.config.reading.logged import logged_tokens
from propylon.config.reading.otel import encoder_findings
from propylon.config.reading.overlaps import Matcher, Named, matcher_of, overlaps, said
from propylon.config.reading.problems import Finding, Path
from propylon.config.reading.stickies import sticky_findings

__all__ = ["cross_check"]

# Keys of a route that name another service.
_OTHERS = ("fallback", "mirror")


def cross_check(written: object, named: Named) -> Iterator[Finding]:
    """Yield every conflict in a raw configuration, whether it is valid otherwise or not."""
    yield from credential_findings(written)
    yield from issuer_findings(written)
    yield from listener_findings(written)
    yield from encoder_findings(written)
    yield from logged_tokens(written)
    whole = with_defaults(written)
    if not isinstance(whole, dict) or not isinstance(whole.get("routes"), list):
        return
    raw = {at: route for at, route in enumerate(whole["routes"]) if isinstance(route, dict)}
    yield from _dangling(raw, whole.get("services"))
    yield from _reserved(whole.get("services"))
    yield from _answered_preflights(raw, whole)
    yield from _undocumented(raw, whole)
    yield from sticky_findings(whole)
    matchers = [matcher_of(at, r) for at, r in raw.items() if isinstance(r.get("path"), str)]
    yield from _same_names(matchers, named)
    yield from _own_paths(matchers, whole)
    yield from overlaps(matchers, named)


def _dangling(routes: Mapping[int, dict[str, object]], services: object) -> Iterator[Finding]:
    known = services if isinstance(services, dict) else {}
    for at, route in routes.items():
        for path, service in (*_services_of(route), *_others_of(route)):
            if service not in known:
                hint = did_you_mean(service, known)
                yield ("routes", at, *path), f'no service "{service}"{hint}'


def _services_of(route: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    """Yield the services that get requests of a route, each with its place in the route."""
    if isinstance(service := route.get("service"), str):
        yield ("service",), service
    split = route.get("split")
    for at, part in enumerate(split if isinstance(split, list | tuple) else ()):
        if isinstance(part, dict) and isinstance(service := part.get("service"), str):
            yield ("split", at, "service"), service


def _others_of(route: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    """Yield the services that a route names besides, each with its place in the route."""
    for key in _OTHERS:
        service = _section(route, key).get("service")
        if isinstance(service, str) and service:
            yield (key, "service"), service


def _reserved(services: object) -> Iterator[Finding]:
    if isinstance(services, dict) and BUILTIN_SERVICE in services:
        msg = f'"{BUILTIN_SERVICE}" is what logs and metrics call the gateway itself'
        yield ("services", BUILTIN_SERVICE), msg


def _answered_preflights(
    routes: Mapping[int, dict[str, object]], whole: Mapping[str, object]
) -> Iterator[Finding]:
    everywhere = bool(_section(whole, "cors").get("origins"))
    for at, route in routes.items():
        own = route.get("cors")
        answers = everywhere if own is None else isinstance(own, dict)
        if answers and route.get("preflight") == "pass":
            where = "cors.origins" if own is None else "cors"
            msg = f"no preflight can pass: with {where} the gateway answers all of them"
            advice = (
                "take one of the two out"
                if own
                else "take one of the two out, or write cors: none on this route"
            )
            yield ("routes", at, "preflight"), f"{msg}; {advice}"


def _undocumented(
    routes: Mapping[int, dict[str, object]], whole: Mapping[str, object]
) -> Iterator[Finding]:
    services = _section(whole, "services")
    for at, route in routes.items():
        for _, name in _services_of(route):
            service = services.get(name)
            documented = isinstance(service, dict) and service.get("openapi") not in (None, False)
            if name in services and not documented:
                yield from _missed(at, route, f"write `openapi: true` in services.{name}")
                break


def _missed(at: int, route: Mapping[str, object], advice: str) -> Iterator[Finding]:
    if route.get("security") == "from-document":
        msg = f"there is no document to take it from; {advice}"
        yield ("routes", at, "security"), msg
    if route.get("requests") in {"shadow", "validate"}:
        msg = f"there is no document to check them against; {advice}"
        yield ("routes", at, "requests"), msg
    if _share(_section(route, "responses").get("sample")):
        msg = f"there is no document to hold them against; {advice}"
        yield ("routes", at, "responses"), msg


def _share(value: object) -> float:
    try:
        return parse_share(value)
    except ValueError:
        return 0.0


def _same_names(matchers: list[Matcher], named: Named) -> Iterator[Finding]:
    first: dict[str, Matcher] = {}
    for one in matchers:
        other = first.setdefault(one.name, one)
        if not (one.named or other.named) and one.match != other.match:
            # Limits, metrics and the log tell routes apart by their names.
            msg = f"{said(other, named)} has the same path, and they differ in `match`; give each a name"
            yield ("routes", one.at, "path"), msg
        # Routes without a name of their own share the path's: one path, disjoint methods.
        if other is not one and (one.named or other.named):
            yield (
                ("routes", one.at, "name"),
                f'the name "{one.name}" is taken by {said(other, named)}',
            )


def _section(written: object, name: str) -> Mapping[str, object]:
    section = written.get(name) if isinstance(written, dict) else None
    return section if isinstance(section, dict) else {}


def _own_paths(matchers: list[Matcher], whole: Mapping[str, object]) -> Iterator[Finding]:
    prefix = prefix_of(whole.get("prefix"))
    own = all_paths(prefix)
    enabled = _section(_section(whole, "auth"), "tokens").get("enabled")
    if is_false(enabled) or enabled == WHILE_USERS:
        own.discard(f"{prefix}/auth/token")  # a service of the operator's issues the tokens
    if is_false(enabled):
        own.discard(f"{prefix}/users/me")  # and describes its users
    for one in matchers:
        if one.shape in own:
            yield (
                ("routes", one.at, "path"),
                f"{one.path} is the path of one of the gateway's own endpoints",
            )
