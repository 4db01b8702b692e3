"""From text to a tree of values with positions, out of PyYAML's events: iterative, so depth is a number and no crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from framework.logs import foreign
from framework.strict_yaml.problems import MAX_KEPT, ConfigFileError, KeyPath, Problem, key_name
from framework.strict_yaml.reading import refuse_unwanted
from framework.strict_yaml.scalars import Trap, is_plain_key, read_plain

MAX_DEPTH: Final = 20

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Position(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """The root mapping of a file. `problems` were found so far; `refused` are the paths whose values they are about."""

    source: str
    value: dict[str, Any]
    key_positions: dict[KeyPath, Position]
    value_positions: dict[KeyPath, Position]
    problems: tuple[Problem, ...]
    refused: frozenset[KeyPath]

    def position(self, path: KeyPath, *, of_key: bool = False) -> Position:
        """Return where `path` stands, or the nearest thing around it that the file has."""
        for length in range(len(path), 0, -1):
            positions = self.key_positions if of_key or length < len(path) else self.value_positions
            if path[:length] in positions:
                return positions[path[:length]]
        return Position(1, 1)


def parse(text: str, source: str) -> Document:
    """Parse `text`; `source` is its name in complaints.

    Raises `ConfigFileError` where nothing sensible can follow: syntax, depth, a second document, no mapping at the root.
    """
    refuse_unwanted(text, source)
    builder = _Builder(source)
    try:
        for event in _events(text):
            builder.accept(event)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(source, exc) from exc
    except yaml.YAMLError as exc:
        raise ConfigFileError([Problem(source, 0, 0, f"found a syntax error: {foreign(str(exc))}")]) from exc
    return builder.document()


def _events(text: str) -> Iterator[yaml.Event]:
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
    return events


def _syntax_error(source: str, exc: yaml.MarkedYAMLError) -> ConfigFileError:
    mark = exc.problem_mark or exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return ConfigFileError([Problem(source, line, column, f"found a syntax error: {foreign(exc.problem or str(exc))}")])


@dataclass(slots=True)
class _Frame:
    """An open mapping or list. `key` is the key whose value comes next."""

    path: KeyPath
    container: dict[str, Any] | list[Any]
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    source: str
    key_positions: dict[KeyPath, Position] = field(default_factory=dict)
    value_positions: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)
    frames: list[_Frame] = field(default_factory=list)
    root: dict[str, Any] | None = None
    documents: int = 0

    def accept(self, event: yaml.Event) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def document(self) -> Document:
        if self.root is None:
            raise self._fatal(Position(1, 1), "found an empty file; allowed keys and values")
        return Document(
            source=self.source,
            value=self.root,
            key_positions=self.key_positions,
            value_positions=self.value_positions,
            problems=tuple(self.problems),
            refused=frozenset(self.refused),
        )

    # --- one method per event ------------------------------------------------------------------------------------------

    def on_document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            raise self._fatal(_at(event), "found a second document; allowed one in a file")
        if event.version or event.tags:
            raise self._fatal(_at(event), "found a directive (%); allowed none")

    def on_mapping(self, event: Any) -> None:
        if self._is_key_next():
            raise self._fatal(_at(event), "found a block as a key; allowed a name")
        self._open(event, {})

    def on_list(self, event: Any) -> None:
        if self._is_key_next():
            raise self._fatal(_at(event), "found a list as a key; allowed a name")
        self._open(event, [])

    def on_end(self, event: Any) -> None:  # noqa: ARG002 (the table calls every handler alike)
        self.frames.pop()

    def on_alias(self, event: Any) -> None:
        if self._is_key_next():
            raise self._fatal(_at(event), "found an alias (*) as a key; allowed a name")
        path = self._next_path()
        self._complain(_at(event), path, f"found the alias *{foreign(event.anchor, 60)}; allowed the value itself")
        self._put(event, path, None)

    def on_scalar(self, event: Any) -> None:
        if self._is_key_next():
            self._take_key(event)
            return
        path = self._next_path()
        self._refuse_node_properties(event, path)
        value = read_plain(event.value) if not event.style and event.tag is None else event.value
        if isinstance(value, Trap):
            self._complain(_at(event), path, f"found {foreign(value.found, 60)}; allowed {value.allowed}")
            value = None
        self._put(event, path, value)

    # --- the tree ------------------------------------------------------------------------------------------------------

    def _is_key_next(self) -> bool:
        return bool(self.frames) and isinstance(self.frames[-1].container, dict) and self.frames[-1].key is None

    def _take_key(self, event: Any) -> None:
        frame, key, where = self.frames[-1], event.value, _at(event)
        path = (*frame.path, key)
        self._refuse_node_properties(event, path)
        if not event.style and not is_plain_key(key):
            self._complain(
                where, path, f"found the key {foreign(key, 60) or 'that is empty'}; allowed a name (no merge keys, switches or numbers)"
            )
        elif path in self.key_positions:
            first = self.key_positions[path]
            self._complain(where, path, f"found a second time; allowed once (first in line {first.line})")
        self.key_positions.setdefault(path, where)
        frame.key = key

    def _next_path(self) -> KeyPath:
        if not self.frames:
            return ()
        frame = self.frames[-1]
        return (*frame.path, frame.key if isinstance(frame.container, dict) and frame.key is not None else len(frame.container))

    def _open(self, event: Any, container: dict[str, Any] | list[Any]) -> None:
        path = self._next_path()
        if len(self.frames) >= MAX_DEPTH:
            raise self._fatal(_at(event), f"found more than {MAX_DEPTH} levels of nesting; allowed {MAX_DEPTH}")
        self._refuse_node_properties(event, path)
        self._put(event, path, container)
        self.frames.append(_Frame(path, container))

    def _put(self, event: Any, path: KeyPath, value: Any) -> None:
        self.value_positions.setdefault(path, _at(event))
        if not self.frames:
            self._put_root(event, value)
            return
        frame = self.frames[-1]
        if isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container.setdefault(frame.key or "", value)
            frame.key = None

    def _put_root(self, event: Any, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise self._fatal(_at(event), f"found {'a list' if isinstance(value, list) else 'a single value'}; allowed keys and values")
        self.root = value

    def _refuse_node_properties(self, event: Any, path: KeyPath) -> None:
        if event.anchor is not None:
            self._complain(_at(event), path, f"found the anchor &{foreign(event.anchor, 60)}; allowed none")
        if event.tag is not None:
            self._complain(_at(event), path, f"found the tag {foreign(event.tag, 60)}; allowed none")

    def _complain(self, where: Position, path: KeyPath, text: str) -> None:
        self.refused.add(path)
        if len(self.problems) >= MAX_KEPT:
            return
        name = key_name(path)
        self.problems.append(Problem(self.source, where.line, where.column, f"{name}: {text}" if name else text))

    def _fatal(self, where: Position, text: str) -> ConfigFileError:
        return ConfigFileError([*self.problems, Problem(self.source, where.line, where.column, text)])


def _at(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


_HANDLERS: Final[dict[type[yaml.Event], Callable[[_Builder, Any], None]]] = {
    yaml.DocumentStartEvent: _Builder.on_document,
    yaml.MappingStartEvent: _Builder.on_mapping,
    yaml.SequenceStartEvent: _Builder.on_list,
    yaml.MappingEndEvent: _Builder.on_end,
    yaml.SequenceEndEvent: _Builder.on_end,
    yaml.AliasEvent: _Builder.on_alias,
    yaml.ScalarEvent: _Builder.on_scalar,
}
