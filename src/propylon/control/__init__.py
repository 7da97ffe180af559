"""The control plane: the gateway's own endpoints, on FastAPI, never in the hot path.

- `app`: the FastAPI app, which routes reach in process; `errors`: its errors in the gateway's envelope.
- `health`: `/health`, `/livez`, `/readyz`; `metrics`: `/metrics`; `schemas`: what they speak.
- `tokens`: the token endpoint; `sessions`: logins and refreshes; `issuer`: signs; `revoke`, `introspect`.
- `users`: `/users/me`; `token_schemas`: what the endpoints of tokens and users speak; `ports`: what they need kept.
- `registry`: `/services`; `registration`: what it speaks; `circuits`: the breakers.
- `identity`: who is asking, for endpoints of a team's own; `custom_endpoints`: find those; `policies`: run a team's policies.
"""
