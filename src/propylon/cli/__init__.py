"""The command line: parse the arguments, call a command, print what it returns.

- `main`: the program and its commands.
- `users`: the commands about users and tokens.
- `options`: options that several commands have, and how a command gives up.
"""
