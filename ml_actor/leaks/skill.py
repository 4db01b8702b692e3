"""What is known to be there must be found, what is not there must not: skill on books of known strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from framework.leak_job import Finding, LeakJob, Verdict
from framework.window import Float64Array, Int64Array
from ml_actor.evaluation import log_losses
from ml_actor.labels import label_rows
from ml_actor.leaks import book, chance
from ml_actor.leaks.book import Book
from ml_actor.leaks.columns import Subject

PLANTED_STRENGTH: Final = 0.8
TOLERATED: Final = 0.10
"""How far from the true strength a planted signal may be found."""
FAR_SHIFTS: Final = (0.31, 0.47, 0.63)
"""Labels are shifted by these shares of a recording: far beyond every horizon and every memory."""
NAMED: Final = 8
Fit = Callable[[Book, int], "Predict | str"]
Predict = Callable[[Book], Float64Array]
"""Returns (n, 3) probabilities of down, flat, up; NaN where a row is not predicted."""


def scored(made: Book, horizon_rows: int) -> tuple[Int64Array, Any]:
    """Return the moves over the horizon (half ticks) and where they are known."""
    labels = label_rows(made.recording.rows, horizon_rows=horizon_rows, min_history=1)
    return labels.moves, labels.is_valid


# --- columns ------------------------------------------------------------------------------------------------------------------


def check_martingale(subject: Subject, job: LeakJob) -> Finding:
    """Measure how well each column tells up from down where nothing can."""
    estimates: list[chance.Estimate] = []
    names: tuple[str, ...] = ()
    for seed in seeds(job):
        made = book.generate(job.rows, seed=seed, strength=0.0)
        table = subject.compute(made.recording)
        names = table.names
        estimates.append(chance.direction_auc(table.values, *scored(made, job.horizon_rows), seed=seed))
    return judged(subject.title, "no skill on a martingale", names, chance.pool(estimates), job.seeds)


def check_shifted_labels(subject: Subject, job: LeakJob) -> Finding:
    """Measure how well each column of a book with a signal tells the directions of quite other rows."""
    estimates: list[chance.Estimate] = []
    names: tuple[str, ...] = ()
    for seed in seeds(job):
        made = book.generate(job.rows, seed=seed, strength=PLANTED_STRENGTH)
        table = subject.compute(made.recording)
        names = table.names
        moves, is_valid = scored(made, job.horizon_rows)
        for share in FAR_SHIFTS:
            shift = int(share * job.rows)
            estimates.append(chance.direction_auc(table.values, np.roll(moves, -shift), np.roll(is_valid, -shift), seed=seed))
    return judged(subject.title, "no skill on shifted labels", names, chance.pool(estimates), job.seeds)


def judged(title: str, check: str, names: Sequence[str], pooled: chance.Pooled, count: int) -> Finding:
    """Say whether any column is further from chance than luck explains, and which."""
    beyond = [names[int(column)] for column in np.flatnonzero(pooled.beyond())]
    worst = int(np.argmax(np.abs(pooled.value)))
    numbers = {
        "largest_auc_minus_half": float(pooled.value[worst]),
        "its_standard_error": float(pooled.error[worst]),
        "outside_their_95_percent_interval": float(pooled.outside),
        "of": float(pooled.of),
        "outside_their_joint_95_percent_interval": float(pooled.outside_jointly),
        "seeds": float(count),
    }
    share = (
        f"{pooled.outside} of {pooled.of} scores outside their own 95 % interval ({chance.expected_outside(pooled.of):g} expected), "
        f"{pooled.outside_jointly} outside that of all together"
    )
    if not beyond:
        detail = f"AUC of up against down at most {abs(pooled.value[worst]):.4f} from 1/2 ({names[worst]}); {share}, {count} seeds"
        return Finding(subject=title, check=check, verdict=Verdict.OK, detail=detail, numbers=numbers)
    found = ", ".join(f"{name} (AUC {0.5 + pooled.value[list(names).index(name)]:.3f})" for name in beyond[:NAMED])
    more = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
    return Finding(
        subject=title,
        check=check,
        verdict=Verdict.LEAK,
        names=tuple(beyond),
        detail=f"chance cannot do this: {found}{more}",
        numbers=numbers,
    )


def seeds(job: LeakJob) -> range:
    """Return the seeds of the generated books."""
    return range(job.seed, job.seed + job.seeds)


# --- models -------------------------------------------------------------------------------------------------------------------


def check_planted(title: str, fit: Fit, job: LeakJob) -> Finding:
    """Fit on one book with a signal, predict another: the gain must be that of the best possible model, within 10 %."""
    check, gains = "finds a planted signal", []
    for seed in seeds(job):
        found = _gains(fit, job, seed, PLANTED_STRENGTH)
        if isinstance(found, str):
            return Finding(subject=title, check=check, verdict=Verdict.FAILED, detail=found)
        gains.append(found)
    rows = np.concatenate([rows + number * job.rows for number, (_, rows) in enumerate(gains)])
    values = np.concatenate([values for values, _ in gains])
    return _judge_planted(title, check, values, rows, job)


def _judge_planted(title: str, check: str, values: Float64Array, rows: Int64Array, job: LeakJob) -> Finding:
    """`values` (m, 2): what the model and the best possible one gain on each row, nats."""
    total = job.rows * job.seeds
    blocks = total // chance.BLOCK_ROWS
    sums = chance.block_sums(values, rows, blocks)
    drawn = chance.block_weights(blocks, job.seed) @ sums
    ratio = float(values[:, 0].sum() / values[:, 1].sum())
    interval = chance.bootstrap(np.array([ratio]), (drawn[:, 0] / drawn[:, 1])[:, None], blocks)
    low, high, best = float(interval.low[0]), float(interval.high[0]), float(values[:, 1].mean())
    numbers = {"found_share": ratio, "low": low, "high": high, "best_gain_nats": best, "seeds": float(job.seeds)}
    detail = f"gains {ratio:.1%} of what the best possible model gains ({best:.4f} nats a row; 95 %: {low:.1%} to {high:.1%})"
    verdict, words = _judge_share(ratio, low, high)
    return Finding(subject=title, check=check, verdict=verdict, detail=detail + words, numbers=numbers)


def _judge_share(ratio: float, low: float, high: float) -> tuple[Verdict, str]:
    if low > 1 + TOLERATED:
        return Verdict.LEAK, ": more than there is to know"
    if abs(ratio - 1) <= TOLERATED:
        return Verdict.OK, ""
    if high < 1 - TOLERATED:
        return Verdict.FAILED, ": more than 10 % are lost"
    return Verdict.SKIPPED, ": more than 10 % away, but that may be chance; take more rows or seeds"


def check_no_gain(title: str, fit: Fit, job: LeakJob) -> Finding:
    """Fit on one martingale, predict another: log-loss and AUC must be no better than those of the shares of the classes."""
    check, gains, directions = "no skill on a martingale", [], []
    for seed in seeds(job):
        train, test = _pair(job, seed, 0.0)
        predict = fit(train, seed)
        if isinstance(predict, str):
            return Finding(subject=title, check=check, verdict=Verdict.FAILED, detail=predict)
        probabilities = predict(test)
        values, rows = _gain_of(probabilities, train, test, job.horizon_rows)
        gains.append(chance.mean_of(values[:, :1], rows, job.rows, seed=seed))
        lean = (probabilities[:, 2] - probabilities[:, 0])[:, None]
        directions.append(chance.direction_auc(lean, *_predicted(probabilities, test, job.horizon_rows), seed=seed))
    gain, direction = chance.pool(gains), chance.pool(directions)
    numbers = {
        "gain_nats": float(gain.value[0]),
        "gain_standard_error": float(gain.error[0]),
        "auc_minus_half": float(direction.value[0]),
        "auc_standard_error": float(direction.error[0]),
        "auc_outside_its_95_percent_interval": float(direction.outside),
        "auc_outside_joint_95_percent_interval": float(direction.outside_jointly),
        "seeds": float(job.seeds),
    }
    is_leak = bool(gain.beyond(is_one_sided=True)[0] or direction.beyond()[0])
    detail = (
        f"log-loss gain {gain.value[0]:+.5f} +- {gain.error[0]:.5f} nats, AUC {0.5 + direction.value[0]:.4f} +- {direction.error[0]:.4f}; "
        f"AUC outside its own 95 % interval in {direction.outside} of {job.seeds} seeds ({chance.expected_outside(job.seeds):g} expected), "
        f"outside that of all together in {direction.outside_jointly}"
    )
    return Finding(subject=title, check=check, verdict=Verdict.LEAK if is_leak else Verdict.OK, detail=detail, numbers=numbers)


def _pair(job: LeakJob, seed: int, strength: float) -> tuple[Book, Book]:
    """Return a book to fit on and one to predict, from streams of their own."""
    return tuple(book.generate(job.rows, seed=2 * seed + part, strength=strength) for part in range(2))  # type: ignore[return-value]


def _gains(fit: Fit, job: LeakJob, seed: int, strength: float) -> tuple[Float64Array, Int64Array] | str:
    train, test = _pair(job, seed, strength)
    predict = fit(train, seed)
    return predict if isinstance(predict, str) else _gain_of(predict(test), train, test, job.horizon_rows)


def _gain_of(probabilities: Float64Array, train: Book, test: Book, horizon_rows: int) -> tuple[Float64Array, Int64Array]:
    """Return per predicted row what the model and the best possible one gain over the class shares of `train`, and the rows."""
    moves, is_valid = _predicted(probabilities, test, horizon_rows)
    known, can_count = scored(train, horizon_rows)
    shares = np.bincount(np.sign(known[can_count]) + 1, minlength=3) / can_count.sum()
    rows = np.flatnonzero(is_valid)
    classes = np.sign(moves[rows]) + 1
    base = log_losses(np.tile(shares, (len(rows), 1)), classes)
    best = log_losses(test.best_probabilities(horizon_rows)[rows], classes)
    return np.column_stack([base - log_losses(probabilities[rows], classes), base - best]), rows


def _predicted(probabilities: Float64Array, test: Book, horizon_rows: int) -> tuple[Int64Array, Any]:
    moves, is_valid = scored(test, horizon_rows)
    return moves, is_valid & ~np.isnan(probabilities).any(axis=1)
