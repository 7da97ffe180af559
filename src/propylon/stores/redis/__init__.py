"""Redis and Valkey: what gateways on several machines share.

    decide ─► limits ─── one call for each turn of the loop ───► node ───► connection ───► Redis
                │                                                 │ ▲
                ▼ while Redis is away                             ▼ │ finds, opens, probes
        the machine's own store                              topology, login

- `target`: where Redis is and how to log in.
- `connection`: the protocol: commands in a pipeline, each with a callback for its answer.
- `login`: open a connection that may be used: log in, check that it can write, load the script.
- `topology`: which server to connect to: a fixed one, the master that Sentinels name, the nodes of a Cluster.
- `patience`: for how long a server may be silent.
- `node`: one server: whether it is used now, the connection to it, the way back to it.
- `nodes`: all of them, and which one has a key.
- `script`, `limits.lua`: decide many requests in one call; `encoding`: write the requests for it, read its answer.
- `parts`: a request whose keys are on several nodes of a Cluster.
- `alone`: decide while Redis is away; `ledger`: what was spent then, to be carried over.
- `trial`: try once whether it can be used.
- `limits`: the store of limits.
- `answers`, `answers.lua`: stored answers; `idempotency`, `idempotency.lua`: keys of requests; `commands`: one command that is awaited.
"""
