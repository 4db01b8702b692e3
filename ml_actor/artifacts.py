"""A bundle as files and back: npz without pickles, and golden windows that must come out the same.

Bytes depend on the model alone (npz members carry no time), so the same data and seed give the same files.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from framework.errors import IntegrityError
from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule
from ml_actor.features.engine import AdvancedMLFeatureEngine, select
from ml_actor.features.regime import RegimeModel
from ml_actor.features.shock import shock_from_arrays
from ml_actor.forest import from_arrays
from ml_actor.models import LinearModel, ModelBundle, Scores, TreeModel
from ml_actor.neural import NeuralModel

FILES: Final = ("linear.npz", "trees.npz", "neural.npz", "shock.npz", "regimes.npz", "calibration.npz", "golden.npz")
"""Every version has exactly these beside its manifest."""

_GOLDEN_TOLERANCE: Final = 1e-9
_ROW_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Rows))


def pack(bundle: ModelBundle, golden_windows: Sequence[Window]) -> dict[str, bytes]:
    """Return the files of `bundle`; `golden_windows` are stored with what it predicts from them now."""
    linear, calibration = bundle.linear, bundle.calibration
    shock, regimes = bundle.engine.shock, bundle.engine.regimes
    if shock is None or regimes is None:
        raise ValueError("a bundle is served with fitted feature models: give its engine `shock` and `regimes`")
    return {
        "linear.npz": _npz(offset=linear.offset, scale=linear.scale, weights=linear.weights, intercept=linear.intercept),
        "trees.npz": _npz(**bundle.trees.forest.arrays()),
        "neural.npz": _npz(**bundle.neural.arrays()),
        "shock.npz": _npz(**shock.arrays()),
        "regimes.npz": _npz(**regimes.arrays()),
        "calibration.npz": _npz(
            kind=np.array(calibration.kind.value),
            parameters=calibration.parameters,
            cuts=np.array([bundle.tree_weight, bundle.neural_weight, bundle.rule.neutral_cut, bundle.rule.strong_cut]),
            rows=np.array([bundle.window_rows, bundle.horizon_rows]),
        ),
        "golden.npz": _golden(bundle, golden_windows),
    }


def unpack(files: Mapping[str, bytes], version: str) -> ModelBundle:
    """Build the bundle from bytes that were checked before, and let it reproduce its golden windows.

    Raises `IntegrityError` when it does not.
    """
    calibration = _arrays(files["calibration.npz"])
    tree_weight, neural_weight, neutral_cut, strong_cut = (float(cut) for cut in calibration["cuts"])
    window_rows, horizon_rows = (int(rows) for rows in calibration["rows"])
    shock = shock_from_arrays(_arrays(files["shock.npz"]))
    regimes = RegimeModel(**_arrays(files["regimes.npz"]))
    bundle = ModelBundle(
        version=version,
        window_rows=window_rows,
        horizon_rows=horizon_rows,
        engine=AdvancedMLFeatureEngine(window_rows=window_rows, shock=shock, regimes=regimes),
        linear=LinearModel(**_arrays(files["linear.npz"])),
        trees=TreeModel(forest=from_arrays(_arrays(files["trees.npz"]))),
        tree_weight=tree_weight,
        neural=NeuralModel(**_arrays(files["neural.npz"])),
        neural_weight=neural_weight,
        calibration=Calibration(kind=CalibrationKind(str(calibration["kind"])), parameters=calibration["parameters"]),
        rule=FlowRule(neutral_cut=neutral_cut, strong_cut=strong_cut),
    )
    _check_golden(bundle, files["golden.npz"])
    return bundle


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: np.ascontiguousarray(archive[name]) if archive[name].ndim else archive[name] for name in archive.files}


def _numbers(scores: Scores) -> list[float]:
    return [scores.p_down, scores.p_flat, scores.p_up, scores.confidence, scores.regime, scores.shock_score, scores.flow_type.direction]


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
