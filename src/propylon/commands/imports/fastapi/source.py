"""Find routes and constants in the syntax tree of a file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from propylon.commands.imports.parts import Variable
from propylon.commands.imports.report import At
from propylon.commands.imports.source import Source

__all__ = ["Endpoint", "Module", "read_module"]

_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "trace"})
_URL = re.compile(r"https?://[^\s{}]+")
_PLAIN_TYPES = frozenset(
    ["str", "int", "float", "bool", "bytes", "dict", "list", "Any", "Request", "Response", "WebSocket", "BackgroundTasks", "Optional",
     "UUID", "Annotated", "Path", "Query", "Header", "Depends", "Security", "fastapi", "starlette"]
)  # fmt: skip
_ASKS = frozenset({"Depends", "Security"})


@dataclass(slots=True)
class Endpoint:
    """A route as the source has it."""

    path: str
    methods: list[str]
    at: At
    function: ast.FunctionDef | ast.AsyncFunctionDef
    asks: list[str] = field(default_factory=list)  # what Depends names
    decorators: list[str] = field(default_factory=list)  # others beside it
    unknown: str = ""  # what of the decorator is not plain


@dataclass(slots=True)
class Module:
    """What a file says."""

    source: Source
    texts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)
    others: list[At] = field(default_factory=list)  # middlewares and the like
    shared: list[str] = field(default_factory=list)  # dependencies of the whole app

    def names_in(self, function: ast.AST) -> set[str]:
        """Return the names that a function uses."""
        return {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}


def read_module(source: Source) -> Module:
    """Parse a file. Raises Unreadable."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise source.refuse(line, "no Python that this version can parse") from error
    module = Module(source)
    for node in tree.body:
        _constant(module, node)
    for inner in ast.walk(tree):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            _function(module, inner)
        elif isinstance(inner, ast.Call):
            _call(module, inner)
    module.endpoints.sort(key=lambda one: one.at.place.line)
    return module


def _constant(module: Module, node: ast.stmt) -> None:
    target: ast.expr
    value: ast.expr | None
    if isinstance(node, ast.AnnAssign):
        target, value = node.target, node.value
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
    else:
        return
    if not isinstance(target, ast.Name) or value is None:
        return
    if isinstance(value, ast.Dict):
        module.tables[target.id] = _table(module, value)
    elif text := text_of(module, value):
        module.texts[target.id] = text


def _table(module: Module, value: ast.Dict) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, inner in zip(value.keys, value.values, strict=True):
        name = text_of(module, key) if key else ""
        if isinstance(inner, ast.Dict):  # {"users": {"url": "http://users"}}
            texts = _table(module, inner)
            url = next((text for text in texts.values() if "://" in text), "")
        else:
            url = text_of(module, inner)
        if name:
            found[name] = url
    return found


def text_of(module: Module, node: ast.expr) -> str:
    """Return a text: a literal, a constant, or an environment variable with its default; empty for others."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.Name):
        return module.texts.get(node.id, "")
    if isinstance(node, ast.Call):
        return _variable(module, node)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        name = text_of(module, node.slice)
        return Variable(f"${{{name}}}") if name.isidentifier() else ""
    return ""


def _variable(module: Module, node: ast.Call) -> str:
    if ast.unparse(node.func) not in (
        "os.getenv",
        "os.environ.get",
        "getenv",
        "environ.get",
        "config",
    ):
        return ""
    args = [text_of(module, one) for one in node.args]
    if not args or not args[0].isidentifier():
        return ""
    default = args[1] if len(args) > 1 else ""
    if default and (isinstance(default, Variable) or not _URL.fullmatch(default)):
        return ""
    return Variable(f"${{{args[0]}:-{default}}}" if default else f"${{{args[0]}}}")


def _function(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    routes = [one for one in function.decorator_list if _is_route(one)]
    others = [ast.unparse(one) for one in function.decorator_list if not _is_route(one)]
    for one in routes:
        if not isinstance(one, ast.Call) or not isinstance(one.func, ast.Attribute):
            continue
        if one.func.attr in ("middleware", "exception_handler", "on_event"):
            if one.func.attr == "middleware":
                at = module.source.at(one.lineno, ast.unparse(one))
                module.others.append(at)
            continue
        module.endpoints.append(_endpoint(module, function, one, others))


def _is_route(node: ast.expr) -> bool:
    kinds = {
        *_METHODS,
        "api_route",
        "route",
        "websocket",
        "middleware",
        "exception_handler",
        "on_event",
    }
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in kinds
    )


def _endpoint(
    module: Module,
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    call: ast.Call,
    others: list[str],
) -> Endpoint:
    kind = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    words = {word.arg: word.value for word in call.keywords if word.arg}
    first = call.args[0] if call.args else words.get("path")
    path = text_of(module, first) if first is not None else ""
    methods = [] if kind in ("api_route", "route", "websocket") else [kind.upper()]
    unknown = "" if path.startswith("/") else "its path is not a plain text"
    if "methods" in words:
        listed = words["methods"]
        texts = (
            [text_of(module, one) for one in listed.elts]
            if isinstance(listed, ast.List | ast.Tuple | ast.Set)
            else [""]
        )
        methods = [one.upper() for one in texts]
        if not all(texts):
            unknown = "its methods are not plain texts"
    elif kind in ("api_route", "route"):
        methods = ["GET"]
    if kind == "websocket":
        methods = ["WEBSOCKET"]
    at = module.source.at(call.lineno, f"{kind} {path or '?'}")
    found = Endpoint(path, methods, at, function, decorators=others, unknown=unknown)
    found.asks = dependencies(function.args) + dependencies(words.get("dependencies"))
    found.asks += _foreign_types(function.args)
    return found


def _foreign_types(args: ast.arguments) -> list[str]:
    """Return types of parameters that may hide a Depends, such as CurrentUser."""
    return [
        f"the type {node.id}"
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]
        if arg.annotation is not None
        for node in ast.walk(arg.annotation)
        if isinstance(node, ast.Name) and node.id not in _PLAIN_TYPES
    ]


def dependencies(node: ast.AST | None) -> list[str]:
    """Return what Depends and Security name anywhere below."""
    if node is None:
        return []
    return [
        ast.unparse(inner.args[0]) if inner.args else "its type"
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call) and ast.unparse(inner.func).rpartition(".")[2] in _ASKS
    ]


def _call(module: Module, call: ast.Call) -> None:
    name = ast.unparse(call.func).rpartition(".")[2]
    words = {word.arg: word.value for word in call.keywords if word.arg}
    if name in ("FastAPI", "APIRouter", "include_router"):
        module.shared += dependencies(words.get("dependencies"))
    if name in ("add_middleware", "include_router", "mount", "add_api_route") or (
        name == "APIRouter" and "prefix" in words
    ):
        module.others.append(module.source.at(call.lineno, ast.unparse(call)[:80]))
