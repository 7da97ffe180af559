"""Name the rules by which a valid configuration is doubted: `propylon check` and the log warn by them. Pure.

`propylon audit` has these, and more of its own: `propylon.commands.audit.catalogue`. An id stays: files of other programs
silence rules by it. docs/reference/audit.md is made from both.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ANONYMOUS_INTROSPECTION",
    "CERTIFICATE",
    "CHEAP_HASHES",
    "CHOSEN_BY_CLAIMS",
    "CHOSEN_INSTANCE",
    "COLLECTOR_PORT",
    "DOUBTS",
    "ENVFILE_LINE",
    "ESCAPABLE_LIMIT",
    "IDLE",
    "IN_USE",
    "KEYS_WITHOUT_TLS",
    "LAXER_ROUTE",
    "MISSING_SEGMENT",
    "NOTHING_HERE",
    "NO_KEY",
    "OLD_NAME",
    "OPEN_ON_FAILURE",
    "OVERLAPPING_PROBES",
    "OWN_ADDRESS",
    "PASSWORDS_IN_THE_CLEAR",
    "SECRET_WITH_BLANKS",
    "SHADOWED_SERVICE",
    "SHARED_ANSWERS",
    "SHARED_KEYS",
    "SOCKET_URL",
    "STRAY_VARIABLE",
    "TAKEN_ENDPOINTS",
    "UNBOUND_KEYS",
    "UNBRACED_VARIABLE",
    "UNDECIDED_ISSUERS",
    "UNREACHABLE_BREAKER",
    "UNUSED_VARIABLE",
    "UNVERIFIED_SERVICE",
    "WEAK_SECRET",
    "Level",
    "Rule",
]

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its id and its name for programs, what it finds, why that matters, and how to mend it."""

    id: str
    name: str
    level: Level
    finds: str
    why: str
    mend: str


def _doubt(number: int, name: str, finds: str, why: str, mend: str) -> Rule:
    return Rule(f"PRP{number}", name, "warning", finds, why, mend)


WEAK_SECRET = _doubt(
    101,
    "weak-secret",
    "A secret that signs tokens can be guessed.",
    "Whoever knows the secret signs tokens of any user, with any scope.",
    "Make a new one of 32 random bytes or more, and keep it in a file or a variable.",
)
SECRET_WITH_BLANKS = _doubt(
    102,
    "secret-with-blanks",
    "A secret, or the URL of a database, begins or ends with white space.",
    "The white space counts. It often comes from a file or a template, and the other side does not have it.",
    "Take the white space away.",
)
KEYS_WITHOUT_TLS = _doubt(
    103,
    "keys-without-tls",
    "Keys are fetched, or tokens are asked about, without TLS.",
    "An attacker on the network replaces the keys, and so signs tokens that the gateway accepts.",
    "Write https:// in the URL.",
)
UNBOUND_KEYS = _doubt(
    104,
    "unbound-key-set",
    "A key set has neither issuer nor audience, or the URL is that of a document without keys.",
    "A provider signs the tokens of all its applications with the same keys: each of them passes.",
    "Set audience and issuer of the entry in auth.jwt; write discovery_url for a provider's document.",
)
UNDECIDED_ISSUERS = _doubt(
    105,
    "undecided-issuers",
    "A route accepts the tokens of every issuer, and there are several.",
    "A user of one issuer reaches what is meant for those of another.",
    "Write issuers on the route, with those that it is for.",
)
ANONYMOUS_INTROSPECTION = _doubt(
    106,
    "anonymous-introspection",
    "Introspection is asked without client_id.",
    "Most servers answer nobody who does not say who asks (RFC 7662, 2.1), so each token is refused.",
    "Set auth.introspection.client_id, and client_secret.",
)
NO_KEY = _doubt(
    107,
    "no-key",
    "A route needs a token, and there is nothing to verify one with.",
    "Each request to it is answered 503.",
    "Set auth.jwt.secret, public_key, jwks_url or discovery_url, or write `auth: none` on the route.",
)
TAKEN_ENDPOINTS = _doubt(
    108,
    "taken-endpoints",
    "A route takes the place of endpoints of the gateway.",
    "What the endpoints do cannot be done any more, such as to manage users.",
    "Give the route another path, or set another prefix.",
)
SHARED_ANSWERS = _doubt(
    109,
    "shared-answers",
    "A route that wants a token has a cache of which all callers get the same answers.",
    "A caller reads an answer that was made for another one.",
    "Write by: caller, or by: claim:NAME, in the cache of the route.",
)
SHADOWED_SERVICE = _doubt(
    110,
    "shadowed-service",
    "Endpoints of the gateway answer a part of what a route leads to.",
    "The service never sees those requests. A login may be answered out of the gateway's own empty table of users.",
    "Write auth.tokens.enabled: false where a service issues the tokens; else another prefix or path.",
)
OWN_ADDRESS = _doubt(
    111,
    "own-address",
    "The URL of a service is the gateway's own address.",
    "A request goes round until no connection is free.",
    "Write the address of the service, or another server.port.",
)
ESCAPABLE_LIMIT = _doubt(
    112,
    "escapable-limit",
    "A limit counts by a header that clients without a token choose.",
    "A client sends another value with each request, and is never limited.",
    "Add a limit with key: ip.",
)
SOCKET_URL = _doubt(
    113,
    "socket-url",
    "The URL of a service begins with ws:// or wss://.",
    "One URL serves requests and WebSockets; the other spelling makes readers look for two services.",
    "Write http:// or https://.",
)
OLD_NAME = _doubt(
    114,
    "old-name",
    "A key has the name that another gateway gives it.",
    "It works, and readers of the documentation do not find it.",
    "Write the key that the message names.",
)
UNREACHABLE_BREAKER = _doubt(
    115,
    "unreachable-breaker",
    "A breaker needs more failures than a worker can get.",
    "It never opens, so a failing service gets all requests.",
    "Write smaller numbers in services.X.circuit.",
)
UNVERIFIED_SERVICE = _doubt(
    116,
    "unverified-service",
    "The certificate of a service is not checked.",
    "An attacker on the network reads and changes what goes to the service.",
    "Write the certificates that you trust as tls.ca of the service, and their name as server_name.",
)
OVERLAPPING_PROBES = _doubt(
    117,
    "overlapping-probes",
    "A health probe may take longer than the time between two probes.",
    "A slow instance gets more and more probes, and becomes slower.",
    "Write a health.timeout that is shorter than health.interval.",
)
IDLE = _doubt(
    118,
    "idle",
    "There is no route, no route leads to a service, or a service has no instance.",
    "What was meant to be served is not.",
    "Write the route or the instance, or take the service out.",
)
UNBRACED_VARIABLE = _doubt(
    119,
    "unbraced-variable",
    "A value holds $NAME as it stands.",
    "Only ${NAME} is replaced, so the value is the text of the reference.",
    "Write ${NAME} for the variable, or $$NAME for this text.",
)
ENVFILE_LINE = _doubt(
    120,
    "envfile-line",
    "A line of .env is no assignment, or uses a variable that is not set.",
    "The line sets nothing, or less than was meant.",
    "Write NAME=value, and set the other variable above the line.",
)
STRAY_VARIABLE = _doubt(
    121,
    "stray-variable",
    "A variable begins with PROPYLON_, and the gateway does not know it.",
    "It sets nothing: the default holds.",
    "Write the name that the message proposes, or take the variable away.",
)
UNUSED_VARIABLE = _doubt(
    122,
    "unused-variable",
    "NAME_SERVICE_PUBLIC is set without NAME_SERVICE_URL.",
    "It opens nothing.",
    "Set NAME_SERVICE_URL, or take the variable away.",
)
NOTHING_HERE = _doubt(
    123,
    "nothing-here",
    "There is neither a file nor a variable that names a service.",
    "The gateway starts, and answers 404 to everything but its own endpoints.",
    "Go to the directory of the file, name it with --config, or write one with `propylon init`.",
)
CERTIFICATE = _doubt(
    124,
    "certificate",
    "A certificate of the gateway has expired, will soon, or lacks what clients ask for.",
    "Clients refuse the connection.",
    "Renew the certificate, and reload the gateway.",
)
IN_USE = _doubt(
    125,
    "address-in-use",
    "Another program, or this gateway itself, listens on the address.",
    "A second gateway cannot start here.",
    "Nothing, if the gateway runs: reload it. Else end the other program, or write another address.",
)
COLLECTOR_PORT = _doubt(
    126,
    "collector-port",
    "Spans go to port 4317, which is for gRPC as a rule.",
    "The gateway sends them by HTTP, and a collector does not understand that there: they are lost.",
    "Write port 4318 in traces.endpoint.",
)

LAXER_ROUTE = _doubt(
    127,
    "laxer-route",
    "A client can choose a route that asks for less than another one to the same service.",
    "What a header, a query parameter or a cookie says is the client's to choose, so the stricter route protects nothing.",
    "Let both routes ask for the same token, scopes and roles.",
)

CHOSEN_BY_CLAIMS = _doubt(
    128,
    "chosen-by-claims",
    "A route is chosen by a header that services get from the token.",
    "The client writes the header that chooses; the service then sees the value of the token in it.",
    "Choose by another header.",
)

SHARED_KEYS = _doubt(
    129,
    "shared-idempotency-keys",
    "A route with idempotency keys asks nobody who they are.",
    "Callers without credentials share their keys: who guesses a key gets the answer of another caller.",
    "Write auth: required, or see that clients send random UUIDs.",
)

PASSWORDS_IN_THE_CLEAR = _doubt(
    132,
    "passwords-in-the-clear",
    "A route asks for a password, and its connections are not encrypted.",
    "Whoever sees the network has the password, with each request.",
    "Set tls.certificate, or let a proxy speak TLS and name it in server.trusted_proxies.",
)

CHEAP_HASHES = _doubt(
    133,
    "cheap-hashes",
    "A file of users has bcrypt hashes with a small cost.",
    "Who gets hold of the file guesses the passwords in a short time.",
    "Write the lines anew with: htpasswd -B -C 10 FILE NAME.",
)

OPEN_ON_FAILURE = _doubt(
    134,
    "open-on-failure",
    "A route lets requests pass if the service that decides about them gives no answer.",
    "Whoever can keep that service from answering gets in.",
    "Write on_failure: closed, or take the key out.",
)

CHOSEN_INSTANCE = _doubt(
    140,
    "chosen-instance",
    "A client without a token chooses the instance that gets its requests.",
    "The instance is chosen by a hash of what the client sends. With one value it can send all its load to one instance.",
    "Write a bound beside the hash, such as bound: 1.25, or ask for a token.",
)

MISSING_SEGMENT = _doubt(
    141,
    "missing-segment",
    "An instance is chosen by a segment that the path of a route does not have.",
    "Requests of that route are sent out by the address of the client, and not by what was meant.",
    "Name the segment in the path of the route.",
)

DOUBTS = (
    WEAK_SECRET,
    SECRET_WITH_BLANKS,
    KEYS_WITHOUT_TLS,
    UNBOUND_KEYS,
    UNDECIDED_ISSUERS,
    ANONYMOUS_INTROSPECTION,
    NO_KEY,
    TAKEN_ENDPOINTS,
    SHARED_ANSWERS,
    SHADOWED_SERVICE,
    OWN_ADDRESS,
    ESCAPABLE_LIMIT,
    SOCKET_URL,
    OLD_NAME,
    UNREACHABLE_BREAKER,
    UNVERIFIED_SERVICE,
    OVERLAPPING_PROBES,
    IDLE,
    UNBRACED_VARIABLE,
    ENVFILE_LINE,
    STRAY_VARIABLE,
    UNUSED_VARIABLE,
    NOTHING_HERE,
    CERTIFICATE,
    IN_USE,
    COLLECTOR_PORT,
    LAXER_ROUTE,
    CHOSEN_BY_CLAIMS,
    SHARED_KEYS,
    PASSWORDS_IN_THE_CLEAR,
    CHEAP_HASHES,
    OPEN_ON_FAILURE,
    CHOSEN_INSTANCE,
    MISSING_SEGMENT,
)
"""All of them, in the order of their ids."""
