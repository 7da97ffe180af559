"""A service, its instances and their fate.

- `service`, `instance`: the nouns.
- `fleet`: the instances of one service: who may be asked now.
- `balance`: which of them is asked.
- `breaker`: refuse at once what would fail anyway; `window`: count what happened lately.
- `retry`: whether, when and how often to try again.
- `health`: have instances probed.
- `discovery`: instances that follow a DNS name.
- `registry`: instances that register themselves; `registration`: what they say; `admission`: who may.
"""
