"""Facts that are kept or shared, behind small ports that `proxy` and `control` declare.

- `memory`: revocations, in this process.
- `database`: the one border to SQL: transactions, files that get lost, foreign errors; `urls`: read its URL.
- `tables`: the tables; `schema`: create them and bring those of an earlier release up to date.
- `users`: who may ask for tokens; `passwords`: their hashes, off the event loop.
- `grants`: refresh tokens.
- `journal`: revocations that all workers share, and that survive a restart.
- `prune`: delete what expired long ago; `clocks`: whether the wall clock can be believed.
- `siblings`: messages between the workers of one gateway.
"""
