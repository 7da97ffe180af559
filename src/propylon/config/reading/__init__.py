"""From file, environment and command line to a checked configuration, with every problem and its place.

- `load`: all of it, in order.
- `document`: YAML with the line of every key; `expand`: variables in values.
- `environment`: what variables and `.env` say; `keyfile`: a public key in a file.
- `check`: what is wrong between the parts; `credentials`: secrets that are none.
- `warnings`: what may be written and is hardly meant.
- `messages`: pydantic's errors in plain words; `problems`: a problem and its place.
"""
