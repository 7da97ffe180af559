"""Do the work of the commands; `propylon.cli` parses their arguments and prints.

- `check`: report every problem of a configuration.
- `routes`: show the compiled routing table; `tables`: lay out rows.
- `explain`: show what the data plane would do with a request.
- `replay`: send the requests of a log through two configurations, and compare.
- `offline`: compile a configuration without starting it, for `routes` and `explain`.
- `health`: ask the running gateway on its own listeners.
- `audit`: hold a configuration against numbered rules, and against traffic.
- `reach`: connect to the running gateway, for `health`, `audit` and `top`.
- `top`: show in a terminal what the gateway does.
- `imports`: translate the configuration of another gateway.
- `init`: write the starter file; `starter`: its text.
- `demo`: run the gateway in front of small real services.
- `app`: import the gateway that `run --app` names.
- `user`: manage the users of the token endpoint; `token`: sign a token for trying things out.
"""
