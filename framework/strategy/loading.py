"""From a strategy's file to the strategy: its class by name, its parameters checked."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import pydantic

from framework.config import StrategyFile
from framework.errors import ConfigError
from framework.strategy.base import Strategy
from framework.strategy.context import StrategyContext


def load_strategy(context: StrategyContext) -> Strategy:
    """Build the strategy that `context.file` names. Raises `ConfigError`."""
    strategy_class = load_strategy_class(context.file.strategy)
    return strategy_class(context, read_parameters(strategy_class, context.file))


def load_strategy_class(path: str) -> type[Strategy]:
    """Import `module:Class`. Raises `ConfigError` when it cannot be imported, is not there or is no `Strategy`."""
    module_name, colon, class_name = path.partition(":")
    if not (module_name and colon and class_name):
        raise ConfigError(f"strategy must be module:Class, for example strategies.ml_futures:MLFuturesStrategy, got {path!r}")
    module = _import(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Strategy)]
        raise ConfigError(f"strategy {path}: module {module_name} has no class {class_name}{_nearest(class_name, classes)}")
    if not (inspect.isclass(found) and issubclass(found, Strategy)):
        raise ConfigError(f"strategy {path}: {class_name} is not a subclass of framework.strategy.Strategy")
    return found


def read_parameters(strategy_class: type[Strategy], file: StrategyFile) -> Strategy.Parameters:
    """Check `parameters` of a strategy's file against the class. Raises `ConfigError` that names every wrong key."""
    model = strategy_class.Parameters
    try:
        return model.model_validate(file.parameters)
    except pydantic.ValidationError as exc:
        lines = [_complaint(error, model.model_fields) for error in exc.errors(include_url=False)]
        raise ConfigError(f"strategy {file.name}: " + "; ".join(lines)) from exc


def _import(module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (module_name == exc.name or module_name.startswith(exc.name + ".")):
            raise ConfigError(f"strategy module {module_name} cannot be imported: it needs {exc.name}, which is not installed") from exc
        raise ConfigError(f"strategy module {module_name} does not exist; is the folder of {exc.name} on the Python path?") from exc
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as exc:
        raise ConfigError(f"strategy module {module_name} cannot be imported: {type(exc).__name__}: {exc}") from exc


def _complaint(error: Mapping[str, Any], fields: Iterable[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"parameters.{key} is not a parameter{_nearest(key, fields)}"
    return f"parameters.{key}: {error['msg']}, got {error['input']!r}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(names) or 'none'}"
