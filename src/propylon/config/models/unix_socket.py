"""Check the path of a Unix socket. Pure."""

__all__ = ["check_socket"]

# Bytes: `sun_path` has 108 on Linux and 104 on the BSDs, and the last one is a zero.
_LONGEST = 103


def check_socket(path: str) -> str:
    """Check the absolute path of a Unix socket; return it unchanged. Raises ValueError."""
    if not path.startswith("/") or path.startswith("//") or path.endswith("/"):
        msg = "must have the absolute path of a Unix socket: unix:/run/app.sock"
        raise ValueError(msg)
    if not path.isprintable():
        msg = "has a path with control characters, which no log can show"
        raise ValueError(msg)
    if len(path.encode()) > _LONGEST:
        msg = f"has a path of more than {_LONGEST} bytes, which no Unix socket can have"
        raise ValueError(msg)
    return path
