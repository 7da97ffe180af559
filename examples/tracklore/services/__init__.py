"""The services that stand behind the gateway, each an application with a database of its own.

- `auth`: accounts, passwords and tokens; `user`: profiles and favourite tracks.
- `store`: an SQLite file for each service.
"""
