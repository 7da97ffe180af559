"""What the operator writes: models and reading, nothing that runs.

- `models`: what may be written, with defaults and meaning.
- `reading`: from file, environment and command line to a checked configuration.
"""
