"""The services that stand behind the gateway, each an application with a database of its own.

- `context`: what a user was doing; `intent`: what a text asks for; `prediction`: what a user will do next.
- `realtime`: messages between users, as they are written.
- `store`: an SQLite file for each service.
"""
