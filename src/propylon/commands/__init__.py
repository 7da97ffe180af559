"""What the commands do; `propylon.cli` parses their arguments and prints.

- `check`: every problem of a configuration.
- `routes`: the compiled table; `tables` lays rows out.
- `explain`: what the data plane would do with one request.
- `offline`: compile a configuration without starting it, for `routes` and `explain`.
- `init`: write the starter file; `starter` is its text.
- `demo`: the gateway in front of small real services.
- `app`: load the gateway that `run --app` names.
- `user`, `token`: the users of the token endpoint, and a token for trying out.
"""
