"""Find settings that are valid and probably not meant. Pure."""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from propylon.config.models.endpoints import builtin_endpoints
from propylon.config.models.schema import GatewayConfig, JwtConfig
from propylon.config.models.syntax import is_socket_url
from propylon.config.reading import rules
from propylon.config.reading.credentials import suspicion, weakness
from propylon.config.reading.hashes import chosen_instances, missing_segments
from propylon.config.reading.itself import own_addresses
from propylon.config.reading.laxer import laxer_routes
from propylon.config.reading.limits import limit_warnings
from propylon.config.reading.problems import Doubt, Finding, Path
from propylon.config.reading.rules import Rule
from propylon.config.reading.shadows import shadowed_services
from propylon.proxy.authenticate.htpasswd import CHEAP_ROUNDS

__all__ = ["find_warnings"]

# Of OpenID Connect Discovery (4) and RFC 8414 (3).
_WELL_KNOWN = re.compile(r"/\.well-known/(?:openid-configuration|oauth-authorization-server)")
# Failures a second. One worker does not get more, unless the service refuses connections at once.
_MAX_FAILURE_RATE = 1000
_GRPC = 4317  # OTLP over gRPC; over HTTP it is the next one


def find_warnings(config: GatewayConfig) -> Iterator[Doubt]:
    """Yield a doubt for each such setting of a valid configuration."""
    for rule, doubts in _FINDERS:
        for path, message in doubts(config):
            yield path, message, rule.id


def _old_names(config: GatewayConfig) -> Iterator[Finding]:
    for name, service in config.services.items():
        if service.preserve_host is not None:
            msg = f"is understood as `host: {service.sent_host}`; write that"
            yield ("services", name, "preserve_host"), msg


def _overlapping_probes(config: GatewayConfig) -> Iterator[Finding]:
    for name, service in config.services.items():
        if service.health is not None and service.health.timeout > service.health.interval:
            msg = "is longer than interval, so a probe would start before the last one ends; write less"
            yield ("services", name, "health", "timeout"), msg


def _chosen_by_claims(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each condition on a header that services get from the token."""
    every = [one.claims for one in config.services.values()] + [one.claims for one in config.routes]
    claims = {name.lower() for names in every for name in names}
    for at, route in enumerate(config.routes):
        for name in route.match.headers:
            if name.lower() in claims:
                msg = (
                    "is a header that claims set: the route is chosen by what the client writes there, and the service"
                    " sees what the token says; choose by another header"
                )
                yield ("routes", at, "match", "headers", name), msg


def _grpc_port(config: GatewayConfig) -> Iterator[Finding]:
    endpoint = config.traces.endpoint
    if endpoint is not None and urlsplit(endpoint).port == _GRPC:
        msg = "port 4317 of a collector is for gRPC as a rule; spans go by HTTP, to port 4318"
        yield ("traces", "endpoint"), msg


def _socket_urls(config: GatewayConfig) -> Iterator[Finding]:
    for name, service in config.services.items():
        urls = service.urls
        for at, url in enumerate(urls):
            if is_socket_url(url):
                key = ("url",) if service.url is not None else ("instances", at)
                msg = f"is understood as http{url[2:]}, which serves requests and WebSockets; write that"
                yield ("services", name, *key), msg


def _jwt_entries(config: GatewayConfig) -> Iterator[tuple[Path, JwtConfig]]:
    """Yield each entry of `auth.jwt` with the path of what was written."""
    entries = config.auth.jwt.entries
    for at, entry in enumerate(entries):
        yield ("auth", "jwt", at) if config.auth.jwt.is_list else ("auth", "jwt"), entry


def _secrets_of(entry: Path, jwt: JwtConfig) -> Iterator[tuple[Path, str]]:
    secrets = jwt.secret or ()
    for at, hidden in enumerate(secrets):
        path = (*entry, "secret") if len(secrets) == 1 else (*entry, "secret", at)
        secret = hidden.get_secret_value()
        yield path, secret


def _weak_secrets(config: GatewayConfig) -> Iterator[Finding]:
    for entry, jwt in _jwt_entries(config):
        for path, secret in _secrets_of(entry, jwt):
            if why := weakness(secret, jwt.algorithms):  # without `debug: true` it is a problem
                yield path, f"is accepted only because of `debug: true`: it {why}"
            elif why := suspicion(secret):
                yield path, why


def _secrets_with_blanks(config: GatewayConfig) -> Iterator[Finding]:
    for entry, jwt in _jwt_entries(config):
        for path, secret in _secrets_of(entry, jwt):
            yield from _blanks_at_an_end(path, secret)
    auth = config.auth
    if auth.introspection.client_secret is not None:
        secret = auth.introspection.client_secret.get_secret_value()
        yield from _blanks_at_an_end(("auth", "introspection", "client_secret"), secret)
    url = auth.tokens.database.get_secret_value()
    yield from _blanks_at_an_end(("auth", "tokens", "database"), url)


def _blanks_at_an_end(path: Path, secret: str) -> Iterator[Finding]:
    if secret != secret.strip():
        msg = "begins or ends with white space, which counts as part of it; take it away if it is not meant"
        yield path, msg


def _unbound_keys(config: GatewayConfig) -> Iterator[Finding]:
    for path, jwt in _jwt_entries(config):
        if jwt.jwks_url is None:
            continue
        if _WELL_KNOWN.search(jwt.jwks_url):
            msg = "is the address of a provider's document, which holds no keys; write discovery_url for it"
            yield (*path, "jwks_url"), msg
        elif not jwt.issuer and not jwt.audience:
            msg = (
                "is without issuer and audience, so a token of each of the provider's applications passes, and an ID"
                " token may; set audience, and issuer"
            )
            yield (*path, "jwks_url"), msg


def _undecided_issuers(config: GatewayConfig) -> Iterator[Finding]:
    if not config.auth.several_issuers:
        return
    for at, route in enumerate(config.routes):
        if route.auth != "none" and not route.issuers:
            msg = "accepts the tokens of every issuer in auth.jwt; write issuers: with those that it is for"
            yield ("routes", at), msg


def _plaintext_sources(config: GatewayConfig) -> Iterator[Finding]:
    for path, jwt in _jwt_entries(config):
        for key in ("jwks_url", "discovery_url"):
            if _is_plaintext(getattr(jwt, key)):
                msg = "is fetched without TLS, so an attacker on the network can replace the keys"
                yield (*path, key), f"{msg}; write https://"
    if _is_plaintext(config.auth.introspection.url):
        msg = (
            "is asked without TLS, so an attacker on the network can read tokens and forge answers"
        )
        yield ("auth", "introspection", "url"), f"{msg}; write https://"


def _is_plaintext(url: str | None) -> bool:
    if url is None or urlsplit(url).scheme == "https":
        return False
    return not _is_local(urlsplit(url).hostname or "")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # RFC 6761, 6.3: names under .localhost resolve to loopback.
        return host == "localhost" or host.endswith(".localhost")


def _anonymous_introspection(config: GatewayConfig) -> Iterator[Finding]:
    introspection = config.auth.introspection
    if introspection.url is not None and introspection.client_id is None:
        msg = "is asked without client_id, and most servers refuse to answer then; set client_id"
        yield ("auth", "introspection", "url"), f"{msg} (RFC 7662, 2.1)"


def _no_key_for_routes(config: GatewayConfig) -> Iterator[Finding]:
    guarded = [at for at, route in enumerate(config.routes) if route.auth == "required"]
    # A client's certificate lets it in without a token.
    if not guarded or config.auth.verifies or config.tls.clients is not None:
        return
    others = f", and so do {len(guarded) - 1} more" if len(guarded) > 1 else ""
    msg = f"needs a token, and there is nothing to verify one with, so it answers 503{others}"
    advice = (
        "set auth.jwt.secret (or JWT_SECRET_KEY), public_key or jwks_url, or write `auth: none`"
    )
    yield ("routes", guarded[0]), f"{msg}; {advice}"


# What to do instead, by the last step of the path that was taken.
_INSTEAD = {
    "users": "manage users with `propylon user`, or give the route another path",
    "cache": "stored answers cannot be deleted by hand then; or give the route another path",
}


def _taken_endpoints(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for the first route in whose favour endpoints of the gateway are switched off, for each group."""
    said: set[str] = set()
    for endpoint in builtin_endpoints(
        config.prefix, config.auth, users=False, dashboard=config.dashboard.path
    ):
        if endpoint.yields is None or endpoint.yields in said:
            continue
        for at, route in enumerate(config.routes):
            if endpoint.yields_to(route.path):
                said.add(endpoint.yields)
                msg = (
                    f"takes the place of the gateway's own {endpoint.path}, and of what is below it"
                )
                advice = _INSTEAD.get(
                    endpoint.yields.rpartition("/")[2], "give the route another path"
                )
                yield ("routes", at, "path"), f"{msg}; {advice}"
                break


def _shared_answers(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each route whose callers get each other's answers, though they have to say who they are."""
    for at, route in enumerate(config.routes):
        asks = "asks for a token" if route.auth == "required" else f"has {route.guard}"
        shared = route.cache and route.cache.by == "everyone"
        if shared and (route.auth == "required" or route.guard):
            msg = (
                f"is everyone on a route that {asks}: each caller may get an answer that was made for another;"
                " write by: caller, or by: claim:NAME, unless the service answers all callers alike"
            )
            yield ("routes", at, "cache", "by"), msg


def _keys_of_strangers(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each route with idempotency keys whose callers nobody verifies."""
    for at, route in enumerate(config.routes):
        if route.idempotency is not None and route.auth == "none" and not route.basic_auth:
            msg = (
                "is on a route with auth: none: all callers that send neither Authorization nor Cookie share their keys, so"
                " who guesses a key gets the answer of another; write auth: required, or see that clients send random UUIDs"
            )
            yield ("routes", at, "idempotency"), msg


def _passwords_in_the_clear(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning, once, for passwords that any network between client and gateway can read."""
    server = config.server
    if config.tls.certificate is not None or server.trusted_proxies or _is_local(server.host):
        return
    for at, route in enumerate(config.routes):
        if route.basic_auth:
            msg = (
                "sends a password with each request, and neither the gateway nor a trusted proxy before it speaks TLS;"
                " set tls.certificate, or name the proxy in server.trusted_proxies"
            )
            yield ("routes", at, "basic_auth"), msg
            return


def _cheap_hashes(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each file whose hashes cost too little, at the first route that has it."""
    seen: set[str] = set()
    for at, route in enumerate(config.routes):
        basic = route.basic_auth
        if not basic or basic.file.get_secret_value() in seen:
            continue
        seen.add(basic.file.get_secret_value())
        if users := basic.cheap:
            more = f" and {len(users) - 1} more" if len(users) > 1 else ""
            msg = (
                f'has bcrypt hashes with a cost under {CHEAP_ROUNDS} (user "{users[0]}"{more}), which are guessed fast if the'
                f" file leaks; write them anew with: htpasswd -B -C {CHEAP_ROUNDS} FILE NAME"
            )
            yield ("routes", at, "basic_auth", "file"), msg


def _open_on_failure(config: GatewayConfig) -> Iterator[Finding]:
    for at, route in enumerate(config.routes):
        if route.forward_auth and route.forward_auth.on_failure == "open":
            msg = "is open: while there is no answer, every request passes as if it were allowed; write on_failure: closed"
            yield ("routes", at, "forward_auth", "on_failure"), msg


def _unverified(config: GatewayConfig) -> Iterator[Finding]:
    for name, service in config.services.items():
        if service.tls is not None and not service.tls.verify:
            msg = "is false, so an attacker on the network can read and change what goes to the service"
            advice = "write the certificates that you trust as ca, and the name that they have as server_name"
            yield ("services", name, "tls", "verify"), f"{msg}; {advice}"


def _never_opening_breakers(config: GatewayConfig) -> Iterator[Finding]:
    for name, service in config.services.items():
        for key in ("failure_threshold", "min_throughput"):
            needed = getattr(service.circuit, key)
            if needed > service.circuit.failure_window * _MAX_FAILURE_RATE:
                msg = f"is more than {_MAX_FAILURE_RATE} a second for all of failure_window: the breaker will"
                yield ("services", name, "circuit", key), f"{msg} hardly ever open; write less"


_FINDERS: tuple[tuple[Rule, Callable[[GatewayConfig], Iterator[Finding]]], ...] = (
    (rules.WEAK_SECRET, _weak_secrets),
    (rules.SECRET_WITH_BLANKS, _secrets_with_blanks),
    (rules.KEYS_WITHOUT_TLS, _plaintext_sources),
    (rules.UNBOUND_KEYS, _unbound_keys),
    (rules.PASSWORDS_IN_THE_CLEAR, _passwords_in_the_clear),
    (rules.CHEAP_HASHES, _cheap_hashes),
    (rules.OPEN_ON_FAILURE, _open_on_failure),
    (rules.UNDECIDED_ISSUERS, _undecided_issuers),
    (rules.ANONYMOUS_INTROSPECTION, _anonymous_introspection),
    (rules.NO_KEY, _no_key_for_routes),
    (rules.TAKEN_ENDPOINTS, _taken_endpoints),
    (rules.SHARED_ANSWERS, _shared_answers),
    (rules.SHARED_KEYS, _keys_of_strangers),
    (rules.SHADOWED_SERVICE, shadowed_services),
    (rules.OWN_ADDRESS, own_addresses),
    (rules.ESCAPABLE_LIMIT, limit_warnings),
    (rules.LAXER_ROUTE, laxer_routes),
    (rules.CHOSEN_BY_CLAIMS, _chosen_by_claims),
    (rules.COLLECTOR_PORT, _grpc_port),
    (rules.SOCKET_URL, _socket_urls),
    (rules.OLD_NAME, _old_names),
    (rules.UNREACHABLE_BREAKER, _never_opening_breakers),
    (rules.UNVERIFIED_SERVICE, _unverified),
    (rules.OVERLAPPING_PROBES, _overlapping_probes),
    (rules.CHOSEN_INSTANCE, chosen_instances),
    (rules.MISSING_SEGMENT, missing_segments),
)
