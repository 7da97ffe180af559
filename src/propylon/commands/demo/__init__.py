"""The demonstration.

- `demo`: the gateway, and the `curl` lines to try.
- `services`: the small services behind it.
"""
