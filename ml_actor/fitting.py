"""Fitting: scikit-learn, LightGBM and hmmlearn, used here and nowhere else. Every fit is seeded and single-threaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
import treelite
from hmmlearn.hmm import GaussianHMM
from scipy.optimize import minimize, minimize_scalar
from sklearn.ensemble import IsolationForest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from framework.window import Float64Array, Int64Array
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule, logit, softmax, up_given_move
from ml_actor.evaluation import is_better, log_losses, matthews
from ml_actor.features.catalogue import INDEX, REGIMES, SHOCK_INPUTS
from ml_actor.features.regime import RegimeModel, match_states, stationary
from ml_actor.features.shock import ShockModel
from ml_actor.forest import extended, from_treelite
from ml_actor.labels import FLAT, UP
from ml_actor.models import LinearModel, TreeModel, pool

MAX_REGIME_ROWS: Final = 10_000
MAX_SHOCK_ROWS: Final = 20_000
MIN_CALIBRATION_ROWS: Final = 300
MIN_ISOTONIC_ROWS: Final = 2_000
SERVED_KINDS: Final = (CalibrationKind.TEMPERATURE, CalibrationKind.SIGMOID)
"""What a training chooses from: one slice of labels that overlap is too little for maps of many parameters. Isotonic steps that fit it
cost 0.004 to 0.17 nats on another day; vector scaling, on average worse than a temperature, prefers a direction too (docs/models.md)."""
TREE_WEIGHTS: Final = tuple(step / 10 for step in range(11))
TREES: Final[dict[str, Any]] = {
    "objective": "multiclass",
    "num_class": 3,
    "learning_rate": 0.06,
    "num_leaves": 7,
    "min_data_in_leaf": 300,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
MAX_ROUNDS: Final = 100
PATIENCE_ROUNDS: Final = 8
_PARITY_TOLERANCE: Final = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Features (n, F), classes (n,) and weights (n,) of one slice."""

    features: Float64Array
    classes: Int64Array
    weights: Float64Array

    def __len__(self) -> int:
        return len(self.classes)


class FitRefused(Exception):
    """A model that must not serve: it could not be fitted, or its served form does not give what the fitted one gives."""


def check_equal(name: str, served: Float64Array, fitted: Float64Array) -> float:
    """Return the largest difference. Raises `FitRefused` above 1e-7."""
    difference = float(np.abs(served - fitted).max())
    if not difference <= _PARITY_TOLERANCE:
        raise FitRefused(f"{name}: the served form differs from the fitted model by {difference:.3g}")
    return difference


def fit_regimes(runs: Sequence[Float64Array], seed: int, *, previous: RegimeModel | None = None) -> RegimeModel:
    """Fit the hidden Markov model on runs of observations (n_i, 3), each within one segment; only the newest 10,000 rows.

    States are numbered as the nearest ones of `previous`, without it from calm to volatile.
    """
    kept = _newest(runs, MAX_REGIME_ROWS)
    joined = np.concatenate(kept)
    offset, scale = joined.mean(axis=0), np.maximum(joined.std(axis=0), 1e-3)
    # A little noise, so that a column that never changes (a spread of always one tick) has a covariance.
    noise = np.random.default_rng(seed).normal(scale=0.02, size=joined.shape)
    standardised = (joined - offset) / scale + noise
    lengths = [len(run) for run in kept]
    fits = [found for start in range(2) if (found := _hmm(standardised, lengths, seed + start)) is not None]
    if not fits:
        raise FitRefused("regimes: the hidden Markov model found no parameters that are finite")
    best = max(fits, key=lambda model: float(model.score(standardised, lengths)))
    order = np.argsort(best.means_[:, 0], kind="stable")
    transition = best.transmat_[np.ix_(order, order)] * (1 - 1e-6) + 1e-6 / REGIMES
    variances = np.array([np.diag(covariance) for covariance in best.covars_])[order]
    means = np.ascontiguousarray(best.means_[order])
    chain = np.ascontiguousarray(transition / transition.sum(axis=1, keepdims=True))
    fitted = RegimeModel(start=stationary(chain), transition=chain, means=means, variances=variances, offset=offset, scale=scale)
    return match_states(previous, fitted)[0] if previous else fitted


def _hmm(observed: Float64Array, lengths: list[int], seed: int) -> Any:
    model = GaussianHMM(REGIMES, covariance_type="diag", min_covar=1e-3, n_iter=25, tol=1.0, random_state=seed)
    try:
        model.fit(observed, lengths)
    except ValueError:  # a state that lost all its rows
        return None
    parts = (model.transmat_, model.means_, model.covars_)
    return model if all(np.isfinite(part).all() for part in parts) else None


def _newest(runs: Sequence[Float64Array], most: int) -> list[Float64Array]:
    kept: list[Float64Array] = []
    for run in reversed(runs):
        room = most - sum(len(other) for other in kept)
        if room < 2:
            break
        kept.insert(0, run[-room:])
    return kept


def fit_shock(features: Float64Array, seed: int) -> tuple[ShockModel, float]:
    """Fit the isolation forest; return its served form and how far that is from sklearn's `score_samples`."""
    chosen = features[:, [INDEX[name] for name in SHOCK_INPUTS]]
    medians = np.array([_median(column) for column in chosen.T])
    stride = -(-len(features) // MAX_SHOCK_ROWS)
    model = ShockModel(forest=None, medians=medians, usual_path=1.0)
    inputs = model.inputs(features[::stride])
    forest = IsolationForest(n_estimators=50, max_samples=min(256, len(inputs)), random_state=seed, n_jobs=1).fit(inputs)
    imported = treelite.sklearn.import_model(forest)
    usual_path = float(imported.get_header_accessor().get_field("ratio_c")[0])
    served = ShockModel(forest=from_treelite(imported), medians=medians, usual_path=usual_path)
    sample = slice(0, 500)
    difference = check_equal("shock.npz", served.scores(features[::stride][sample]), -forest.score_samples(inputs[sample]))
    return served, difference


def _median(column: Float64Array) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def fit_linear(train: Examples, *, strength: float = 5e-4) -> LinearModel:
    """Fit multinomial logistic regression on standardised, clipped, mean-imputed features."""
    offset, scale = moments(train.features)
    shape = LinearModel(offset=offset, scale=scale, weights=np.zeros((3, len(offset))), intercept=np.zeros(3))
    return continue_linear(train, shape, strength=strength)


def continue_linear(train: Examples, model: LinearModel, *, strength: float = 5e-4) -> LinearModel:
    """Fit on from the weights of `model`, in its standard deviations: the optimum does not depend on the start, the time does."""
    found = LogisticRegression(C=strength, max_iter=200, tol=1e-3, warm_start=True)
    found.classes_, found.coef_, found.intercept_ = np.arange(3), model.weights.copy(), model.intercept.copy()
    found.fit(model.standardised(train.features), train.classes, sample_weight=train.weights)
    return LinearModel(offset=model.offset, scale=model.scale, weights=np.ascontiguousarray(found.coef_), intercept=found.intercept_)


def moments(features: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return mean and standard deviation of each column over what is known in it; a column that never changes has 1."""
    known = ~np.isnan(features)
    counts = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, features, 0.0)
    offset = filled.sum(axis=0) / counts
    spread = np.sqrt((np.where(known, features - offset, 0.0) ** 2).sum(axis=0) / counts)
    return offset, np.where(spread > 1e-9, spread, 1.0)


def fit_trees(train: Examples, validation: Examples | None, *, seed: int, rounds: int = MAX_ROUNDS) -> tuple[TreeModel, float]:
    """Fit boosted trees, stopped early on `validation`; return the served form and how far it is from LightGBM's."""
    data = lightgbm.Dataset(train.features, train.classes, weight=train.weights)
    later = [lightgbm.Dataset(validation.features, validation.classes, reference=data)] if validation else []
    stop: list[Any] = [lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)] if validation else []
    booster = lightgbm.train({**TREES, "seed": seed}, data, rounds, valid_sets=later, callbacks=stop)
    booster = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    served = TreeModel(forest=from_treelite(treelite.frontend.from_lightgbm(booster)))
    sample = train.features[:: max(1, len(train) // 500)].copy()
    sample[::5] = np.where(np.random.default_rng(seed).random(sample[::5].shape) < 0.3, np.nan, sample[::5])
    return served, check_equal("trees.npz", served.scores(sample), np.asarray(booster.predict(sample, raw_score=True)))


def continue_trees(train: Examples, validation: Examples, model: TreeModel, *, seed: int, rounds: int) -> tuple[TreeModel, float]:
    """Add up to `rounds` rounds of trees to those of `model`, as many as `validation` bears; return the served form and how far it is off.

    The same as LightGBM's `init_model`, from what is served instead of from its own files. Where the first new tree helps
    nothing, `model` comes back.
    """
    before = [model.scores(part.features) for part in (train, validation)]
    data = lightgbm.Dataset(train.features, train.classes, weight=train.weights, init_score=before[0])
    later = lightgbm.Dataset(validation.features, validation.classes, reference=data, init_score=before[1])
    stop = lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)
    booster = lightgbm.train({**TREES, "seed": seed}, data, rounds, valid_sets=[later], callbacks=[stop])
    unchanged = float(log_losses(softmax(before[1]), validation.classes).mean())
    if booster.best_score["valid_0"]["multi_logloss"] >= unchanged:
        return model, 0.0
    booster = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    served = TreeModel(forest=extended(model.forest, from_treelite(treelite.frontend.from_lightgbm(booster))))
    sample = train.features[:: max(1, len(train) // 500)]
    fitted = model.scores(sample) + np.asarray(booster.predict(sample, raw_score=True))
    return served, check_equal("trees.npz", served.scores(sample), fitted)


def choose_tree_weight(linear: Float64Array, trees: Float64Array, classes: Int64Array) -> float:
    """Return the weight of the trees in the pool that has the least log-loss on a validation slice."""
    return min(TREE_WEIGHTS, key=lambda weight: float(log_losses(pool(linear, trees, weight), classes).mean()))


def choose_net_weight(pooled: Float64Array, net: Float64Array, classes: Int64Array, *, block_rows: int) -> float:
    """Return the weight of the net beside the pool of the others with the least log-loss; 0 unless it is better beyond chance."""
    logs = np.log(np.clip(pooled, 1e-300, 1))
    losses = {weight: log_losses(pool(logs, net, weight), classes) for weight in TREE_WEIGHTS}
    best = min(losses, key=lambda weight: float(losses[weight].mean()))
    return best if is_better(losses[best], losses[0.0], block_rows)[0] else 0.0


def calibrate(raw: Float64Array, classes: Int64Array, *, gap_rows: int, kinds: Sequence[CalibrationKind] = SERVED_KINDS) -> Calibration:
    """Fit maps of all `kinds` on the earlier half of a slice, take the best log-loss on the later half, refit on all of it.

    `gap_rows` rows between the halves are left out (overlapping labels). Below 300 rows nothing is fitted.
    """
    half = len(classes) // 2
    if half - gap_rows < MIN_CALIBRATION_ROWS // 2 or len(np.unique(classes[: half - gap_rows])) < 3 or len(np.unique(classes)) < 3:
        return Calibration(kind=CalibrationKind.NONE, parameters=np.zeros(0))
    early, late = slice(0, half - gap_rows), slice(half, len(classes))
    kinds = [kind for kind in kinds if kind is not CalibrationKind.ISOTONIC or half >= MIN_ISOTONIC_ROWS]
    losses = {kind: log_losses(_FITS[kind](raw[early], classes[early]).apply(raw[late]), classes[late]).mean() for kind in kinds}
    return _FITS[min(kinds, key=lambda kind: float(losses[kind]))](raw, classes)


def _fit_temperature(raw: Float64Array, classes: Int64Array) -> Calibration:
    logs = np.log(np.clip(raw, 1e-12, 1))
    found = minimize_scalar(lambda log_t: log_losses(softmax(logs / np.exp(log_t)), classes).mean(), bounds=(-2.5, 2.5), method="bounded")
    return Calibration(kind=CalibrationKind.TEMPERATURE, parameters=np.array([np.exp(found.x)]))


def _fit_sigmoid(raw: Float64Array, classes: Int64Array) -> Calibration:
    move = logit(1 - raw[:, FLAT])[:, None]
    moves = LogisticRegression(C=1e4).fit(move, classes != FLAT)
    has_moved = classes != FLAT
    up = logit(up_given_move(raw[has_moved]))[:, None]
    ups = LogisticRegression(C=1e4, fit_intercept=False).fit(up, classes[has_moved] == UP)
    slopes = np.array([moves.coef_[0, 0], moves.intercept_[0], max(float(ups.coef_[0, 0]), 0.0)])
    return Calibration(kind=CalibrationKind.SIGMOID, parameters=slopes)


def _fit_vector(raw: Float64Array, classes: Int64Array) -> Calibration:
    logs = np.log(np.clip(raw, 1e-12, 1))

    def loss(flat: Float64Array) -> float:
        table = flat.reshape(3, 2)
        return float(log_losses(softmax(logs * table[:, 0] + table[:, 1]), classes).mean() + 1e-4 * np.sum((flat - start) ** 2))

    start = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    return Calibration(kind=CalibrationKind.VECTOR, parameters=minimize(loss, start, method="L-BFGS-B").x.reshape(3, 2))


def _fit_isotonic(raw: Float64Array, classes: Int64Array) -> Calibration:
    has_moved = classes != FLAT
    up, went_up = up_given_move(raw[has_moved]), classes[has_moved] == UP
    moves = _isotonic(1 - raw[:, FLAT], has_moved)
    # Each move is shown mirrored too, so that the map has no preferred direction.
    ups = _isotonic(np.concatenate([up, 1 - up]), np.concatenate([went_up, ~went_up]))
    width = max(len(moves[0]), len(ups[0]))
    rows = [np.pad(row, (0, width - len(row)), mode="edge") for row in (*moves, *ups)]
    return Calibration(kind=CalibrationKind.ISOTONIC, parameters=np.array(rows))


def _isotonic(values: Float64Array, happened: Any) -> tuple[Float64Array, Float64Array]:
    margin = 1.0 / (len(values) + 2)
    model = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip").fit(values, happened.astype(np.float64))
    return model.X_thresholds_, model.y_thresholds_


_FITS: Final = {
    CalibrationKind.NONE: lambda *_: Calibration(kind=CalibrationKind.NONE, parameters=np.zeros(0)),
    CalibrationKind.SIGMOID: _fit_sigmoid,
    CalibrationKind.TEMPERATURE: _fit_temperature,
    CalibrationKind.VECTOR: _fit_vector,
    CalibrationKind.ISOTONIC: _fit_isotonic,
}


def choose_rule(probabilities: Float64Array, moves: Int64Array) -> FlowRule:
    """Return the rule whose neutral cut has the best Matthews correlation of sell / neutral / buy with what happened.

    Between a fifth and four fifths of the rows stay neutral, so that neither claim dies out: where the direction is much
    easier than the move, the correlation alone would never say NEUTRAL, and moves would be too rare to pay for a spread.
    """
    cuts = np.quantile(probabilities[:, FLAT], np.linspace(0.2, 0.8, 13))
    best = max(cuts, key=lambda cut: matthews(FlowRule(neutral_cut=float(cut)).directions(probabilities), np.sign(moves)))
    return FlowRule(neutral_cut=float(best))
