"""What we do otherwise than asyncio, because each of these is on every request's path.

- `signal`: wait without a future.
- `ticker`: deadlines without a timer each.
- `outbox`: write at the end of the loop's turn, everything at once.
- `slices`: long work, a millisecond at a time.
- `tasks`: the one place that creates tasks.
"""
