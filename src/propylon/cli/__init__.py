"""The command line: parse the arguments, call a command, print its result.

- `main`: the program and its commands.
- `health`: the command `health`.
- `users`: the commands `user …` and `token`.
- `options`: options and output that several commands share.
"""
