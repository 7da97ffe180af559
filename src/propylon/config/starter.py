"""Write the commented file that `propylon init` starts with. Pure."""

_STARTER = """\
# yaml-language-server: $schema=propylon.schema.json
# A gateway in one file. `propylon check` finds every mistake in it, `propylon run` starts it.
# ${VAR} and ${VAR:-default} come from the environment; what is shown under server, log and
# prefix is the default.

server:
  host: ${HOST:-127.0.0.1}     # 0.0.0.0 listens on every address
  port: ${PORT:-8000}
  workers: 1                   # processes that share the port
  trusted_proxies: []          # networks whose X-Forwarded-* is believed, such as [10.0.0.0/8]
  max_body: 100MB              # a larger request body is refused with 413
  max_header: 64KiB            # a larger request head is refused with 431
  timeouts:
    header: 10s                # for the whole head of a request
    idle: 75s                  # for the next request on an open connection
    body: 30s                  # longest silence between two chunks of a body
  drain: 30s                   # how long a stop waits for exchanges in flight
  drain_delay: 0s              # how long a stop is unready before it stops listening
prefix: /api/v1                # before the gateway's own endpoints
debug: false                   # tells more in errors; never for production
tls:
  certificate:                 # path of a PEM file; both or neither
  key:
log:
  level: info                  # debug, info, warning, error, critical
  format: json                 # json, or text for a terminal

services:
  orders:
    url: ${ORDERS_URL:-http://127.0.0.1:9000}   # or instances: ["http://a:8000", "http://b:8000"]
    balance: round_robin       # or random
    max_connections: 1024      # to one instance, in each worker
    forward_token: true        # pass Authorization on
    timeouts:
      connect: 5s              # for a connection
      first_byte: 30s          # for the head of the response
      idle: 30s                # longest silence in a body
      total: 60s               # until the response's head, whatever it took
      max_duration:            # for the whole exchange; empty: unlimited

defaults:                      # for all routes that do not say otherwise
  auth: required               # required, optional (looked at if there) or none

routes:
  - name: orders               # for logs and metrics; by default the path
    path: /api/v1/orders       # itself and everything below it; {name} stands for one segment
    service: orders
    auth: none                 # so that it can be tried without a token; take this line out
    exact: false               # true: nothing below it
    strip_prefix: false        # true: /api/v1/orders/7 reaches the service as /7
    rewrite:                   # or what replaces the path instead, such as /v2/orders
    priority: 0                # the higher wins where two routes match equally well
    methods:                   # such as [GET, POST]; empty: all
    hosts:                     # such as [api.example.com]; empty: any
    timeouts: {}               # such as {total: 5s}, instead of the service's
    max_body:                  # such as 1MB, instead of the server's
    headers:
      request: {set: {}, remove: []}
      response: {set: {}, remove: []}
"""


def starter() -> str:
    """Return the starter file."""
    return _STARTER
