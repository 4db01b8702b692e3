"""A bundle as files and back: npz without pickles, and golden windows that must come out the same.

Bytes depend on the model alone (npz members carry no time), so the same data and seed give the same files.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from framework.errors import IntegrityError
from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule
from ml_actor.features.engine import AdvancedMLFeatureEngine, select
from ml_actor.features.regime import RegimeModel
from ml_actor.features.shock import shock_from_arrays
from ml_actor.forest import from_arrays
from ml_actor.models import Head, LinearModel, ModelBundle, Scores, TreeModel
from ml_actor.neural import NeuralModel

FILES: Final = ("linear.npz", "trees.npz", "neural.npz", "shock.npz", "regimes.npz", "calibration.npz", "golden.npz")
"""Every version has exactly these beside its manifest."""

_GOLDEN_TOLERANCE: Final = 1e-9
_ROW_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Rows))


def pack(bundle: ModelBundle, golden_windows: Sequence[Window]) -> dict[str, bytes]:
    """Return the files of `bundle`; `golden_windows` are stored with what it predicts from them now."""
    shock, regimes = bundle.engine.shock, bundle.engine.regimes
    if shock is None or regimes is None:
        raise ValueError("a bundle is served with fitted feature models: give its engine `shock` and `regimes`")
    return {
        "linear.npz": _npz(**_named(bundle, _linear)),
        "trees.npz": _npz(**_named(bundle, lambda head: head.trees.forest.arrays())),
        "neural.npz": _npz(**bundle.neural.arrays()),
        "shock.npz": _npz(**shock.arrays()),
        "regimes.npz": _npz(**regimes.arrays()),
        "calibration.npz": _npz(**_named(bundle, _choices), rows=np.array([bundle.window_rows, *bundle.horizons])),
        "golden.npz": _golden(bundle, golden_windows),
    }


def unpack(files: Mapping[str, bytes], version: str) -> ModelBundle:
    """Build the bundle from bytes that were checked before, and let it reproduce its golden windows.

    Raises `IntegrityError` when it does not.
    """
    linear, trees, choices = (_arrays(files[name]) for name in ("linear.npz", "trees.npz", "calibration.npz"))
    window_rows, *horizons = (int(rows) for rows in choices["rows"])
    shock = shock_from_arrays(_arrays(files["shock.npz"]))
    regimes = RegimeModel(**_arrays(files["regimes.npz"]))
    bundle = ModelBundle(
        version=version,
        window_rows=window_rows,
        engine=AdvancedMLFeatureEngine(window_rows=window_rows, shock=shock, regimes=regimes),
        neural=NeuralModel(**_arrays(files["neural.npz"])),
        heads=tuple(
            _head(horizon, *(_of_head(arrays, place) for arrays in (linear, trees, choices))) for place, horizon in enumerate(horizons)
        ),
    )
    _check_golden(bundle, files["golden.npz"])
    return bundle


def _head(horizon_rows: int, linear: dict[str, Any], trees: dict[str, Any], choices: dict[str, Any]) -> Head:
    tree_weight, neural_weight, neutral_cut, strong_cut = (float(cut) for cut in choices["cuts"])
    return Head(
        horizon_rows=horizon_rows,
        linear=LinearModel(**linear),
        trees=TreeModel(forest=from_arrays(trees)),
        tree_weight=tree_weight,
        neural_weight=neural_weight,
        calibration=Calibration(kind=CalibrationKind(str(choices["kind"])), parameters=choices["parameters"]),
        rule=FlowRule(neutral_cut=neutral_cut, strong_cut=strong_cut),
    )


def _choices(head: Head) -> dict[str, Any]:
    cuts = [head.tree_weight, head.neural_weight, head.rule.neutral_cut, head.rule.strong_cut]
    return {"kind": np.array(head.calibration.kind.value), "parameters": head.calibration.parameters, "cuts": np.array(cuts)}


def _linear(head: Head) -> dict[str, Any]:
    return {field.name: getattr(head.linear, field.name) for field in dataclasses.fields(head.linear)}


def _named(bundle: ModelBundle, arrays_of: Callable[[Head], dict[str, Any]]) -> dict[str, Any]:
    """Return the arrays of all heads: the traded one's by their names, those of further ones with `1.`, `2.`, ... before them.

    So the files of a version of one horizon are what they were before there could be more.
    """
    return {_name(place, name): array for place, head in enumerate(bundle.heads) for name, array in arrays_of(head).items()}


def _of_head(arrays: dict[str, Any], place: int) -> dict[str, Any]:
    names = {_name(place, name.rpartition(".")[2]): name.rpartition(".")[2] for name in arrays if name != "rows"}
    return {plain: arrays[name] for name, plain in names.items() if name in arrays}


def _name(place: int, name: str) -> str:
    return f"{place}.{name}" if place else name


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: np.ascontiguousarray(archive[name]) if archive[name].ndim else archive[name] for name in archive.files}


def _numbers(scores: Scores) -> list[float]:
    traded = [scores.p_down, scores.p_flat, scores.p_up, scores.confidence, scores.regime, scores.shock_score, scores.flow_type.direction]
    further = ([one.p_down, one.p_flat, one.p_up, one.confidence, one.flow_type.direction] for one in scores.horizons)
    return traded + [number for numbers in further for number in numbers]


def _golden(bundle: ModelBundle, windows: Sequence[Window]) -> bytes:
    joined = {name: np.concatenate([getattr(window.rows, name) for window in windows]) for name in _ROW_FIELDS}
    return _npz(
        expected=np.array([_numbers(bundle.predict(window)) for window in windows]),
        lengths=np.array([len(window.rows) for window in windows]),
        has_trades=np.array([window.has_trades for window in windows]),
        tick_sizes=np.array([window.tick_size for window in windows]),
        **joined,
    )


def _check_golden(bundle: ModelBundle, content: bytes) -> None:
    golden = _arrays(content)
    rows = Rows(**{name: golden[name] for name in _ROW_FIELDS})
    ends = np.cumsum(golden["lengths"])
    for number, (end, length) in enumerate(zip(ends, golden["lengths"], strict=True)):
        window = Window(
            instrument_id="GOLDEN.TEST",
            tick_size=float(golden["tick_sizes"][number]),
            has_trades=bool(golden["has_trades"][number]),
            rows=select(rows, slice(int(end - length), int(end))),
            bars=np.empty((0, len(BAR_COLUMNS))),
        )
        found, expected = _numbers(bundle.predict(window)), golden["expected"][number]
        if not np.allclose(found, expected, rtol=_GOLDEN_TOLERANCE, atol=_GOLDEN_TOLERANCE, equal_nan=True):
            raise IntegrityError(
                f"{bundle.version}: golden window {number} gives {found}, stored {expected.tolist()}; retrain on this machine"
            )
