"""Write docs/reference and the schema from the code: every key, every command. Draw the diagram of the breaker's states."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parent / "reference"
RESILIENCE = REFERENCE.parent / "topics" / "resilience.md"
SCHEMA = REFERENCE.parents[1] / "propylon.schema.json"
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"
COMMANDS = (
    *(
        "run",
        "check",
        "audit",
        "top",
        "health",
        "routes",
        "explain",
        "init",
        "schema",
        "demo",
        "token",
        "user",
    ),
    *(f"user {verb}" for verb in ("add", "list", "disable", "enable", "password", "remove")),
)

Schema = dict[str, Any]


def main() -> int:
    """Write the pages, the diagram in a third, and the schema; print their paths."""
    REFERENCE.mkdir(exist_ok=True)
    pages = {
        "configuration": configuration(),
        "commands": commands(),
        "metrics": metrics(),
        "audit": audit(),
    }
    for name, text in pages.items():
        page = REFERENCE / f"{name}.md"
        page.write_text(text)
        print(page)
    RESILIENCE.write_text(with_states(RESILIENCE.read_text(encoding="utf-8")), encoding="utf-8")
    print(RESILIENCE)
    models = importlib.import_module("propylon.config.models.json_schema")
    SCHEMA.write_text(models.json_schema_text(), encoding="utf-8")
    print(SCHEMA)
    return 0


def configuration() -> str:
    """Return the page of the configuration: for every key its kind, default and meaning."""
    schema = importlib.import_module("propylon.config.models.json_schema").json_schema()
    definitions = schema.get("$defs", {})
    lines = [NOTE, "", "# Configuration", ""]
    lines += [
        "Look up here every key of `propylon.yaml`: its kind, its default and its meaning.",
        "",
        "Durations are seconds or text such as `500ms`, `10s`, `5m`, `30d`; sizes are bytes or text such as",
        "`10MB`, `1MiB`; rates are text such as `10/s`, `10/m`, `5/h`; shares are text such as `20%`, or a",
        "number from 0 to 1. `${VAR}` and `${VAR:-default}` are replaced from the environment. A key that is",
        "not listed here is refused.",
    ]
    for name, part in schema["properties"].items():
        lines += [
            "",
            f"## `{name}`",
            "",
            text_of(resolved(part, definitions)) or text_of(part),
            "",
            "| key | kind | default | meaning |",
        ]
        lines += ["|---|---|---|---|", *rows(name, part, definitions)]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return the page of the metrics: for every one its kind, its labels and its meaning."""
    families = importlib.import_module("propylon.telemetry.families")
    lines = [NOTE, "", "# Metrics", ""]
    lines += [
        "`GET /metrics` answers loopback addresses, addresses in `metrics.allow`, and tokens with the scope `admin`. It speaks OpenMetrics",
        "where `Accept` asks for it, and Prometheus' own text format elsewhere. Every metric below is there from the start.",
        "",
        "Whichever worker is asked, it answers for all workers of the machine. Counters never fall while the gateway runs, even if a worker",
        "is killed. Gauges are at most a second old.",
        "",
        "Labels come from the configuration and from the registry: no client can create a time series.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in families.FAMILIES:
        name = family.name + ("_total" if family.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {escaped(family.about)} |")
    return "\n".join(lines) + "\n"


def audit() -> str:
    """Return the page of the rules of `propylon audit`: for every one what it finds, why, and how to mend it."""
    rules = importlib.import_module("propylon.commands.audit.catalogue").RULES
    lines = [NOTE, "", "# The rules of `propylon audit`", ""]
    lines += [
        "Look up here every rule: what it finds, why that matters, and how to mend it. [Audit a configuration](../howto/audit.md) says how",
        "to run it. An id stays what it is. `--ignore PRP301` silences a rule.",
        "",
        "`PRP1..` are the doubts of `propylon check`. `PRP2..` look at the file, and only an audit has them. `PRP3..` need traffic: the metrics of",
        "a running gateway.",
    ]
    for rule in rules:
        lines += ["", f"### {rule.id}", "", f"`{rule.name}`, {rule.level}. {rule.finds}", ""]
        lines += [f"Why: {rule.why}", "", f"Mend: {rule.mend}"]
    return "\n".join(lines) + "\n"


def rows(path: str, part: Schema, definitions: Schema) -> Iterator[str]:
    """Yield the row of a key, or the rows of the keys inside it."""
    inner = resolved(part, definitions)
    suffix = ""
    if one := one_or_list(inner, definitions):
        yield f"| `{path}` | mapping, or list of mappings | | {escaped(text_of(part))} |"
        inner = one
    if short := mapping_or_short(inner, definitions):
        mapping, kind = short
        told = text_of(mapping if kind == "text" else part)
        yield f"| `{path}` | mapping, or {kind} | | {escaped(told)} |"
        inner = mapping
    if inner.get("type") == "array" and "items" in inner:
        items = resolved(inner["items"], definitions)
        if mapping := text_or_mapping(items, definitions):
            # Of a list whose items may also be a text alone, both are told: the list, and the keys of the mapping.
            kind = kind_of(part, definitions)
            yield f"| `{path}` | {kind} | {default_of(part)} | {escaped(text_of(part))} |"
            inner, suffix = mapping, "[]"
        elif "properties" in items:
            inner, suffix = items, "[]"
    elif values := values_of(inner):
        values = resolved(values, definitions)
        if "properties" in values:
            inner, suffix = values, ".NAME"
    if "properties" in inner:
        for name, child in inner["properties"].items():
            given = child if name not in inner.get("required", ()) else {**child, "required": True}
            yield from rows(f"{path}{suffix}.{name}", given, definitions)
        return
    kind, default = kind_of(part, definitions), default_of(part)
    yield f"| `{path}` | {kind} | {default} | {escaped(text_of(part))} |"


def text_or_mapping(items: Schema, definitions: Schema) -> Schema | None:
    """Return the schema of a mapping that may also be written as a text; None for anything else."""
    kinds = [resolved(kind, definitions) for kind in items.get("anyOf", ())]
    mappings = [kind for kind in kinds if "properties" in kind]
    texts = [kind for kind in kinds if kind.get("type") == "string"]
    return mappings[0] if len(mappings) == len(texts) == 1 else None


def one_or_list(part: Schema, definitions: Schema) -> Schema | None:
    """Return the schema of a mapping that may also be written as a list of such mappings; None for anything else."""
    kinds = [kind for kind in part.get("anyOf", ()) if "const" not in kind]  # such as `none`
    items = [kind["items"] for kind in kinds if kind.get("type") == "array" and "items" in kind]
    same = len(kinds) == 2 and len(items) == 1 and items[0] in kinds
    found = resolved(items[0], definitions) if same else {}
    return found if "properties" in found else None


def is_word(name: str, kinds: list[Schema]) -> bool:
    """Whether this word may be written in place of a mapping."""
    return any(kind.get("const") == name for kind in kinds)


SHORT = {"string": "text", "boolean": "true or false", "none": "none"}


def mapping_or_short(part: Schema, definitions: Schema) -> tuple[Schema, str] | None:
    """Return the schema of a mapping that has a short form, and what that is; None for anything else."""
    kinds = part.get("anyOf", ())
    found = [resolved(kind, definitions) for kind in kinds if "$ref" in kind]
    short = [name for name in SHORT if {"type": name} in kinds or is_word(name, kinds)]
    return (found[0], SHORT[short[0]]) if len(found) == len(short) == 1 else None


def values_of(part: Schema) -> Schema | None:
    """Return the schema of the values of a mapping with free keys; None for anything else."""
    found = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def resolved(part: Schema, definitions: Schema) -> Schema:
    """Follow references; of alternatives, take the only one that an operator would write."""
    if "$ref" in part:
        return resolved(definitions[part["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" not in part:
        return part
    alternatives = [other for other in part["anyOf"] if is_meant(other)]
    if len(alternatives) == 1:
        return resolved(alternatives[0], definitions)
    return {**part, "anyOf": alternatives}


def is_meant(alternative: Schema) -> bool:
    """Whether an operator would write this: not the alternatives for an empty key or a ${VAR}."""
    return alternative.get("type") != "null" and alternative.get("pattern") != r"\$\{"


def kind_of(part: Schema, definitions: Schema) -> str:
    """Return the kinds of value that the key takes."""
    inner = resolved(part, definitions)
    if "enum" in inner:
        return " · ".join(f"`{value}`" for value in inner["enum"])
    if inner.get("type") == "array":
        return f"list of {kind_of(inner.get('items', {}), definitions)}"
    if values := values_of(inner):
        return f"mapping to {kind_of(values, definitions)}"
    if "anyOf" in inner:
        return " or ".join(dict.fromkeys(kind_of(one, definitions) for one in inner["anyOf"]))
    return str(inner.get("format") or inner.get("type") or "any")


def default_of(part: Schema) -> str:
    """Return the default as the file would have it."""
    if part.get("required"):
        return "*required*"
    default = part.get("default")
    if default is None or default in ("", [], {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def text_of(part: Schema) -> str:
    """Return the description of the key, on one line."""
    return " ".join(str(part.get("description", "")).split())


def escaped(text: str) -> str:
    """Return text that is safe in a cell of a table."""
    return text.replace("|", "\\|")


def commands() -> str:
    """Return the page of the commands: the `--help` of each."""
    lines = [NOTE, "", "# Commands", "", "Look up here every command and its options.", ""]
    lines += ["```text", help_of(), "```"]
    for command in COMMANDS:
        lines += ["", f"## `propylon {command}`", "", "```text", help_of(*command.split()), "```"]
    return "\n".join(lines) + "\n"


def help_of(*command: str) -> str:
    """Run `propylon … --help` without colours, in 100 columns."""
    done = subprocess.run(
        [sys.executable, "-m", "propylon", *command, "--help"],
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def states() -> str:
    """Return the diagram of the breaker's states, from its table of transitions."""
    table = importlib.import_module("propylon.services.breaker").TRANSITIONS
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table))}"]
    for old, events in table.items():
        lines += [f"    {old} --> {new}: {event}" for event, new in events.items()]
    return "\n".join(lines) + "\n"


def with_states(page: str) -> str:
    """Return the page with the diagram in the place of the old one."""
    return re.sub(r"(?s)(?<=```mermaid\n)stateDiagram-v2\n.*?(?=```)", lambda _: states(), page)


if __name__ == "__main__":
    sys.exit(main())
