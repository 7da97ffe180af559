"""Facts that are kept or shared, behind small ports that `proxy` and `control` declare.

- `seats`: count the open sockets of each caller.
- `memory`: revocations, in this process.
- `database`: the one border to SQL: transactions, files that get lost, foreign errors; `urls`: read its URL.
- `tables`: the tables; `schema`: create them and bring those of an earlier release up to date.
- `users`: who may ask for tokens; `user_rules`: what a user is, and what may change; `passwords`: their hashes, off the event loop.
- `grants`: refresh tokens.
- `journal`: revocations that all workers share, and that survive a restart.
- `shared`: what the workers of one gateway share, in one place; the port `Facts`.
- `siblings`: messages between workers; over sockets made before the fork. `meeting`: the same for unrelated processes that
  meet in a directory.
- `place`: a directory that processes share, and who removes it.
- `slot`: a value in memory, for a process that takes a dead one's place.
- `key_sets`: published key sets that a worker has fetched, for the other workers and their replacements.
- `redis`: what gateways on several machines share.
- `prune`: deletes what expired long ago; `clocks`: whether the wall clock can be believed.
- `limits`: where limits are counted; `sums`: what metrics add up in, in this process.
- `answers`: stored answers, in the memory of one worker, and where workers share them.
- `idempotency`: keys of requests that are not asked twice.
- `shelf`: pieces of bytes under names, for all workers.
- `tally`: sums of all workers, in files that each maps into memory.
"""
