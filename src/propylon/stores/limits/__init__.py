"""Where limits are counted: what fills the port `proxy.limit.rule.LimitStore`.

- `memory`: in this process.
"""
