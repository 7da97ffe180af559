"""Find variables that begin with `PROPYLON_` and set nothing, and name the one that was probably meant. Pure."""

import re
from collections.abc import Container, Iterator, Mapping

from propylon.config.models.spelling import nearest
from propylon.config.reading.environment import FILE_VARIABLE, PLAIN, PREFIX, TOKEN_VARIABLE
from propylon.config.reading.model_keys import all_paths
from propylon.config.reading.problems import Problem
from propylon.config.reading.rules import STRAY_VARIABLE

__all__ = ["stray_variables"]

# What Kubernetes sets in every pod beside a service that is called propylon.
_KUBERNETES = re.compile(
    r"PROPYLON_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_.*)?)"
)
# These two share their prefix with all others, so only a letter or two may differ.
_SURE = 0.9
_ADDRESS = re.compile(r"[a-z]+://.*")


def stray_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a warning for each variable that looks like one of the gateway's and is none."""
    known: Container[str] = {FILE_VARIABLE, TOKEN_VARIABLE, *PLAIN}
    for name in sorted(environ):
        # A name with `__` is a key: an unknown one is a problem already.
        if not name.startswith(PREFIX) or "__" in name or name in known:
            continue
        if not _is_of_kubernetes(name, environ[name]):
            msg = f"is no variable of Propylon, and sets nothing{_meant(name)}"
            yield Problem(name, "", msg, STRAY_VARIABLE.id)


def _is_of_kubernetes(name: str, text: str) -> bool:
    if (
        name == "PROPYLON_PORT"
    ):  # PROPYLON_PORT=tcp://10.0.0.1:80 is; PROPYLON_PORT=9000 is meant for us
        return _ADDRESS.fullmatch(text) is not None
    return _KUBERNETES.fullmatch(name) is not None


def _meant(name: str) -> str:
    """Return the variable that was probably meant, as the end of a sentence."""
    if near := nearest(name, (FILE_VARIABLE, "PROPYLON_STATE_DIR"), cutoff=_SURE):
        return f"; did you mean {near}?"
    short = name.removeprefix(PREFIX)
    if short in PLAIN:
        return f"; write {short}"
    by_spelling = {"_".join(path).upper(): path for path in all_paths() if "NAME" not in path}
    path = by_spelling.get(short)
    if path is not None and len(path) > 1:
        return f"; write {_variable(path)}"
    plain = {target: variable for variable, (target, _) in PLAIN.items()}
    if path is not None and path in plain:
        return f"; write {plain[path]}"
    if path is not None:
        return f"; {path[0]} stands in the file only"
    section = short.partition("_")[0]
    hint = f"; two underscores stand between keys, as in {PREFIX}{section}__KEY"
    if any(path[:2] == (section.lower(), "NAME") for path in all_paths()):
        return hint  # the names below it are the operator's
    # Compared without the prefix, which would make everything look alike.
    near = nearest(short, (name for name, path in by_spelling.items() if len(path) > 1))
    if near:
        return f"; did you mean {_variable(by_spelling[near])}?"
    return hint if section in by_spelling else ""


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()
