"""Idempotency keys: what fills the port `proxy.idempotency.ledger`.

- `memory`: in the memory of one worker.
- `machine`: in a file that all workers of a machine share. (`stores.redis.idempotency`: Redis.)

A key that was claimed must not be forgotten before its time: a ledger without room says that it is away.
"""
