"""Ask the models which keys there are: at a path, anywhere, and which of them hold lists. Pure."""

import types
import typing
from collections.abc import Iterator
from functools import lru_cache

from pydantic import BaseModel

from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.problems import Path

__all__ = ["all_paths", "holds_list", "homes", "keys", "model_at"]

# In the place of a name that the operator chooses.
_ANY_NAME = "NAME"


def model_at(path: Path) -> type[BaseModel] | None:
    """Return the model of the section at a path; None: there is no such section."""
    kind = _kind_at(path)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def holds_list(path: Path) -> bool:
    """Whether the key at a path takes a list."""
    return any(typing.get_origin(kind) in {tuple, list} for kind in _kinds(_kind_at(path)))


def keys(model: type[BaseModel]) -> list[str]:
    """Return the keys of a section as an operator writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def homes(key: str) -> list[str]:
    """Return every section that has a key of this name, such as `services.NAME`."""
    return [".".join(path[:-1]) for path in all_paths() if path[-1] == key and len(path) > 1]


@lru_cache(maxsize=1)
def all_paths() -> tuple[tuple[str, ...], ...]:
    """Return the path of every key; `NAME` stands for a name, and a list of sections for one of them."""
    return tuple(_paths(GatewayConfig, ()))


def _paths(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        path = (*above, field.alias or name)
        yield path
        for kind in _kinds(field.annotation):
            is_mapping = typing.get_origin(kind) is dict
            below = (*path, _ANY_NAME) if is_mapping else path
            for inner in (kind, *_kinds(_item(kind))):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    yield from _paths(inner, below)


def _kind_at(path: Path) -> object:
    kind: object = GatewayConfig
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if isinstance(part, int):
                continue  # one of several entries, where the file may have a single one, too
            field = kind.model_fields.get(str(part))
            kind = None if field is None else _inner(field.annotation)
        else:
            kind = _inner(_item(kind))
    return kind


def _kinds(kind: object) -> Iterator[object]:
    """Yield what a union or an annotated type consists of."""
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        for one in typing.get_args(kind):
            yield from _kinds(one)
    elif typing.get_origin(kind) is typing.Annotated:
        yield from _kinds(typing.get_args(kind)[0])
    elif kind is not type(None):
        yield kind


def _inner(kind: object) -> object:
    return next(_kinds(kind), None)


def _item(kind: object) -> object:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if arguments else None
