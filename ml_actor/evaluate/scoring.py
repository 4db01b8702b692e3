"""From answers to the numbers of the report, one horizon at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from framework.model import NS_PER_S
from framework.multiplicity import deflated
from framework.window import Float64Array, Int64Array
from ml_actor.evaluate.answers import MODEL, REGIMES, Answer
from ml_actor.evaluate.baselines import MAJORITY
from ml_actor.evaluate.economics import at_coverages, by_confidence, net_by_block
from ml_actor.evaluate.metrics import Blocks, Said, Sums, block_rows, equal_mass_bins, interval, make_blocks, up_share
from ml_actor.evaluation import ECE_BINS, auc, log_losses
from ml_actor.labels import CLASSES, FLAT, UP

POINTS: Final = 60
"""How many points the curve over time has."""
DEFLATED_COVERAGE: Final = 0.05
MAX_HONEST_AUC: Final = 0.955
MAX_AUC_GAIN: Final = 0.04
"""An AUC is doubtful above the former, and above the best baseline's by more than the latter."""


def score_horizon(answer: Answer, horizon: int, *, seed: int, trials: int, sharpes: list[float]) -> dict[str, Any]:
    """Return everything the report says of one horizon; plain values, NaN where a number does not exist."""
    groups = session_numbers(answer)
    blocks = make_blocks(groups, answer.rows, horizon, seed)
    said = answer.probabilities[MODEL]
    table = {name: _scores(name, answer, blocks) for name in answer.probabilities}
    rival = min((name for name in table if name != MODEL), key=lambda name: float(table[name]["log_loss"]["value"]))
    return {
        "rows": len(answer.classes),
        "blocks": blocks.count,
        "block_rows": block_rows(horizon),
        "shares": [float((answer.classes == number).mean()) for number in range(3)],
        "scores": table,
        "gain": {"over": rival, "log_loss": blocks.mean(_saved(answer, rival))},
        "coverage": at_coverages(said, answer.classes, answer.trips, answer.fees, blocks),
        "confidence": by_confidence(said, answer.trips["0"]),
        "reliability": _reliability(said, answer.classes),
        "confusion": [[int(((answer.calls[MODEL] == s) & (answer.classes == h)).sum()) for h in range(3)] for s in range(3)],
        "sessions": _by_group(answer, groups, _session_names(answer, groups)),
        "regimes": _by_group(answer, answer.regimes, dict(enumerate(REGIMES))),
        "folds": _by_group(answer, answer.folds, {int(number): f"fold {number}" for number in np.unique(answer.folds)}),
        "over_time": _over_time(answer, rival),
        "deflated": {
            "gain": deflated(_saved_by_block(answer, rival, blocks), trials, sharpes),
            "net": deflated(net_by_block(said, answer.trips["0"], answer.fees, blocks, DEFLATED_COVERAGE), trials, []),
        },
    }


def session_numbers(answer: Answer) -> Int64Array:
    """Return per row the number of its session, over all files in order."""
    keys = np.stack([answer.files, answer.sessions], axis=1)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1]).reshape(-1)


def _session_names(answer: Answer, groups: Int64Array) -> dict[int, str]:
    names = {}
    for number in np.unique(groups):
        first = int(np.flatnonzero(groups == number)[0])
        start = datetime.fromtimestamp(int(answer.ts_event[first]) // NS_PER_S, UTC)
        names[int(number)] = f"{Path(answer.names[int(answer.files[first])]).name}, from {start:%Y-%m-%d %H:%M} UTC"
    return names


def _said(name: str, answer: Answer, own: Any = slice(None)) -> Said:
    return Said(probabilities=answer.probabilities[name][own], calls=answer.calls[name][own], shares=answer.probabilities[MAJORITY][own])


def _scores(name: str, answer: Answer, blocks: Blocks) -> dict[str, Any]:
    said = _said(name, answer)
    sums = Sums(said, answer.classes, blocks.numbers)
    values, resampled = sums.scores(), sums.scores(blocks.drawn)
    out = {score: {"value": float(values[score][0]), "interval": interval(resampled[score])} for score in values}
    out["auc_up_down"]["value"] = _auc(said.probabilities, answer.classes)
    return out


def _auc(probabilities: Float64Array, classes: Int64Array) -> float:
    has_moved = classes != FLAT
    return auc(up_share(probabilities[has_moved]), classes[has_moved] == UP)


def _saved(answer: Answer, rival: str) -> Float64Array:
    """Return per row the log-loss that the model saves over `rival`."""
    return log_losses(answer.probabilities[rival], answer.classes) - log_losses(answer.probabilities[MODEL], answer.classes)


def _saved_by_block(answer: Answer, rival: str, blocks: Blocks) -> Float64Array:
    return blocks.sums(_saved(answer, rival)) / blocks.sums(np.ones(len(answer.rows)))


def _reliability(probabilities: Float64Array, classes: Int64Array) -> dict[str, Any]:
    """Return per class the bins of its curve, and the calibration error over them (class-wise ECE)."""
    out: dict[str, Any] = {}
    for number, name in enumerate(CLASSES):
        claimed, happened = probabilities[:, number], classes == number
        cells = equal_mass_bins(claimed, ECE_BINS)
        bins = [cells == cell for cell in range(ECE_BINS) if (cells == cell).any()]
        points = [{"claimed": float(claimed[own].mean()), "happened": float(happened[own].mean()), "rows": int(own.sum())} for own in bins]
        error = sum(point["rows"] * abs(point["claimed"] - point["happened"]) for point in points) / len(classes)
        out[name] = {"bins": points, "ece": float(error)}
    return out


def _by_group(answer: Answer, groups: Int64Array, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return per group of rows: its name, rows, and the scores that a few thousand rows can bear."""
    out = []
    for number, name in names.items():
        own = groups == number
        if own.any():
            out.append({"name": name, "rows": int(own.sum())} | _few_scores(answer, own))
    return out


def _few_scores(answer: Answer, own: Any) -> dict[str, Any]:
    said, classes = answer.probabilities[MODEL][own], answer.classes[own]
    values = Sums(_said(MODEL, answer, own), classes, np.zeros(len(classes), np.int64)).scores()
    baselines = [float(log_losses(each[own], classes).mean()) for name, each in answer.probabilities.items() if name != MODEL]
    return {
        "log_loss": float(values["log_loss"][0]),
        "best_baseline": min(baselines),
        "mcc": float(values["mcc"][0]),
        "mcc_largest": float(values["mcc_largest"][0]),
        "auc_up_down": _auc(said, classes),
        "ece": float(values["ece"][0]),
        "share_flat": float((classes == FLAT).mean()),
    }


def _over_time(answer: Answer, rival: str) -> list[dict[str, float]]:
    """Return the mean log-loss of the model and of the best baseline along the test, in up to 60 stretches of equal length."""
    ours, theirs = (log_losses(answer.probabilities[name], answer.classes) for name in (MODEL, rival))
    parts = [part for part in np.array_split(np.arange(len(ours)), min(POINTS, len(ours))) if len(part)]
    return [
        {"ts_event": int(answer.ts_event[part[0]]), "model": float(ours[part].mean()), "baseline": float(theirs[part].mean())}
        for part in parts
    ]


def alarms(horizon: int, scored: Mapping[str, Any]) -> list[str]:
    """Return what in these scores is too good to be true, or hints that a number must not be believed."""
    found = []
    areas = {who: values["auc_up_down"]["value"] for who, values in scored["scores"].items()}
    bound = max(MAX_HONEST_AUC, MAX_AUC_GAIN + max(area for who, area in areas.items() if who != MODEL))
    if areas[MODEL] > bound:
        found.append(f"h={horizon}: AUC of up against down is {areas[MODEL]:.3f}, above {bound:.3f}: look for a leak")
    for coverage, row in scored["coverage"].items():
        low = row["by_latency"]["next_row"]["net_ticks"]["interval"][0]
        if low is not None and math.isfinite(low) and low > 0:
            found.append(f"h={horizon}: a taker profits at {float(coverage):.0%} coverage one row later: look for a leak or a wrong fee")
    return found
