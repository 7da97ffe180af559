"""The services that stand behind the gateway, each an application with a database of its own.

- `auth`: accounts, passwords and tokens; `game`: the catalogue of games; `library`: the games that each user has.
- `store`: an SQLite file for each service.
"""
