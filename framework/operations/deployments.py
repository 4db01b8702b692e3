"""Deployments: a strategy's file, checked in full, compared with what is deployed, and remembered in the journal.

The journal keeps the text of the file as it was deployed, so a later edit of the file changes nothing until it is deployed again.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.config import StrategyFile
from framework.errors import ConfigError, IntegrityError
from framework.logs import foreign
from framework.strategy import Strategy, load_strategy_class
from framework.strict_yaml import ConfigFileError, Problem, load_strategy_text, parse, validate
from framework.trading import journal as journals
from framework.trading.journal import Journal

NEW: Final = "new"
UNCHANGED: Final = "unchanged"
CHANGED: Final = "changed"
_IMPORT_FAULTS: Final = (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError)
"""What a user's module may raise while it is imported, beside what `load_strategy_class` turns into `ConfigError`."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One key that differs; None where the side does not have it."""

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("not set" if value is None else value for value in (self.before, self.after))
        return f"{self.key}: {before} -> {after}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What deploying a file does: `kind` is new, unchanged or changed. `is_code_changed`: the strategy's source differs."""

    name: str
    kind: str
    changes: tuple[Change, ...] = ()
    is_code_changed: bool = False
    is_running: bool = False
    is_dry_run: bool = False


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps of a deployment beside its name and digest."""

    path: str
    text: str
    code_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A checked strategy file. `digest` covers every setting of it and the source of the strategy."""

    file: StrategyFile
    strategy_class: type[Strategy]
    parameters: Strategy.Parameters
    path: str
    text: str
    code_digest: str

    @property
    def digest(self) -> str:
        """Return SHA-256 over the settings (not the comments) and the code, in hex."""
        return hashlib.sha256(f"{self.file.model_dump_json()}\n{self.code_digest}".encode()).hexdigest()


def read_deployment(text: str, path: str) -> Deployment:
    """Check a strategy's file in full: keys, the class it names, the class's own parameters. Imports the strategy's module.

    Raises `ConfigError` with file, line and column.
    """
    file, document = load_strategy_text(text, path), parse(text, path)
    try:
        strategy_class = load_strategy_class(file.strategy)
    except (ConfigError, *_IMPORT_FAULTS) as exc:
        where = document.position(("strategy",))
        why = str(exc) if isinstance(exc, ConfigError) else f"strategy {file.strategy} cannot be imported: {type(exc).__name__}: {exc}"
        raise ConfigFileError([Problem(path, where.line, where.column, foreign(why, 1_000))]) from exc
    parameters = validate(document, strategy_class.Parameters, at=("parameters",))
    return Deployment(
        file=file, strategy_class=strategy_class, parameters=parameters, path=path, text=text, code_digest=code_digest(strategy_class)
    )


def code_digest(strategy_class: type[Strategy]) -> str:
    """Return SHA-256 over the source files of the class and of its bases outside of the framework, in hex."""
    modules = {module for kind in strategy_class.__mro__ if (module := inspect.getmodule(kind)) is not None and _is_users(module.__name__)}
    digest = hashlib.sha256()
    for module in sorted(modules, key=lambda one: one.__name__):
        digest.update(f"{module.__name__}\0".encode())
        digest.update(_source(module.__file__))
    return digest.hexdigest()


def _is_users(module_name: str) -> bool:
    return module_name.partition(".")[0] not in {"framework", "builtins", "typing", "abc"}


def _source(path: str | None) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError:
        return b""


# --- plans -----------------------------------------------------------------------------------------------------------------


def plan(deployment: Deployment, existing: journals.Deployment | None) -> Plan:
    """Return what deploying does to what is deployed under that name, key by key."""
    name = deployment.file.name
    if existing is None:
        return Plan(name=name, kind=NEW)
    body = _body(existing)
    try:
        before = load_strategy_text(body.text, body.path).model_dump(mode="json")
    except ConfigError:  # written by another version of Tidebook: everything counts as new
        before = {}
    changes = tuple(_changes(_flat(before), _flat(deployment.file.model_dump(mode="json"))))
    is_code_changed = body.code_digest != deployment.code_digest
    return Plan(name=name, kind=CHANGED if changes or is_code_changed else UNCHANGED, changes=changes, is_code_changed=is_code_changed)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield Change(key=key, before=before.get(key), after=after.get(key))


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, dict) and tree:
        return {name: text for key, value in tree.items() for name, text in _flat(value, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {} if tree is None or not prefix else {prefix: foreign(msgspec.json.encode(tree).decode(), 100)}


# --- the journal -------------------------------------------------------------------------------------------------------------


def remember(journal: Journal, deployment: Deployment, now_ns: int) -> None:
    """Record a deployment durably; one of the same name is replaced."""
    body = _Body(path=deployment.path, text=deployment.text, code_digest=deployment.code_digest)
    journal.put_deployment(deployment.file.name, msgspec.json.encode(body).decode(), deployment.digest, now_ns)


def recall(stored: journals.Deployment) -> Deployment:
    """Return a remembered deployment, checked again. Raises `ConfigError` if its strategy no longer exists or takes it."""
    body = _body(stored)
    return read_deployment(body.text, f"deployed {body.path}")


def is_code_changed(stored: journals.Deployment, deployment: Deployment) -> bool:
    """Return whether the strategy's source is another one than when it was deployed."""
    return _body(stored).code_digest != deployment.code_digest


def _body(stored: journals.Deployment) -> _Body:
    try:
        return msgspec.json.decode(stored.body, type=_Body)
    except msgspec.DecodeError as exc:
        raise IntegrityError(f"the deployment {foreign(stored.name)} in the journal cannot be read: {exc}; undeploy it") from exc
