"""Name every metric: its kind, its labels, and what it tells. Pure.

`/metrics` has all of them from the start, those without a value, too, so that an alert can be written before the first
failure. docs/reference/metrics.md is made from this table.

Rules.

1. Labels come from the configuration, from the registry, from the names of a team's functions and from llhttp's list of methods. No client can create a time
   series with a path, a method or a header that it invents.
2. A name, a label and their meaning stay: dashboards and alerts rest on them.
3. Each label can be left out, by `metrics.drop_labels`: what it told apart is added up.
4. Seconds and bytes, as Prometheus asks for; nothing in milliseconds or percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ANSWER_CHECKS",
    "CACHE",
    "CACHE_BYTES",
    "CALLS",
    "CALL_DURATION",
    "CIRCUIT_STATE",
    "CIRCUIT_TRANSITIONS",
    "CONCURRENCY_LIMIT",
    "CONFIG_RELOADS",
    "CONFIG_SUCCESS",
    "CONNECTIONS",
    "CPU",
    "DATABASE",
    "DISCOVERY_UP",
    "DURATION",
    "EJECTIONS",
    "FALLBACKS",
    "FAMILIES",
    "FAULTS",
    "FILES",
    "FORWARD_AUTH",
    "HEDGES",
    "INSTANCE_UP",
    "KEY_SET_AGE",
    "LIMIT_DECISIONS",
    "LOG_LOST",
    "LOOP_BLOCKS",
    "LOOP_LAG",
    "MEMORY",
    "MIRRORED",
    "OVERHEAD",
    "QUEUE",
    "RECEIVED",
    "REQUESTS",
    "REQUEST_CHECKS",
    "RETRIES",
    "REVOCATION_LAG",
    "SENT",
    "SOCKETS",
    "SPANS",
    "TOKEN_VERIFICATIONS",
    "UPSTREAM_CONNECTIONS",
    "UPSTREAM_WAITING",
    "WORKERS",
    "Family",
    "Kind",
]


class Kind(StrEnum):
    """What the numbers of a metric mean, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric.

    - `name`: without the `_total` that the text format adds to a counter.
    - `buckets`: of a histogram, their upper bounds.
    - `summed`: each worker has a part, and the value is their sum. False: every worker knows the whole.
    """

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    summed: bool = True

    @property
    def width(self) -> int:
        """How many numbers a row of it has: a histogram's counts, that of the values beyond, and the sum."""
        return len(self.buckets) + 2 if self.buckets else 1


_ROUTE = ("route", "service")
# Seconds. The gateway itself adds less than a millisecond, so the buckets start there; a slow report may take 30 s.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
_DATABASE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

REQUESTS = Family(
    "propylon_requests", Kind.COUNTER, "Exchanges that ended.", (*_ROUTE, "method", "status")
)
DURATION = Family(
    "propylon_request_duration_seconds",
    Kind.HISTOGRAM,
    "From the head of the request to the end of the answer.",
    _ROUTE,
    _REQUEST,
)
RECEIVED = Family("propylon_request_body_bytes", Kind.COUNTER, "Bytes of request bodies.", _ROUTE)
SENT = Family("propylon_response_body_bytes", Kind.COUNTER, "Bytes of response bodies.", _ROUTE)
OVERHEAD = Family(
    "propylon_overhead_seconds",
    Kind.HISTOGRAM,
    "What the gateway itself added: from the head of the request until it went to the upstream, and from the head of "
    "the answer until it was passed on. Without the wait for upstreams, and without the time that bodies take.",
    buckets=_OVERHEAD,
)
FAULTS = Family(
    "propylon_local_faults",
    Kind.COUNTER,
    "Exchanges that failed because the gateway itself lacked descriptors, ports or buffers.",
    ("fault",),
)
RETRIES = Family(
    "propylon_retries",
    Kind.COUNTER,
    "Requests that were sent again, by what the attempt before ended with: connect-failure, reset, timeout, or a status.",
    ("service", "reason"),
)
FALLBACKS = Family(
    "propylon_fallbacks",
    Kind.COUNTER,
    "Requests of routes with `fallback` whose service failed, by what failed (a word or a status of `fallback.on`), and what answered "
    "in its place: stored (the cache), fixed, or service (another one).",
    ("route", "service", "reason", "by"),
)
HEDGES = Family(
    "propylon_hedges",
    Kind.COUNTER,
    "Requests of services with `hedge` that were sent a second time beside the first: won (the second one's answer went on) or lost.",
    ("service", "result"),
)
MIRRORED = Family(
    "propylon_mirrored_requests",
    Kind.COUNTER,
    "Requests of routes with `mirror` that were to be copied, by the mirror's service and by what became of the copy: answered, 5xx, a "
    "failure (open-circuit, unavailable, connect-failure, reset, bad-response, timeout, failed); or there was no copy: dropped (too many "
    "wait), too_large, or incomplete (the answer came before the whole body).",
    ("route", "service", "result"),
)
CIRCUIT_STATE = Family(
    "propylon_circuit_state",
    Kind.GAUGE,
    "The circuit breaker: 0 closed, 1 half open, 2 open.",
    ("service",),
    summed=False,
)
CIRCUIT_TRANSITIONS = Family(
    "propylon_circuit_transitions",
    Kind.COUNTER,
    "Changes of the circuit breaker, by the new state; each counts once for the machine.",
    ("service", "to"),
)
CONCURRENCY_LIMIT = Family(
    "propylon_concurrency_limit",
    Kind.GAUGE,
    "How many requests to a service with `adaptive_concurrency` may wait for their answers now, in the worker that is asked.",
    ("service",),
    summed=False,
)
INSTANCE_UP = Family(
    "propylon_instance_up",
    Kind.GAUGE,
    "Whether the instance may be asked: 1, or 0 while it is unhealthy or ejected.",
    ("service", "instance"),
    summed=False,
)
DISCOVERY_UP = Family(
    "propylon_discovery_up",
    Kind.GAUGE,
    "Whether what the worker that is asked knows of a source of instances is up to date: 1, or 0 while the source is away and the last "
    "known instances stay.",
    ("source",),
    summed=False,
)
EJECTIONS = Family(
    "propylon_instance_ejections",
    Kind.COUNTER,
    "How often an instance was ejected after failures in a row; each counts once for the machine.",
    ("service", "instance"),
)
LIMIT_DECISIONS = Family(
    "propylon_limit_decisions",
    Kind.COUNTER,
    "Decisions of rate limits: allowed, refused, or shadow (it would have refused).",
    ("limit", "decision"),
)
CACHE = Family(
    "propylon_cache",
    Kind.COUNTER,
    "What the caches of routes did with requests: hit, stale (served so), miss, revalidated, bypass, coalesced (another "
    "request brought the answer); and stored: answers that were kept.",
    ("route", "result"),
)
REQUEST_CHECKS = Family(
    "propylon_request_checks",
    Kind.COUNTER,
    "Requests of routes with `requests`: passed, refused, shadow (it would have been refused), unchecked (the body is too "
    "large, or coded, or the schema cannot be checked), undocumented (the document does not have the operation), or "
    "no_document (none has been read yet).",
    ("route", "result"),
)
FORWARD_AUTH = Family(
    "propylon_forward_auth",
    Kind.COUNTER,
    "Questions of routes with `forward_auth`: allowed, refused (the answer went to the client), failed (no answer: 503), or open "
    "(no answer, and the request passed: `on_failure: open`).",
    ("route", "result"),
)
ANSWER_CHECKS = Family(
    "propylon_answer_checks",
    Kind.COUNTER,
    "Samples of answers of routes with `responses`: fits, drift (it is not what the document says), unchecked (the body is "
    "larger than 64 KiB, in another coding than gzip, of a type or schema that cannot be checked, or too many samples "
    "wait), undocumented (the document does not have the operation, or the status of an error), or no_document.",
    ("route", "result"),
)
CACHE_BYTES = Family(
    "propylon_cache_bytes", Kind.GAUGE, "Memory that stored answers take in all workers."
)
TOKEN_VERIFICATIONS = Family(
    "propylon_token_verifications",
    Kind.COUNTER,
    "Verifications of tokens: cached (known to be good), verified, expired, revoked, invalid, or unavailable (no key, or no answer "
    "of the issuer).",
    ("outcome",),
)
KEY_SET_AGE = Family(
    "propylon_key_set_age_seconds",
    Kind.GAUGE,
    "How long ago the worker that is asked has last had the key set from its source.",
    ("source",),
    summed=False,
)
REVOCATION_LAG = Family(
    "propylon_revocation_lag_seconds",
    Kind.GAUGE,
    "How long ago the worker that is asked has last read which tokens were revoked.",
    summed=False,
)
DATABASE = Family(
    "propylon_database_seconds",
    Kind.HISTOGRAM,
    "How long a use of the database took, from the connection to the end of the transaction: read or write. Failed ones count, too.",
    ("operation",),
    _DATABASE,
)
QUEUE = Family(
    "propylon_queue_seconds",
    Kind.HISTOGRAM,
    "How long a request waited until an instance had room (max_in_flight): served; late or full, 503; gone: its client left.",
    ("service", "outcome"),
    _DATABASE,
)
CALLS = Family(
    "propylon_calls",
    Kind.COUNTER,
    "Calls of services by endpoints on the gateway's app, by the status of the answer; 0: there was none.",
    ("service", "status"),
)
CALL_DURATION = Family(
    "propylon_call_duration_seconds",
    Kind.HISTOGRAM,
    "How long such a call took, from its beginning to the end of the answer.",
    ("service",),
    _REQUEST,
)
CONNECTIONS = Family(
    "propylon_open_connections",
    Kind.GAUGE,
    "Open connections of clients. Under an ASGI server: their requests in flight.",
)
SOCKETS = Family("propylon_open_sockets", Kind.GAUGE, "Open WebSockets and other tunnels.", _ROUTE)
UPSTREAM_CONNECTIONS = Family(
    "propylon_upstream_connections",
    Kind.GAUGE,
    "Open connections to the instances of a service: busy, or idle and kept for the next request.",
    ("service", "state"),
)
UPSTREAM_WAITING = Family(
    "propylon_upstream_waiting_requests",
    Kind.GAUGE,
    "Requests that wait for a connection to an instance of the service, or until an instance has room (max_in_flight).",
    ("service",),
)
CONFIG_RELOADS = Family(
    "propylon_config_reloads",
    Kind.COUNTER,
    "Reloads of each worker: success, or failure (the old configuration stays).",
    ("result",),
)
CONFIG_SUCCESS = Family(
    "propylon_config_last_success_timestamp_seconds",
    Kind.GAUGE,
    "When this worker put its configuration into force, in seconds since 1970.",
    summed=False,
)
SPANS = Family(
    "propylon_trace_spans",
    Kind.COUNTER,
    "Spans of traces: sent, or lost: dropped (the queue was full), refused (by the collector), unkept (of a failed or slow "
    "request, beyond what `traces.keep.most` allows), left (not sent before the stop).",
    ("result",),
)
LOOP_LAG = Family(
    "propylon_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How late the event loop of a worker was, measured once a second: what each request waits at that moment.",
    buckets=_LAG,
)
LOOP_BLOCKS = Family(
    "propylon_loop_blocks",
    Kind.COUNTER,
    "How often code held the event loop for longer than policies.budget: a policy, an endpoint or other code of a team, by its "
    "name, or the gateway.",
    ("where",),
)
LOG_LOST = Family(
    "propylon_log_lost_lines",
    Kind.COUNTER,
    "Lines of the log that were not written: the reader was too slow, the disk full, or the syslog daemon away.",
    ("output",),
)
WORKERS = Family("propylon_workers", Kind.GAUGE, "Workers that serve requests.")
CPU = Family(
    "propylon_process_cpu_seconds", Kind.COUNTER, "CPU time of all workers, user and system."
)
MEMORY = Family(
    "propylon_process_resident_memory_bytes",
    Kind.GAUGE,
    "Resident memory of all workers; pages that they share count for each of them. Linux only.",
)
FILES = Family(
    "propylon_process_open_fds", Kind.GAUGE, "Open file descriptors of all workers. Linux only."
)

FAMILIES = (
    REQUESTS,
    DURATION,
    RECEIVED,
    SENT,
    OVERHEAD,
    FAULTS,
    RETRIES,
    HEDGES,
    QUEUE,
    FALLBACKS,
    MIRRORED,
    CIRCUIT_STATE,
    CIRCUIT_TRANSITIONS,
    CONCURRENCY_LIMIT,
    INSTANCE_UP,
    EJECTIONS,
    DISCOVERY_UP,
    LIMIT_DECISIONS,
    CACHE,
    CACHE_BYTES,
    REQUEST_CHECKS,
    FORWARD_AUTH,
    CALLS,
    CALL_DURATION,
    TOKEN_VERIFICATIONS,
    KEY_SET_AGE,
    REVOCATION_LAG,
    DATABASE,
    ANSWER_CHECKS,
    CONNECTIONS,
    SOCKETS,
    UPSTREAM_CONNECTIONS,
    UPSTREAM_WAITING,
    CONFIG_RELOADS,
    CONFIG_SUCCESS,
    SPANS,
    LOOP_LAG,
    LOOP_BLOCKS,
    LOG_LOST,
    WORKERS,
    CPU,
    MEMORY,
    FILES,
)
"""All metrics, in the order in which `/metrics` has them."""
