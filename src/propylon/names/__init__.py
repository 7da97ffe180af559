"""Names and addresses.

- `resolve`: remember what names stand for, and ask again when that is over.
- `lookup`: where a name is looked up: hosts file, name servers, system.
- `nameserver`: ask name servers, with the TTL of the answer.
- `getaddrinfo`: ask the system, in threads of our own.
- `addresses`: which hosts and addresses may be asked.
"""
