"""Replace the parts of asyncio that are too slow, or too forgetful, for the path of every request.

- `signal`: wait without a future.
- `ticker`: deadlines without a timer for each.
- `line`: those that wait for something, the oldest first.
- `outbox`: collect writes, and make them at the end of the loop's turn.
- `sendqueue`: how many bytes a peer has not got yet.
- `slices`: do long work a millisecond at a time, between the requests.
- `frozen`: what exists at the start is not searched for garbage.
- `tasks`: the one place that creates tasks.
"""
