"""The services that stand behind the gateway, each an application with a database of its own.

- `users`: accounts, passwords and tokens; `products`: the catalogue; `orders`: what each user has ordered.
- `store`: an SQLite file for each service.
"""
