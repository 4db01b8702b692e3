"""Anything that makes columns out of rows: a feature set, a model's probabilities, a whole walk-forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.errors import ConfigError
from framework.window import Float64Array
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.preparation import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns by name, float64 (n, F); NaN where a row has no value."""

    names: tuple[str, ...]
    values: Float64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something to check: what it is called, and how its columns come out of a recording."""

    title: str
    compute: Callable[[Recording], Table]


class CannotCompute(Exception):
    """The code that is checked raised, or gave back something that is no columns; the text says what."""


def shipped_features(window_rows: int) -> Subject:
    """Return the features of the engine without fitted feature models."""
    engine = AdvancedMLFeatureEngine(window_rows=window_rows)

    def compute(recording: Recording) -> Table:
        values = engine.transform_rows(recording.rows, has_trades=recording.has_trades)
        return Table(names=tuple(engine.names), values=values)

    return Subject(title=f"features of the engine ({len(engine.names)})", compute=compute)


def users_features(target: str, found: Any) -> Subject:
    """Return a subject of a function of `Rows`, or of an object with `transform_rows(rows, has_trades=...)` as the engine has."""
    title = f"features {target}"
    has_engine = hasattr(found, "transform_rows")
    if not has_engine and not callable(found):
        raise ConfigError(f"{target}: found {type(found).__name__}; allowed a function of rows, or an object with transform_rows")

    def compute(recording: Recording) -> Table:
        with_trades = {"has_trades": recording.has_trades}
        made = guarded(title, lambda: found.transform_rows(recording.rows, **with_trades) if has_engine else found(recording.rows))
        return as_table(made, len(recording.rows), title, getattr(found, "names", ()))

    return Subject(title=title, compute=compute)


def guarded(title: str, call: Callable[[], Any]) -> Any:
    """Return what the user's code gives. Raises `CannotCompute` for whatever it raises."""
    try:
        return call()
    # Code that is not ours, run on purpose to see what it does: its fault is the answer, not ours.
    except Exception as exc:
        raise CannotCompute(f"{title} raises {type(exc).__name__}: {str(exc)[:200]}") from exc


def as_table(made: Any, rows: int, title: str, names: Any = ()) -> Table:
    """Return what a function gave (a mapping, a data frame, an array of n or of n x F numbers) as a table."""
    if isinstance(made, Mapping):
        parts = {str(name): np.asarray(values) for name, values in made.items()}
    elif hasattr(made, "columns"):
        parts = {str(name): np.asarray(made[name]) for name in made.columns}
    else:
        array = np.atleast_2d(np.asarray(made).T)
        found = [str(name) for name in names] if len(tuple(names)) == len(array) else [f"column {n}" for n in range(len(array))]
        parts = dict(zip(found, array, strict=True))
    wrong = [name for name, values in parts.items() if values.shape != (rows,)]
    if wrong or not parts:
        shapes = ", ".join(f"{name}: {parts[name].shape}" for name in wrong[:3]) or "nothing"
        raise CannotCompute(f"{title} gives {shapes}; expected one number for each of {rows} rows")
    try:
        values = np.column_stack([np.asarray(values, np.float64) for values in parts.values()])
    except (TypeError, ValueError) as exc:
        raise CannotCompute(f"{title} gives something that is no number: {str(exc)[:200]}") from exc
    return Table(names=tuple(parts), values=values)
