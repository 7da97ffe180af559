"""Facts that are kept or shared, behind small ports that `proxy` and `control` declare.

- `memory`: revocations, in this process.
- `database`: the one border to SQL: URLs, transactions, the schema, foreign errors; `tables`: the tables.
- `users`: who may ask for tokens; `passwords`: their hashes, off the event loop.
- `grants`: refresh tokens.
- `journal`: revocations that all workers share, and that survive a restart.
- `siblings`: messages between the workers of one gateway.
- `buckets`: what a limit counts in; `sums`: what metrics add up in. Each in this process.
"""
