"""Define what an operator may write: pydantic models, from which the reference and the JSON schema are generated.

- `schema`: the whole file; `json_schema`: the JSON schema for editors.
- `server`, `auth`, `jwt`, `cors`, `services`, `resilience`, `routes`: its sections.
- `websocket`: the rules of a route's sockets.
- `admin`: the sections about running the gateway: `admin`, `docs`, `metrics`, `registry`.
- `inherit`: fill in what routes take from `defaults`.
- `endpoints`: the gateway's own endpoints: paths, methods, who may call them.
- `base`: what all models share; `syntax`, `token_syntax`, `origins`, `units`, `keys`: check and convert single values.
- `spelling`: suggest the known word nearest to a misspelt one.
"""
