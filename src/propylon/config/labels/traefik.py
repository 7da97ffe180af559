"""Read Traefik's common labels. A router is never made weaker: what protects it and is not translated makes it no route. Pure."""

from collections.abc import Iterator, Mapping

from propylon.config.labels.labelled import LabelRoute, Said
from propylon.config.labels.own import NAME, default_service, read_port
from propylon.config.labels.rule import Matched, parse_rule

__all__ = ["PREFIX", "read_traefik"]

PREFIX = "traefik."
_ROUTERS, _SERVICES, _MIDDLEWARES = (
    f"traefik.http.{kind}." for kind in ("routers", "services", "middlewares")
)
_PORT = ".loadbalancer.server.port"
# They protect nothing, and what they do the gateway does in its own way, or not.
_HARMLESS = ("compress", "retry", "circuitbreaker")
_STRIP, _REDIRECT = "stripprefix", ("redirectscheme", "redirectregex")


class _Untranslated(ValueError):
    """A label cannot be translated; `key` is what it is about."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def read_traefik(labels: Mapping[str, str], said: Said) -> None:
    """Note what the labels of a container say, and what is wrong with them."""
    lower = {label.lower(): label for label in labels if label.lower().startswith(PREFIX)}
    for small, label in sorted(lower.items()):
        if small.startswith(_SERVICES) and small.endswith(_PORT):
            _read_port(small.removeprefix(_SERVICES).removesuffix(_PORT), label, labels, said)
        elif small.startswith(("traefik.tcp.", "traefik.udp.")):
            said.complain(label, "only routers of HTTP are read")
    for name, named in _named(_ROUTERS, lower).items():
        _read_router(name, named, lower, labels, said)


def _named(prefix: str, lower: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the labels below a prefix, by name and key."""
    found: dict[str, dict[str, str]] = {}
    for small, label in sorted(lower.items()):
        if small.startswith(prefix):
            name, _, key = small.removeprefix(prefix).partition(".")
            found.setdefault(name, {})[key] = label
    return found


def _read_port(name: str, label: str, labels: Mapping[str, str], said: Said) -> None:
    try:
        said.ports[name] = (read_port(labels[label]), 1)
    except ValueError as error:
        said.complain(label, str(error))


def _read_router(
    name: str,
    named: Mapping[str, str],
    lower: Mapping[str, str],
    labels: Mapping[str, str],
    said: Said,
) -> None:
    try:
        routes = list(_routes(name, named, lower, labels, said))
    except _Untranslated as error:
        label = named.get(error.key) or next(iter(named.values()))
        said.complain(label, f"the router {name} is no route: {error}")
        return
    for route in routes:
        said.routes.append(route)
        said.ports.setdefault(route.service, (None, 1))


def _routes(
    name: str,
    named: Mapping[str, str],
    lower: Mapping[str, str],
    labels: Mapping[str, str],
    said: Said,
) -> Iterator[LabelRoute]:
    """Yield a route for each path of a router. Raises _Untranslated."""
    if "rule" not in named or not NAME.fullmatch(name):
        raise _Untranslated(key="rule", message="it has no rule")
    try:
        matched = parse_rule(labels[named["rule"]])
    except ValueError as error:
        raise _Untranslated(key="rule", message=f"its rule {error}") from error
    stripped = _stripped(named, lower, labels)
    service, _, provider = labels.get(named.get("service", ""), "").lower().partition("@")
    if provider not in ("", "docker"):
        raise _Untranslated(
            key="service", message=f"its service is of another provider ({provider})"
        )
    service = service or default_service(labels, said)
    for at, (path, exact) in enumerate(matched.paths or (("/", False),)):
        raw = _raw(matched, path, exact=exact)
        if stripped is not None:
            if stripped != (path,):
                raise _Untranslated(
                    key="middlewares", message="it strips another prefix than that of its rule"
                )
            raw["strip_prefix"] = "true"
        keys = dict.fromkeys(("path", "hosts", "methods", "exact"), named["rule"])
        keys["strip_prefix"] = named.get("middlewares", named["rule"])
        yield LabelRoute(f"{name}-{at + 1}" if at else name, said.container, service, raw, keys)


def _raw(matched: Matched, path: str, *, exact: bool) -> dict[str, object]:
    raw: dict[str, object] = {"path": path}
    raw |= {"exact": "true"} if exact else {}
    raw |= {"hosts": list(matched.hosts)} if matched.hosts else {}
    return raw | ({"methods": list(matched.methods)} if matched.methods else {})


def _stripped(
    named: Mapping[str, str], lower: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Return the prefixes that middlewares strip; None: they strip nothing. Raises _Untranslated for any that does more."""
    stripped = None
    for written in labels.get(named.get("middlewares", ""), "").split(","):
        name = written.strip().lower().removesuffix("@docker")
        keys = _named(_MIDDLEWARES, lower).get(name, {})
        kinds = {key.partition(".")[0] for key in keys}
        if not name or (kinds and kinds <= set(_HARMLESS)):
            continue
        if kinds == {_STRIP}:
            prefixes = (
                labels[keys.get(f"{_STRIP}.prefixes", "")] if f"{_STRIP}.prefixes" in keys else ""
            )
            stripped = tuple(part.strip().rstrip("/") for part in prefixes.split(","))
        elif kinds & set(_REDIRECT):
            msg = "it redirects; write `redirect: https` at the listener, or a route with `redirect`, in the file"
            raise _Untranslated(key="middlewares", message=msg)
        else:
            shown = ", ".join(sorted(kinds)) or "which is not defined at this container"
            msg = f"its middleware {name} ({shown}) is not translated; write the route in the file"
            raise _Untranslated(key="middlewares", message=msg)
    return stripped
