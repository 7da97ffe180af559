"""Find fields of the log that would write a token down. Pure."""

from collections.abc import Iterator

from propylon.config.reading.problems import Finding

__all__ = ["logged_tokens"]

_HEADER = "header:"


def logged_tokens(written: object) -> Iterator[Finding]:
    """Yield the headers among `log.fields` in which `auth.from` looks for tokens, whatever they are called."""
    carriers = {one.lower() for one in _texts(_part(written, "auth", "from"))}
    for source in _texts(_part(written, "log", "fields")):
        if source.startswith(_HEADER) and source.lower() in carriers:
            name = source.removeprefix(_HEADER)
            yield (
                "log",
                "fields",
            ), f"auth.from looks for tokens in {name}, and the log holds none; take it out"


def _part(written: object, section: str, key: str) -> object:
    found = written.get(section) if isinstance(written, dict) else None
    return found.get(key) if isinstance(found, dict) else None


def _texts(value: object) -> list[str]:
    values = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    )
    return [one for one in values if isinstance(one, str)]
