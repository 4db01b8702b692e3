"""Put an explanation together: the window, what the version makes of it, and what the market did next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from framework.errors import IntegrityError
from framework.explanation_job import ExplanationJob
from framework.messages import MARKOUT_HORIZONS_S, HorizonPrediction
from framework.model import NS_PER_S
from framework.window import FLOW_COLUMNS, Float64Array, Rows
from ml_actor.explanation.contributions import Contributions, contributions_of
from ml_actor.explanation.rows import Found, NotFound, find_rows
from ml_actor.features.catalogue import FEATURES, FITTED_FEATURES
from ml_actor.features.engine import select
from ml_actor.labels import CLASSES
from ml_actor.models import ModelBundle
from ml_actor.preparation import window_at
from ml_actor.registry import Registry, UnknownVersion

AFTER_ROWS: Final = 2_000
TOLD: Final = ("reason", "calibration", "tree_weight", "neural_weight", "data")
"""Facts of a version that an explanation repeats."""
Facts = dict[str, Any]


def explain(job: ExplanationJob) -> Facts:
    """Return everything that rows and version still tell about a prediction; what is gone is said in `missing`.

    Raises `IntegrityError` for a damaged dataset manifest.
    """
    missing: list[str] = []
    found = _rows(job, missing)
    bundle, facts = _version(job, missing)
    explained: Facts = {"model": facts}
    if found is not None:
        window_rows = bundle.window_rows if bundle is not None else job.window_rows
        explained["window"] = _window(found, min(window_rows, job.window_rows))
        explained["next"] = _next(job, found)
    if found is not None and bundle is not None:
        explained |= _reasons(job, found, bundle)
    return explained | {"missing": missing}


def _rows(job: ExplanationJob, missing: list[str]) -> Found | None:
    try:
        return find_rows(
            Path(job.dataset_dir),
            job.instrument_id,
            ts_event=job.as_of_ns,
            sequence=job.as_of_sequence,
            before=job.background_rows,
            after=max(AFTER_ROWS, job.horizon_rows),
        )
    except NotFound as exc:
        missing.append(f"window: {exc}")
        return None


def _version(job: ExplanationJob, missing: list[str]) -> tuple[ModelBundle | None, Facts]:
    """Return the version and its facts; a version that is gone or damaged says so, and everything else goes on without it."""
    registry = Registry(job.models_dir)
    facts: Facts = {"version": job.model_version}
    try:
        manifest = registry.manifest(job.model_version)
        facts |= {"number": manifest.number, "horizon_rows": manifest.horizon_rows, "window_rows": manifest.window_rows}
        facts |= {name: manifest.facts[name] for name in TOLD if name in manifest.facts}
        facts["test_scores"] = manifest.facts.get("metrics", {}).get("scores", {}).get("model", {})
        return registry.load(job.model_version), facts
    except (UnknownVersion, IntegrityError) as exc:
        missing.append(f"model: {exc}")
        return None, facts


# --- the window -------------------------------------------------------------------------------------------------------------------


def _window(found: Found, window_rows: int) -> Facts:
    rows = window_at(found.recording, found.row, window_rows).rows
    mids = _mids(rows)
    known = mids[~np.isnan(mids)]
    flow = dict(zip(FLOW_COLUMNS, rows.flow.sum(axis=0).tolist(), strict=True))
    return {
        "rows": len(rows),
        "seconds": (int(rows.ts_event[-1]) - int(rows.ts_event[0])) / NS_PER_S,
        "mid_ticks": _number(mids[-1]),
        "tick_size": found.recording.tick_size,
        "spread_ticks": int(rows.ask_ticks[-1, 0]) - int(rows.bid_ticks[-1, 0]),
        "bid_sizes": rows.bid_sizes[-1].tolist(),
        "ask_sizes": rows.ask_sizes[-1].tolist(),
        "mid_change_ticks": _number(known[-1] - known[0]) if len(known) else None,
        "mid_range_ticks": [float(known.min()), float(known.max())] if len(known) else None,
        "bought_lots": flow["buy_volume"],
        "sold_lots": flow["sell_volume"],
        "order_flow_imbalance_lots": flow["ofi_1"],
        "has_trades": found.recording.has_trades,
    }


def _mids(rows: Rows) -> Float64Array:
    has_both = (rows.bid_sizes[:, 0] > 0) & (rows.ask_sizes[:, 0] > 0)
    return np.where(has_both, (rows.bid_ticks[:, 0].astype(np.float64) + rows.ask_ticks[:, 0]) / 2, np.nan)


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


# --- what happened next -----------------------------------------------------------------------------------------------------------


def _next(job: ExplanationJob, found: Found) -> Facts:
    rows, row = found.recording.rows, found.row
    joints = np.flatnonzero(rows.segment[row:] != rows.segment[row])
    end = row + int(joints[0]) if len(joints) else len(rows)
    mids = _mids(rows)
    why = "its session ended before" if len(joints) else "those rows are not there yet"

    def after(horizon_rows: int, probabilities: Sequence[float]) -> Facts:
        return {"horizon_rows": horizon_rows} | (
            _after(rows, mids, (row, end), horizon_rows, probabilities)
            or {"unknown": f"the mid {horizon_rows} rows later is not known: {why}"}
        )

    facts: Facts = {"mid_ticks": _number(mids[row])} | after(job.horizon_rows, job.probabilities)
    facts["horizons"] = [after(one.horizon_rows, (one.p_down, one.p_flat, one.p_up)) for one in job.horizons]
    if job.decided_ns is not None:
        facts["markouts_ticks"] = _markouts(rows, mids, (row, end), job.decided_ns, is_cut=bool(len(joints)))
    return facts


def _after(rows: Rows, mids: Float64Array, inside: tuple[int, int], horizon_rows: int, probabilities: Sequence[float]) -> Facts:
    """Return what the mid had done after a horizon, and how likely that had been called; nothing where that is not known."""
    row, end = inside
    target = row + horizon_rows
    if target >= end or not np.isfinite(mids[[row, target]]).all():
        return {}
    move = float(mids[target] - mids[row])
    happened = CLASSES[int(np.sign(move)) + 1]
    return {
        "mid_after_ticks": float(mids[target]),
        "move_ticks": move,
        "after_s": (int(rows.ts_event[target]) - int(rows.ts_event[row])) / NS_PER_S,
        "happened": happened,
        "probability_of_what_happened": dict(zip(CLASSES, probabilities, strict=True))[happened],
        "path_ticks": [_number(mids[one] - mids[row]) for one in np.linspace(row, target, 11).astype(int)[1:]],
    }


def _markouts(rows: Rows, mids: Float64Array, inside: tuple[int, int], decided_ns: int, *, is_cut: bool) -> dict[str, float]:
    """Return the moves of the mid from the decision on: of the last row at or before each horizon, as feedback has them."""
    row, end = inside
    times = rows.ts_event[row:end]
    start = row + int(np.searchsorted(times, decided_ns, side="right")) - 1
    found = {}
    for horizon_s in MARKOUT_HORIZONS_S:
        due_ns = decided_ns + horizon_s * NS_PER_S
        is_known = times[-1] >= due_ns
        place = row + int(np.searchsorted(times, due_ns, side="right")) - 1
        if (is_known or is_cut) and due_ns <= times[-1] and np.isfinite(mids[[start, place]]).all():
            found[str(horizon_s)] = float(mids[place] - mids[start])
    return found


# --- reasons ------------------------------------------------------------------------------------------------------------------------


def _reasons(job: ExplanationJob, found: Found, bundle: ModelBundle) -> Facts:
    """Return features, contributions and probabilities: recomputed, and compared with what the journal has."""
    window = window_at(found.recording, found.row, min(bundle.window_rows, job.window_rows))
    features = bundle.engine.transform(window)
    past = select(found.recording.rows, slice(0, found.row + 1))
    background = bundle.engine.transform_rows(past, has_trades=found.recording.has_trades)
    parts = contributions_of(bundle, features, background)
    served = bundle.predict(window)
    calibrated = np.array([served.p_down, served.p_flat, served.p_up])
    return {
        "features": _features(features, background),
        "contributions": _contributions(parts, bundle),
        "probabilities": {
            "raw": dict(zip(CLASSES, parts.raw.tolist(), strict=True)),
            "calibrated": dict(zip(CLASSES, calibrated.tolist(), strict=True)),
            "journal": dict(zip(CLASSES, job.probabilities, strict=True)),
            "largest_difference": float(np.abs(calibrated - np.array(job.probabilities)).max()),
        },
        "horizons": [
            _again(told, next((one for one in served.horizons if one.horizon_rows == told.horizon_rows), None)) for told in job.horizons
        ],
    }


def _again(told: HorizonPrediction, served: HorizonPrediction | None) -> Facts:
    """Return what was said about a further horizon, and how far what the version says now is from it."""
    was = (told.p_down, told.p_flat, told.p_up)
    now = (served.p_down, served.p_flat, served.p_up) if served is not None else (np.nan,) * 3
    return {"horizon_rows": told.horizon_rows, "largest_difference": _number(np.abs(np.array(was) - now).max())}


def _features(features: Float64Array, background: Float64Array) -> list[Facts]:
    listed = (*FEATURES, *FITTED_FEATURES)[: len(features)]
    out = []
    for column, feature in enumerate(listed):
        usual = background[:, column][~np.isnan(background[:, column])]
        value = _number(features[column])
        rank = None if value is None or not len(usual) else float((usual <= value).mean())
        out.append({"name": feature.name, "value": value, "unit": feature.unit, "rank": rank, "formula": feature.formula})
    return out


def _contributions(parts: Contributions, bundle: ModelBundle) -> Facts:
    names = bundle.engine.names
    total = parts.added.sum(axis=0)
    order = np.argsort(-np.abs(total), kind="stable")
    items = [
        {"name": names[column], "total": float(total[column])}
        | {name: float(parts.added[number, column]) for number, name in enumerate(parts.sources)}
        for column in order.tolist()
        if total[column] != 0.0
    ]
    log_odds = float(np.log(parts.raw[2] / parts.raw[0]))
    return {
        "of": "log-odds of up against down, before calibration",
        "how": parts.how,
        "base": parts.base,
        "log_odds": log_odds,
        "left_over": log_odds - parts.base - float(total.sum()),
        "items": items,
    }
