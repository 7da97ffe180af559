"""Name the rules that only an audit has, and list all rules. Pure.

The doubts of `check` are in `propylon.config.reading.rules`. An id stays: files of other programs silence rules by it.
"""

from __future__ import annotations

from propylon.config.reading.rules import DOUBTS, Level, Rule

__all__ = [
    "ADMIN_OF_ANY_ISSUER",
    "ADMIN_SCOPE_ON_ROUTE",
    "ANYBODY_ALLOWED",
    "BREAKER_WITHOUT_TRAFFIC",
    "BY_ID",
    "CACHE_WITHOUT_HITS",
    "COMPRESSED_BEHIND_COOKIES",
    "KEYS_WITHOUT_AUDIENCE",
    "LIMIT_NEVER_REACHED",
    "LONG_TIMEOUT",
    "OBSERVED",
    "OTHER_CONFIGURATION",
    "READ_SCOPE_WRITES",
    "ROUTE_NEVER_HIT",
    "RULES",
    "SHORT_TIMEOUT",
    "UNUSABLE",
]

UNUSABLE = Rule(
    "PRP001",
    "unusable-configuration",
    "error",
    "The configuration cannot be used.",
    "The gateway does not start with it, and a reload of it is refused.",
    "Do what the message says. `propylon check` shows all problems.",
)


def _wide(number: int, name: str, finds: str, why: str, mend: str) -> Rule:
    return Rule(f"PRP{number}", name, "warning", finds, why, mend)


KEYS_WITHOUT_AUDIENCE = _wide(
    201,
    "keys-without-audience",
    "A key set that a provider publishes has an issuer, and no audience.",
    "The provider signs tokens for all its applications: one that was made for another application passes here (RFC 8725, 3.9).",
    "Set audience of the entry in auth.jwt to the name that the provider has for this API.",
)
ADMIN_SCOPE_ON_ROUTE = _wide(
    202,
    "admin-scope-on-route",
    "A route asks for a scope that also opens endpoints of the gateway.",
    "Everybody who may use the route may run the gateway, too: revoke tokens, register instances, read metrics.",
    "Ask for another scope on the route, or set admin.scope and admin.scopes to names that no route asks for.",
)
ADMIN_OF_ANY_ISSUER = _wide(
    203,
    "admin-of-any-issuer",
    "There are several issuers, and the admin endpoints take tokens of each of them.",
    "Whoever may give out scopes at one of the issuers makes admins of this gateway.",
    "Set admin.issuer.",
)
READ_SCOPE_WRITES = _wide(
    204,
    "read-scope-writes",
    "The only scope of a route is one for reading, and the route lets methods through that write.",
    "A token that was given out for reading changes data, unless the service checks it once more.",
    "Write methods: [GET, HEAD] on the route, and a second route with a scope of its own for the others.",
)
ANYBODY_ALLOWED = _wide(
    205,
    "anybody-allowed",
    "A list of networks that may run the gateway, read its metrics or register instances holds all addresses.",
    "The list is there to keep others out, and keeps nobody out.",
    "Write the networks that are meant, or take the key out.",
)

COMPRESSED_BEHIND_COOKIES = _wide(
    206,
    "compressed-behind-cookies",
    "A route compresses answers to callers whom a cookie identifies.",
    "Any page can make their browsers ask. If an answer has a secret beside what was asked with, its length tells the secret (BREACH).",
    "Write compress: none where answers hold secrets, or make sure that none of them repeats what a client has sent.",
)


def _seen(number: int, name: str, level: Level, finds: str, why: str, mend: str) -> Rule:
    return Rule(f"PRP{number}", name, level, finds, why, mend)


LONG_TIMEOUT = _seen(
    301,
    "long-timeout",
    "note",
    "A timeout is more than twenty times as long as 99 of 100 requests really take.",
    "When the service hangs, each request holds a connection for so long, and clients wait in vain.",
    "Write a smaller number: two to five times the p99 leaves room for a slow day.",
)
SHORT_TIMEOUT = _seen(
    302,
    "short-timeout",
    "warning",
    "One request of a hundred or more ends with 504, as slow as the timeout; or 99 of 100 take longer than four fifths of max_duration.",
    "Requests are cut that would have been answered.",
    "Write a larger number, or make the service faster.",
)
ROUTE_NEVER_HIT = _seen(
    303,
    "route-never-hit",
    "note",
    "A route has had no request, while the gateway has had many.",
    "Nobody uses it, or another route takes its requests. A path that is open and forgotten is an attack surface.",
    "Ask `propylon explain` where its requests go; take the route out if nobody needs it.",
)
LIMIT_NEVER_REACHED = _seen(
    304,
    "limit-never-reached",
    "note",
    "A limit has refused nothing in ten times as many decisions as are needed to judge.",
    "It may be too high to protect the service. In shadow mode: it is safe to enforce.",
    "Lower the rate to a small multiple of what callers do, or leave it if it is there for attacks only.",
)
BREAKER_WITHOUT_TRAFFIC = _seen(
    305,
    "breaker-without-traffic",
    "note",
    "A service gets so few requests that its breaker cannot open, even if all of them fail.",
    "The breaker is written, and protects nothing: every request waits for the timeout.",
    "Write a longer failure_window, or a smaller failure_threshold and min_throughput.",
)
CACHE_WITHOUT_HITS = _seen(
    306,
    "cache-without-hits",
    "note",
    "Fewer than one request in a hundred is answered from the cache of a route.",
    "The cache takes memory and look-ups, and saves the service nothing.",
    "Look at what the answers differ by (vary, query, caller), or take the cache out.",
)
OTHER_CONFIGURATION = _seen(
    307,
    "other-configuration",
    "note",
    "The running gateway has counted requests of routes that the file does not have.",
    "It runs another file, or an older one: what was measured may not hold for this one.",
    "Reload the gateway, or name its own file with --config. After a reload, counts of removed routes stay until a restart.",
)

OBSERVED = (
    LONG_TIMEOUT,
    SHORT_TIMEOUT,
    ROUTE_NEVER_HIT,
    LIMIT_NEVER_REACHED,
    BREAKER_WITHOUT_TRAFFIC,
    CACHE_WITHOUT_HITS,
    OTHER_CONFIGURATION,
)
"""The rules that need traffic."""
RULES = (
    UNUSABLE,
    *DOUBTS,
    KEYS_WITHOUT_AUDIENCE,
    ADMIN_SCOPE_ON_ROUTE,
    ADMIN_OF_ANY_ISSUER,
    READ_SCOPE_WRITES,
    ANYBODY_ALLOWED,
    COMPRESSED_BEHIND_COOKIES,
    *OBSERVED,
)
"""All rules, in the order of their ids."""
BY_ID = {rule.id: rule for rule in RULES}
