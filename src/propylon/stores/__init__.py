"""Shared facts behind the small ports that `proxy` and `control` declare.

- `memory`: revocations, in this process.
- `database`: the one border to SQL: URLs, transactions, the schema on first use, foreign errors; `tables`.
- `users`: who may ask for tokens; `passwords`: their hashes, off the event loop.
- `grants`: refresh tokens.
- `journal`: revocations that all workers share, and that survive a restart.
"""
