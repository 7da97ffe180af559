"""Compile the configuration (`*Config`) into the immutable values that the data plane runs on.

- `routes`: the routing table: the file's routes, the built-in endpoints, CORS.
- `headers`: what a route does to headers.
- `services`: a service, its instances, and the rules for when they fail.
- `authentication`: the verifier of tokens, with its keys and its introspection endpoint.
- `limits`: rate limits.
"""
