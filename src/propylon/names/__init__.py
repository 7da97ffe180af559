"""Resolve host names, and decide which addresses may be asked.

- `resolve`: cache what names resolve to, and refresh it by TTL.
- `lookup`: look a name up where this host would: hosts file, name servers, system.
- `nameserver`: query name servers, and return the TTL with the answer.
- `getaddrinfo`: ask the system's resolver, in threads of our own.
- `exhausted`: tell the gateway's own lack of descriptors and ports from failures of others.
- `addresses`: which hosts and addresses may be registered and asked (SSRF).
"""
