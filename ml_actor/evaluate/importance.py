"""What a model would lose without a kind of input: every kind is decoupled from the rest in turn and the test scored again.

Decoupled means shifted in a circle by half of the rows: its values keep their distribution and their course in time, but no
longer belong to the rows they stand in (permutation importance, Breiman 2001, kept in order for series). Prices are held still
instead, with their gaps between levels, and times are spread evenly. It asks any model that predicts rows the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from framework.window import FLOW_COLUMNS, Float64Array, Rows
from ml_actor.evaluate.targets import targets
from ml_actor.evaluation import log_losses
from ml_actor.features.engine import select
from ml_actor.horizons import EARLIER_ROWS
from ml_actor.preparation import Recording

MAX_ROWS: Final = 6_000
_SIZES: Final = ("bid_sizes", "ask_sizes")
_TRADES: Final = [FLOW_COLUMNS.index(name) for name in ("buy_volume", "sell_volume", "unknown_volume", "buy_trades", "sell_trades")]
_EVENTS: Final = [FLOW_COLUMNS.index(name) for name in ("bid_events", "ask_events")]
_OFI: Final = [place for place, name in enumerate(FLOW_COLUMNS) if name.startswith("ofi_")]


def _shifted(array: Any) -> Any:
    return np.roll(array, len(array) // 2, axis=0)


def _without_sizes(rows: Rows, levels: slice) -> Rows:
    changed = {}
    for name in _SIZES:
        sizes = getattr(rows, name).copy()
        sizes[:, levels] = _shifted(sizes[:, levels])
        changed[name] = sizes
    return replace(rows, **changed)


def _without_flow(rows: Rows, columns: list[int]) -> Rows:
    flow = rows.flow.copy()
    flow[:, columns] = _shifted(flow[:, columns])
    return replace(rows, flow=flow)


def _without_moves(rows: Rows) -> Rows:
    """Hold the best bid where it was in the first row; the gaps to it stay."""
    moved = rows.bid_ticks[:, :1] - rows.bid_ticks[0, 0]
    return replace(
        rows,
        bid_ticks=np.where(rows.bid_sizes > 0, rows.bid_ticks - moved, 0).astype(np.int32),
        ask_ticks=np.where(rows.ask_sizes > 0, rows.ask_ticks - moved, 0).astype(np.int32),
    )


def _without_times(rows: Rows) -> Rows:
    return replace(rows, ts_event=np.linspace(rows.ts_event[0], rows.ts_event[-1], len(rows)).astype(np.int64))


INPUTS: Final[Mapping[str, Callable[[Rows], Rows]]] = {
    "sizes of the best queues": lambda rows: _without_sizes(rows, slice(0, 1)),
    "sizes of deeper levels": lambda rows: _without_sizes(rows, slice(1, None)),
    "moves of the prices": _without_moves,
    "order-flow imbalance": lambda rows: _without_flow(rows, _OFI),
    "trades by aggressor": lambda rows: _without_flow(rows, _TRADES),
    "counts of book events": lambda rows: _without_flow(rows, _EVENTS),
    "times between rows": _without_times,
}


def importance(
    predict_rows: Callable[[Recording], Mapping[int, Float64Array]], recording: Recording, thresholds: Mapping[int, float]
) -> dict[int, dict[str, float]]:
    """Return by horizon how much log-loss is lost without each kind of input, on up to 6,000 rows of the longest session."""
    part = replace(recording, rows=_longest_session(recording.rows))
    if len(part.rows) <= EARLIER_ROWS + max(thresholds):
        return {}
    whole = _losses(predict_rows, part, part, thresholds)
    lost = {name: _losses(predict_rows, replace(part, rows=without(part.rows)), part, thresholds) for name, without in INPUTS.items()}
    return {horizon: {name: losses[horizon] - whole[horizon] for name, losses in lost.items()} for horizon in whole}


def _longest_session(rows: Rows) -> Rows:
    _, starts, counts = np.unique(rows.segment, return_index=True, return_counts=True)
    longest = int(counts.argmax())
    return select(rows, slice(int(starts[longest]), int(starts[longest] + min(counts[longest], MAX_ROWS))))


def _losses(
    predict_rows: Callable[[Recording], Mapping[int, Float64Array]], shown: Recording, truth: Recording, thresholds: Mapping[int, float]
) -> dict[int, float]:
    said = predict_rows(shown)
    found = {horizon: targets(truth.rows, horizon) for horizon in thresholds}
    return {
        horizon: float(log_losses(said[horizon][own.rows], own.classes(thresholds[horizon])).mean())
        for horizon, own in found.items()
        if len(own.rows)
    }
