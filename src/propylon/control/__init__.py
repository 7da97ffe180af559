"""The control plane: the gateway's own endpoints, on FastAPI, never in the hot path.

- `app`: the FastAPI app, which routes reach in process; `errors`: its errors in the gateway's envelope.
- `health`: `/health`, `/livez`, `/readyz`; `monitoring`: `/metrics`.
- `tokens`: the token endpoint over `sessions` and `issuer`, `withdraw`, `introspect`; `users`: `/users/me`.
- `registry`: `/services` over `registration`; `circuits`: the breakers.
- `identity`: who is asking, for a team's own endpoints; `own` finds those, `policies` runs a team's policies.
"""
