"""From a document to settings: pydantic says what is wrong, the document where, the schema what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pydantic

from framework.logs import foreign
from framework.strict_yaml.document import Document
from framework.strict_yaml.problems import MAX_KEPT, ConfigFileError, KeyPath, Problem, did_you_mean, key_name

Model = TypeVar("Model", bound=pydantic.BaseModel)

_SECRET_NAME: Final = re.compile(r"secret|passw|passphrase|api_?key|private_?key|token|credential", re.IGNORECASE)
_SECRET_POINTER: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
_SECRET_EXEMPT: Final = re.compile(r"_(file|dir|path)$")
_NUMBERS: Final = {"integer": "a whole number", "number": "a number"}
_WORDS: Final = {"boolean": "true or false", "string": "a text", "array": "a list", "null": "nothing"}


def validate(document: Document, model: type[Model], extra: Sequence[Problem] = (), *, at: KeyPath = ()) -> Model:
    """Check the part of `document` at `at` against `model`. Raises `ConfigFileError` with every problem, `extra` too."""
    problems = [*document.problems, *extra]
    value: Any = document.value
    for part in at:
        value = value.get(part, {})
    try:
        checked = model.model_validate(value)
    except pydantic.ValidationError as exc:
        schema = model.model_json_schema()
        for error in exc.errors(include_url=False)[:MAX_KEPT]:
            problem = _problem(document, schema, error, at)
            if problem is not None:
                problems.append(problem)
        raise ConfigFileError(problems) from exc
    if problems:
        raise ConfigFileError(problems)
    return checked


def literal_secrets(document: Document) -> list[Problem]:
    """Return a problem for each value that looks like a secret and is written out; its text is never repeated."""
    problems = []
    for path, value in _leaves(document.value, ()):
        name = str(path[-1])
        if not (isinstance(value, str) and _SECRET_NAME.search(name)) or _SECRET_EXEMPT.search(name):
            continue
        if not _SECRET_POINTER.fullmatch(value):
            where = document.position(path)
            text = f"{key_name(path)}: found a secret; allowed env:NAME or file:/path"
            problems.append(Problem(document.source, where.line, where.column, text))
    return problems


def _leaves(value: Any, path: KeyPath) -> Iterable[tuple[KeyPath, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _problem(document: Document, schema: Mapping[str, Any], error: Any, at: KeyPath) -> Problem | None:
    """Return the complaint about one pydantic error, or None if the document has complained about that value already."""
    local = tuple(error["loc"])
    context = error.get("ctx", {})
    if "key" in context:
        local = (*local, context["key"])
    path = (*at, *local)
    if any(path[:length] in document.refused for length in range(len(path) + 1)):
        return None
    where = document.position(path, of_key=error["type"] in {"extra_forbidden", "missing"})
    text = _text(schema, error, local)
    name = key_name(path)
    return Problem(document.source, where.line, where.column, f"{name}: {text}" if name else text)


def _text(schema: Mapping[str, Any], error: Any, path: KeyPath) -> str:
    if error["type"] == "extra_forbidden":
        known = list(_node(schema, path[:-1]).get("properties", {}))
        return f"found an unknown key; allowed {', '.join(known) or 'none'}{did_you_mean(str(path[-1]), known)}"
    node = _node(schema, path)
    if error["type"] == "missing":
        return f"found nothing; allowed {_allowed(node)}"
    if "allowed" in error.get("ctx", {}):
        return f"found {foreign(str(error['ctx']['found']))}; allowed {error['ctx']['allowed']}"
    if error["type"] in {"value_error", "assertion_error"}:
        return f"found {_found(error['input'])}; {foreign(error['msg'])}"
    choices = [str(choice) for choice in node.get("enum", ())]
    return f"found {_found(error['input'])}; allowed {_allowed(node)}{did_you_mean(str(error['input']), choices)}"


def _node(schema: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
    """Return the JSON schema of the key at `path`, or an empty one where the schema does not know it."""
    node = _resolved(schema, schema)
    for part in path:
        inner = (
            node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        )
        node = _resolved(schema, inner if isinstance(inner, Mapping) else {})
    return node


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        node = {**options[0], **{key: value for key, value in node.items() if key == "description"}}
    if "$ref" in node:
        target: Mapping[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]]
        return target
    return node


def _allowed(node: Mapping[str, Any]) -> str:
    kind = node.get("type", "")
    if "enum" in node:
        return "one of " + ", ".join(str(choice) for choice in node["enum"])
    if kind == "object":
        names = list(node.get("properties", {}))
        return f"keys and values ({', '.join(names)})" if names else "keys and values"
    if "description" in node:
        return str(node["description"])
    if kind in _NUMBERS:
        return _NUMBERS[kind] + _range(node)
    return _WORDS.get(kind, "a value of another type")


def _range(node: Mapping[str, Any]) -> str:
    low, above, high, below = (node.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))
    lower = f"from {_plain(low)}" if low is not None else f"above {_plain(above)}" if above is not None else ""
    upper = f"up to {_plain(high)}" if high is not None else f"below {_plain(below)}" if below is not None else ""
    if low is not None and high is not None:
        upper = f"to {_plain(high)}"
    return "".join(f" {part}" for part in (lower, upper) if part)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {json.dumps(foreign(value, 60), ensure_ascii=False)}"
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else foreign(str(value), 60)
