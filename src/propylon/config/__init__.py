"""What the operator writes: models and reading, nothing that runs.

- `models`: what may be written, with defaults and meaning.
- `labels`: from labels of containers to routes beside those of the file.
- `reading`: from file, environment and command line to a checked configuration.
"""
