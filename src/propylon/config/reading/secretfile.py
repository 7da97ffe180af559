"""Read secrets from files: `X_FILE` names the file with what the variable `X` would hold, as container images have it."""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

__all__ = ["SUFFIX", "SecretLines", "Variables", "clash", "read_lines"]

SUFFIX = "_FILE"
# Bytes. A disk image named by mistake must not fill the memory.
_MAX_FILE = 64 * 1024


class SecretLines(list[str]):
    """The lines of a file with more than one: several secrets, or one that an editor or a tool has wrapped."""


def read_lines(path: str) -> str | SecretLines:
    """Return the secret in a file, or its lines if there are several. Raises ValueError with a reason.

    One line end at the end of the file is not part of the secret: editors and `echo` write one.
    """
    text = _text(FilePath(path))
    text = text.removesuffix("\n").removesuffix("\r")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not any(lines):
        msg = "it is empty"
        raise ValueError(msg)
    return lines[0] if len(lines) == 1 else SecretLines(lines)


def _text(path: FilePath) -> str:
    try:
        # Reading a device or a pipe might never end.
        if path.exists() and not path.is_file():
            msg = "it is not a file"
            raise ValueError(msg)
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ValueError((error.strerror or "it cannot be read").lower()) from error
    if len(content) > _MAX_FILE:
        msg = f"it is larger than {_MAX_FILE // 1024} KiB"
        raise ValueError(msg)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # not kept as a cause: it holds the bytes
        msg = "it is not UTF-8"
        raise ValueError(msg) from None


def clash(name: str, environ: Mapping[str, str]) -> str:
    """Return what is wrong where a variable and the variable of its file are both set; empty if they are not."""
    if environ.get(name) and environ.get(name + SUFFIX):
        return f"{name} and {name}{SUFFIX} are both set; unset one of them"
    return ""


class Variables(Mapping[str, str]):
    """The environment for the values that are secret: `${X}` is read from the file that `X_FILE` names, too."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read no file yet: most variables that end in _FILE are for other programs."""
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        """Return the value of a variable. Raises KeyError if it is not set, ValueError with a reason."""
        if problem := clash(name, self._environ):
            raise ValueError(problem)
        path = self._environ.get(name + SUFFIX)
        if not path:
            return self._environ[name]
        try:
            found = read_lines(path)
        except ValueError as error:
            msg = f"the file that {name}{SUFFIX} names cannot be used: {error}"
            raise ValueError(msg) from None
        if isinstance(found, str):
            return found
        msg = f"the file that {name}{SUFFIX} names holds {len(found)} lines; write one"
        raise ValueError(msg)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that are set."""
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)
