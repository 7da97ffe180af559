"""Where limits are counted: what fills the port `proxy.limit.rule.LimitStore`.

- `tables`: the decisions, over keys that are kept anywhere.
- `memory`: in this process.
- `workers`: together with the other workers of this machine.
- `segment`: the files that they share; `records`: the one of them in which the buckets are; `keys`: one limit's part of them.
"""
