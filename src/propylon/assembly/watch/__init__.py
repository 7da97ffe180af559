"""Show what the gateway does, in all workers: what the dashboard and `propylon top` read, and what operators do there.

- `watching`: put the parts of one worker together.
- `endpoints`: make the endpoints that show it.
- `keeper`: write the history of the last hour, in one worker, and what each worker remembers.
- `state`: gather what all workers know now; `trust`: of it, the certificates and the key sets.
- `live`: tell viewers the state, and then what changes of it.
- `tails`: pass on requests as they end, to those that watch them, from all workers.
- `changes`: remember the reloads, and what each of them changed.
- `level`: set the level of the log in all workers.
"""
