"""Find where the messages of `propylon check` are made: each statement that raises, yields or notes one."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import propylon.config

ROOT = Path(propylon.config.__file__).parent
_LISTENERS = ROOT.parent / "process" / "rehearse.py"
# Nothing of these reaches an operator: what they yield and raise is for the code above them.
_OTHERS = {
    "models.endpoints",
    "models.schema",
    "models.json_schema",
    "reading.as_json",
    "reading.plain",
}
# What a message is called where it is made.
_SENTENCES = {"msg", "problem", "why"}
_RAISED = {"ValueError", "Unreadable"}
_NOTED = {"Problem", "fail", "doubt", "Found"}
# A `Setting` with a problem has four parts.
_SETTING_WITH_PROBLEM = 4


class Site(NamedTuple):
    """A statement that makes a message: its name, which no other line moves, its file, and its lines."""

    name: str
    file: str
    first: int
    last: int


def sites() -> Iterator[Site]:
    """Yield each of them, in the order of the files."""
    for path in (*sorted(ROOT.rglob("*.py")), _LISTENERS):
        module = ".".join(path.relative_to(path.parents[1]).with_suffix("").parts)
        # What is said of labels is for the log: tests/config/test_labels.py.
        if module in _OTHERS or module.startswith("labels."):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                made = [one for one in _statements(function) if _makes_message(one)]
                for at, one in enumerate(sorted(made, key=lambda one: one.lineno)):
                    name = f"{module}.{function.name}" + (f".{at + 1}" if len(made) > 1 else "")
                    yield Site(name, str(path), one.lineno, one.end_lineno or one.lineno)


def _statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Yield the simple statements of a function, without those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise | ast.Expr | ast.Assign | ast.AugAssign | ast.Return):
            yield node
        else:
            waiting += list(ast.iter_child_nodes(node))


def _makes_message(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return _called(statement.exc) in _RAISED or _has_problem(statement)
    if isinstance(statement, ast.Return):
        return any(map(_is_sentence, ast.walk(statement)))
    return _has_problem(statement) or any(map(_yields_finding, ast.walk(statement)))


def _is_sentence(node: ast.AST) -> bool:
    """Tell whether this is a text of several words: a part of a message that a function makes for another."""
    return (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip()
    )


def _has_problem(statement: ast.stmt) -> bool:
    return any(_called(node) in _NOTED for node in ast.walk(statement))


def _yields_finding(node: ast.AST) -> bool:
    if not isinstance(node, ast.Yield):
        return False
    if _called(node.value) == "Setting":
        return isinstance(node.value, ast.Call) and len(node.value.args) == _SETTING_WITH_PROBLEM
    # A path and a sentence about it.
    return isinstance(node.value, ast.Tuple) and _is_message(node.value.elts[-1])


def _is_message(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _SENTENCES or node.id.isupper()  # a constant is a sentence
    return isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call)


def _called(node: ast.AST | None) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
