"""Read labels of containers: routes and instances beside those of the file, which they can never take over. Pure.

- `labelled`: the values that labels become; `gather`: what the labels of all containers say; `own`: the gateway's labels; `traefik`: Traefik's; `rule`: its rules.
- `claims`: whether a route of a label would take requests from one of the file; `overlay`: put the routes of labels beside the file's.
"""
