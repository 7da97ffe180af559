"""Compile the configuration (`*Config`) into the immutable values that the data plane runs on.

- `routes`: the routing table: the file's routes, the built-in endpoints, CORS.
- `services`: a service, its instances, and the rules for when they fail.
- `authentication`: the verifier of tokens, with its keys and its introspection endpoint.
- `carriers`: where tokens are looked for, and the claims that a service gets as headers.
- `limits`: rate limits.
"""
