"""The command line: parse the arguments, call a command, print its result.

- `main`: the program and its commands.
- `health`: the command `health`.
- `audit`: the command `audit`; `bearer`: the operator's token, for commands that ask the running gateway.
- `imports`: the command `import`; `replay`: the command `replay`.
- `top`: the command `top`.
- `users`: the commands `user …` and `token`.
- `options`: options and output that several commands share.
"""
