"""Run a demonstration: the gateway in front of small real services.

- `demo`: start the gateway, and print `curl` lines to try.
- `services`: run the services behind it.
"""
