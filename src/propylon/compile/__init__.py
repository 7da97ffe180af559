"""What was written becomes what runs: from `*Config` to the immutable values of the data plane.

- `routes`: the table of routes, CORS and the built-in endpoints among them.
- `services`: a service, its instances and the rules for when they fail.
- `authentication`: what verifies tokens, and whom it asks.
- `limits`: rate limits.
"""
