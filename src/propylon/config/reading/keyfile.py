"""Replace the path of a public key in the configuration by the text of the file."""

from pathlib import Path as FilePath

from propylon.config.models.keys import is_pem
from propylon.config.reading.credentials import jwt_entries
from propylon.config.reading.document import Document
from propylon.config.reading.problems import Path

__all__ = ["read_key_file"]

# Bytes. A chain of certificates has a few kilobytes.
_MAX_FILE = 64 * 1024


def read_key_file(document: Document, folder: FilePath) -> None:
    """Read the public key if its path is configured; relative paths start at `folder`."""
    for path, entry in jwt_entries(document.value):
        written = entry.get("public_key")
        if isinstance(written, str) and written.strip() and not is_pem(written):
            _read(document, (*path, "public_key"), entry, folder / written.strip())


def _read(document: Document, place: Path, entry: dict[str, object], path: FilePath) -> None:
    try:
        entry["public_key"] = _text(path)
    except (OSError, ValueError) as error:
        # The message does not repeat what was written: it may be a key in another form, even a private one.
        document.fail(place, f"is neither PEM nor the path of a file with PEM: {_reason(error)}")


def _text(path: FilePath) -> str:
    # Reading a device or a pipe might never end.
    if path.exists() and not path.is_file():
        msg = "it is not a file"
        raise ValueError(msg)
    with path.open("rb") as file:
        content = file.read(_MAX_FILE + 1)
    text = content.decode("ascii", "replace")
    if len(content) > _MAX_FILE or not is_pem(text):
        msg = "the file does not begin with -----BEGIN"
        raise ValueError(msg)
    return text


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return str(error)
