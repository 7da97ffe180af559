"""Hold the texts of the files that `propylon init` writes: a short one to begin with, and one with every key. Pure."""

_STARTER = """\
# yaml-language-server: $schema=propylon.schema.json
# `propylon check` finds every mistake in this file, `propylon run` starts it.
# For all other keys: docs/reference/configuration.md, or `propylon init --full`.

auth:
  jwt:
    secret: ${JWT_SECRET_KEY:-}   # verifies tokens; without it, routes that need one answer 503

services:
  orders:
    url: ${ORDERS_URL:-http://127.0.0.1:9000}

routes:
  - path: /api/v1/orders          # this path and all below it
    service: orders
    auth: none                    # delete this line, and a token is required
"""

_FULL = """\
# yaml-language-server: $schema=propylon.schema.json
# Every key of a gateway. `propylon check` finds every mistake in it, `propylon run` starts it.
# ${VAR} and ${VAR:-default} come from the environment. Nearly all values here are the defaults:
# delete what you do not need. A key without a value counts as not written.

include: []                    # files that are read with this one, such as [conf.d/*.yaml]
server:
  host: 127.0.0.1              # 0.0.0.0 listens on every address
  port: ${PORT:-8000}
  listen:                      # in place of host and port: ["0.0.0.0:8000", "unix:/run/p.sock"]; or mappings with
                               # address, tls, proxy_protocol, redirect and mode
  public_url:                  # how clients reach the gateway, such as https://api.example.com
  workers: 1                   # processes that share the port
  state_dir:                   # where workers share what they know; empty: a directory in memory
  trusted_proxies: []          # networks whose X-Forwarded-* is trusted, such as [10.0.0.0/8]
  forwarded: x-forwarded       # what services are told: x-forwarded, rfc7239 or both
  max_body: 100MB              # a larger request body is refused with 413
  max_header: 64KiB            # a larger request head is refused with 431
  max_connections: 10000       # of clients to one worker; 503 beyond it
  max_connections_per_client:  # such as 100; empty: no limit
  timeouts:
    header: 10s                # for the whole head of a request
    idle: 75s                  # for the next request on an open connection
    body: 30s                  # longest silence between two chunks of a body
  drain: 30s                   # how long a stop waits for requests in flight
  drain_delay: 0s              # how long a stop still accepts, unready, before it stops listening
prefix: /api/v1                # before the gateway's own endpoints
debug: false                   # true: weak secrets are accepted; never for production
tls:
  certificate:                 # path of a PEM file; both or neither
  key:
  certificates: []             # more pairs of certificate and key, chosen by the name that the client asks for
  min_version: "1.2"           # of TLS; or "1.3"
  ciphers:                     # of TLS 1.2, in OpenSSL's words; empty: Mozilla's intermediate profile
  clients:                     # clients' certificates: {ca: ca.pem, required: false}
log:
  level: info                  # debug, info, warning, error, critical
  format:                      # json, or text; not written: text on a terminal, json elsewhere
  skip: [/livez, /readyz, /health]   # good answers of these are not in the log
  file:                        # such as /var/log/propylon/propylon.log; empty: standard output. SIGUSR1 opens it anew
  # syslog: {address: /dev/log, facility: daemon, app_name: propylon}   # instead: a daemon; also udp://HOST:514, tcp://HOST:601
  min_status:                  # such as 400: only records of such answers; errors and refusals are always written
  slower_than:                 # such as 1s: and those of slow requests
  sample:                      # such as 1%: and that share of all others
  fields: []                   # also in each record: user_agent, referer, header:NAME, claim:NAME, policy:NAME
  drop: []                     # fields that are left out; or keep: the only ones that stay
  redact: []                   # fields whose values are not written, such as client_ip
  audit:                       # logins, revocations, registrations, reloads
    file:                      # such as /var/log/propylon/audit.log; empty: with the rest of the log
    key:                       # of the hash that hides users who ask for privacy, such as ${AUDIT_KEY}

policies:
  budget: 50ms                 # longer, and policies and endpoints that hold the event loop are named in the log; off

traces:                        # for a collector that speaks OTLP over HTTP
  endpoint:                    # such as http://collector:4318; it switches recording on (pip install 'propylon[otel]')
  enabled: true                # false: nothing is recorded
  headers: {}                  # for the collector, such as {authorization: "Bearer ${TOKEN}"}
  timeout: 10s                 # for one message
  compression: none            # or gzip
  service_name: propylon       # what traces call this gateway
  resource: {}                 # such as {deployment.environment.name: production}
  sampling:
    ratio: 100%                # the share of the traces that is recorded
    parent: ignore             # trusted: the flag of trusted proxies counts; follow: that of every client
  keep:                        # recorded after all, when it has ended
    errors: true
    slower_than:               # such as 2s
    most: 100/s
  skip: [/livez, /readyz, /health, /metrics]   # nothing is recorded of these
  queue: 8192                  # spans that wait for the collector
  batch: 512                   # the most spans in one message
  interval: 5s                 # how long a span waits for others
  retry_for:                   # such as 1m; empty: until the collector takes it
  traceresponse: false         # true: answers say which trace they belong to
  server_timing: false         # true: answers say how long gateway and upstream took

redis:                         # what gateways on several machines share: rate limits
  url: ${REDIS_URL:-}          # such as redis://:password@redis:6379/0; empty: this machine by itself
  user:                        # wins over the URL's
  password:                    # such as ${REDIS_PASSWORD:-}; wins over the URL's
  namespace: propylon          # what every key begins with
  timeout: 50ms                # the longest that a request waits for Redis

admin:                         # who may use the endpoints that run the gateway
  scope: admin                 # a token needs this scope, and all that follows
  role:                        # such as operator
  issuer:                      # such as https://login.example.com
  allow:                       # networks, such as [10.0.0.0/8]; empty: from anywhere
  listen:                      # such as 127.0.0.1:8001: they are on this listener only
  scopes: {}                   # a scope for one group only, such as {registry: instances:write}; groups: registry,
                               # tokens, introspect, metrics, cache, explain
metrics:
  allow:                       # networks that read /metrics without a token, besides this machine
  listen:                      # such as 0.0.0.0:9100
  drop_labels: []              # labels that are left out of all metrics, such as [method]
docs:
  access: public               # public, admin or off: who may read /docs and /openapi.json
  filter: none                 # caller: each sees what it may call
dashboard:
  path: /dashboard             # the page that shows what the gateway does; off: none
documents: {interval: 30s}     # how often services are asked for theirs, see openapi

auth:                          # how callers are authenticated
  startup_wait: 5s             # how long a start waits for keys and for revoked tokens
  from: header                 # where tokens are: header, cookie:NAME, header:NAME
  revocation:
    on_failure: closed         # open: accept tokens while it is not known which were revoked
  jwt:                         # one of secret, public_key, jwks_url, discovery_url; without, routes that
    secret: ${JWT_SECRET_KEY:-}          # need a token answer 503. 32 random bytes or more:
    # python -c "import secrets; print(secrets.token_urlsafe(48))"
    public_key:                # a key in PEM, or the path of its file
    jwks_url:                  # such as https://login.example.com/.well-known/jwks.json
    discovery_url:             # such as https://login.example.com/.well-known/openid-configuration
    algorithms:                # empty: HS256 beside a secret, else those that fit the key
    issuer:                    # one or a list; checked when set
    audience:                  # one or a list; checked when set
    leeway: 0s                 # how long a token is accepted after its exp
    skew: 60s                  # how far iat and nbf may be ahead of the gateway's clock
    scopes_claim: [scope, scopes]        # all of them that a token has count
    roles_claim: [roles]       # such as [realm_access.roles]
    subject_claim: [sub]       # the first of them that a token has
    require_typ:               # such as at+jwt: the only typ that a token may have
  introspection:               # for tokens that are not signed (RFC 7662)
    url:
    client_id:
    client_secret:             # such as ${CLIENT_SECRET}
    cache: 30s
  tokens:                      # tokens that the gateway issues to its own users
    enabled:                   # true, false, or users: while there are users; empty: on if there is a secret
    expires: 30m
    refresh_expires: 30d
    refresh_grace: 10s         # how long a refresh token that was used is accepted again
    database: sqlite:///propylon.db      # or postgresql://host/name
    rate_limit: {rate: 10/m, burst: 10, key: ip}   # key: ip, or route (all clients together)

cache:
  memory: 64MB                 # of each worker, for the answers of routes with `cache`
  store:                       # memory, machine (shared by the workers) or redis (by machines); empty: machine, if there are workers
  size: 256MB                  # of the machine's file
  secret:                      # such as ${CACHE_SECRET}: signs the answers in Redis

cors:                          # which web pages of other origins may read answers
  origins: []                  # such as [https://app.example.com]; empty: CORS is off
  methods: []                  # empty: those of the route, and the one that the page asks for
  headers: []                  # empty: those that the browser asks for
  expose: []                   # response headers that pages may read
  credentials: false           # true: browsers may send cookies
  private_network: false       # true: pages of the internet may ask a gateway in a private network
  max_age: 10m

services:
  orders:
    url: ${ORDERS_URL:-http://127.0.0.1:9000}   # or instances: ["http://a:8000", {url: "http://b:8000", weight: 3, priority: 0}]
    kubernetes:                # in place of url: {service: orders, namespace: shop, port: http, scheme: http, path: /}
    docker: false              # true, in place of url: the containers whose labels name this service
    balance: round_robin       # or random, least_connections; or {hash: caller, bound: 1.25}: the same instance for the same caller
    max_connections: 1024      # to one instance, in each worker
    forward_token: true        # pass Authorization on
    claims: {}                 # claims that the service gets as headers, such as {X-Tenant: tenant.id}
    host:                      # the Host to send: upstream, client or a name; preserve_host of other gateways
    redirects: rewrite         # of Location and the like, to the client's address; or pass
    cookies: {path: pass, domain: pass}
    tls:                       # to an https service: {ca: , server_name: , verify: true, certificate: , key: }
    max_in_flight:             # such as 64: most requests of one worker to an instance at a time
    # queue: {size: 100, timeout: 1s}   # with max_in_flight: where the others wait
    slow_start:                # such as 30s: the share of an instance that came grows for so long
    sticky:                    # such as {cookie: at}: one caller stays with its instance. Further keys: on_failure (reassign,
                               # refuse), max_age, path, same_site, secure, http_only, secret
    proxy_protocol:            # v1 or v2: tell the service of the client's address in front of each connection
    bodies_on_get: close       # a body on a method that has none: close the connection, refuse or pass
    bodies:                    # close: do so for every method
    timeouts:
      connect: 5s              # for making a connection
      first_byte: 30s          # from the complete request to the response's head
      idle:                    # longest silence in a body; empty: 30s, and 5m for event streams
      total: 60s               # until the response's head, retries included
      max_duration:            # for the whole exchange; empty: unlimited
    retry:                     # only while the client has received nothing
      attempts: 3              # including the first; 1: no retries
      backoff: 100ms           # doubled each time, up to max_backoff
      max_backoff: 2s
      on: [connect-failure, reset, 502, 503, 504]   # and timeout, or any 5xx
      budget: 20%              # of the last ten seconds' requests may be retries
      non_idempotent: false    # true: POST and PATCH too
    hedge:                     # such as {after: 200ms, budget: 10%}: a GET that takes longer is sent to another instance, too
    adaptive_concurrency: false  # true, or {min: 5, max: 1000}: find out how many requests it can work on, and refuse those beyond
    circuit:                   # the breaker: after so many failures, refuse at once
      failure_threshold: 5
      failure_rate: 50%        # and if they are at least this share of the requests
      failure_window: 120s
      min_throughput: 5        # stay closed below so many requests
      recovery_timeout: 60s    # then `probes` requests may try
      half_open_timeout: 30s   # for each of these probes
      probes: 1
    health:                    # empty: probes only inform /health; or {path: /health,
                               # interval: 30s, timeout: 1s, healthy_after: 1, unhealthy_after: 1,
                               # type: , method: , host: , headers: , status: , body: , port: }
    ejection: {failures: 5, time: 30s, max: 50%}   # of instances that fail in a row
    openapi: false             # true: show its /openapi.json in ours; or the path of its document
    rate_limit:                # of all its routes together, such as {rate: 1000/s, key: service}; further keys: name,
                               # burst, window, ipv6_prefix, cost, charge, in_flight, mode, on_store_failure

defaults:                      # for every route that sets no value of its own
  auth: required               # required, optional (checked if sent) or none
  rate_limit:                  # for all routes together, such as {rate: 50/s, burst: 100}; by caller

routes:
  - name: orders               # for logs and metrics; by default the path
    path: /api/v1/orders       # this path and all below it; {name} matches one segment
    service: orders
    auth: none                 # to try it without a token; delete this line
    basic_auth:                # such as {file: users.htpasswd, realm: Reports, user_header: X-Remote-User, forward: false}; with auth: none
    forward_auth:              # such as {url: "http://auth:9000/verify", headers: [X-User], request_headers: [], cookies: [], timeout: 1s,
                               # on_failure: closed}: that service decides about each request
    issuers: []                # whose tokens are accepted here; empty: those of all
    claims: {}                 # as the service's, and together with them
    scopes: []                 # the token needs all of them, such as [read]
    roles: []                  # the token needs any of them, such as [clerk, admin]
    security:                  # from-document: and the scopes that the service's document asks for
    requests: off              # shadow or validate: check requests against the service's document
    responses: {sample: 0%}    # how many answers are held against the document, after the client has got them
    undocumented: pass         # refuse: then, operations that the document does not have
    circuit: true              # false: ignore the service's breaker
    privacy: optional          # ignored, optional (checked if sent) or required
    default_privacy:           # strict, standard or permissive, if the client sends none
    exact: false               # true: match nothing below the path
    strip_prefix: false        # true: /api/v1/orders/7 reaches the service as /7
    rewrite:                   # or replace the route's path by this, such as /v2/orders or /v2/{claim.tenant}
    query: {set: {}, add: {}, remove: []}   # of the query, such as set: {tenant: "{claim.tenant}"}
    priority: 0                # the higher wins if two routes match equally well
    methods:                   # such as [GET, POST]; empty: all
    hosts:                     # such as [api.example.com]; empty: any
    match:                     # what a request must have besides, or it goes to the next route
      headers: {}              # such as {X-Channel: beta}, one of [beta, canary], a beginning "beta*", or true: any value
      query: {}                # parameters, in the same way
      cookies: {}
    # split: [{service: orders, weight: 95}, {service: orders-next, weight: 5}]   # in place of a service: shares
    # sticky: {cookie: at}     # with split: one caller stays with its service; further keys as in the service
    # respond: {status: 503, headers: {Retry-After: 120}, body: Back soon}   # in place of a service
    # redirect: {to: "https://new.example/{rest}{query}", status: 308}       # in place of a service
    maintenance: false         # true: 503 for everybody; or {retry_after: 10m, status: 503, body: , content_type: , allow: []}
    clients: {allow: [], deny: []}   # networks of clients, such as [10.0.0.0/8]; others get 403
    timeouts: {}               # such as {total: 5s}, instead of the service's
    max_body:                  # such as 1MB, instead of the server's
    rate_limit:                # such as {rate: 10/s, burst: 20, key: caller}, instead of the default;
                               # or a list, each with a name; none: no limit
    cache:                     # such as {ttl: 30s}: keep answers; none: no cache. Further keys: respect, by, vary, methods,
                               # statuses, ignore_query, max_object, stale_while_revalidate, stale_if_error, wait
    fallback: none             # what answers while the service fails, such as {service: NAME}, {respond: {status: 503, body: Sorry}},
                               # or {stored: true}; on: [open-circuit, unavailable, connect-failure, reset, bad-response, timeout, 503]
    mirror: none               # copies of the requests go to another service, such as {service: NAME, share: 10%, max_body: 64KB,
                               # max_in_flight: 100}
    compress:                  # such as [br, zstd, gzip], or {encodings: [gzip], types: ["text/*"], min_size: 1KB, level: 5}; none
    decompress:                # such as true, or {max_size: 10MB, max_ratio: 100}: unpack requests with Content-Encoding for the service
    sampling:                  # such as 10%: of the traces here, instead of traces.sampling.ratio
    coalesce: false            # true: without a cache, one GET asks while others that want the same wait
    idempotency:               # such as {required: false, ttl: 24h, on_store_failure: refuse, methods: [POST, PATCH]}: a request with
                               # Idempotency-Key that is sent again gets the first one's answer; on_store_failure: forward, too
    headers:
      request: {set: {}, add: {}, remove: [], remove_cookies: []}   # such as set: {X-Tenant: "{claim.tenant}"}
      response: {set: {}, add: {}, remove: [], remove_cookies: []}
    cors:                      # such as {origins: ["https://partner.example"]}, instead of the section; none: no CORS
    preflight:                 # pass: a preflight reaches the service without a token
    upgrade: []                # other protocols that a client may change to
    websocket:
      close_on_expiry: true    # close when the token expires
      idle: 5m
      max_lifetime:            # such as 1h
      max_message:             # such as 1MB
      max_rate:                # such as 100/s: messages of a client
      ping:                    # such as 30s
      max_open:                # of one caller, such as 10
      origins: []              # pages that may open a socket; empty: those of cors

discovery:                     # instances that are not in the file
  kubernetes:                  # the API, for services with `kubernetes`
    api:                       # such as https://10.0.0.1:6443; empty: the one that a pod is told of
    token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
    ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
  docker:                      # {}: labels of containers describe routes; {socket: unix:///var/run/docker.sock, network: ,
                               # default_exposed: false, hosts: [], allow_open: false, traefik: false}

registry:                      # instances that register themselves
  enabled: true
  allow: []                    # such as [10.0.0.0/8, "*.svc.cluster.local"], or by service and port,
                               # {orders: ["10.0.0.0/8:8000-8099"]}; empty: none may
  ttl:                         # such as 60s: how long a registration lasts without a heartbeat
"""


def starter(*, full: bool = False) -> str:
    """Return the text of the starter file, as YAML; `full`: with every key."""
    return _FULL if full else _STARTER
