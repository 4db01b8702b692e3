"""Drift: does the market still look like what the champion was trained on, and is the champion still right about itself?

Three monitors, each on blocks of at least a horizon of rows, none of which acts on the champion: an alarm asks for a training.

- *features*: for every feature, the mean of the block in standard deviations of the training rows, against "not more than
  `FEATURE_TOLERANCE` away from the training mean", by e-processes (`sequential`) averaged over features and both directions;
- *calibration*: log-loss less the entropy of what the champion said, which is zero on average for whoever is right about how sure
  it is (prequential; Dawid 1984), against "not more than `CALIBRATION_TOLERANCE` nats above it", by an e-process;
- *outcome*: the champion's log-loss against that of the frequencies of late, by Page-Hinkley (Page 1954; Hinkley 1971) on its fall, in
  units of the long-run standard deviation (the largest of the estimates over 1, 4 and 16 blocks).

Features move slowly and losses overlap, so blocks are correlated; how often each monitor cries wolf on such data is measured by
`tests/benchmarks/bench_trials.py`. The e-processes begin anew every `RESTART_BLOCKS` blocks, so that a long good past does not
outweigh a bad present; between two beginnings each alarms by chance with probability `ALPHA` at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Window
from ml_actor.sequential import CLIP_RMS, LAMBDAS, SPANS, WARM_UP_BLOCKS, Evidence
from ml_actor.trial import Claim, Move, log_loss

ALPHA: Final = 0.01
RESTART_BLOCKS: Final = 64
FEATURE_TOLERANCE: Final = 0.5
CALIBRATION_TOLERANCE: Final = 0.02
PH_SLACK: Final = 0.5
PH_LIMIT: Final = 8.0
PH_WARM_UP: Final = 32
WINDOWS_A_BLOCK: Final = 5
_PH_STEP: Final = 4.0
_LATELY: Final = 500


class Blocks:
    """Means of values over blocks of at least `block_rows` rows, over all instruments."""

    def __init__(self, block_rows: int) -> None:
        self._block_rows = block_rows
        self._start: dict[str, int] = {}
        self._total: Any = 0.0
        self._count = 0

    def add(self, instrument_id: str, row: int, value: Any) -> Any | None:
        """Take a value of row number `row`; return the mean of the block that this closes, or None."""
        closed = None
        if row - self._start.setdefault(instrument_id, row) >= self._block_rows and self._count:
            closed = self._total / self._count
            self._start, self._total, self._count = {instrument_id: row}, 0.0, 0
        self._total = self._total + value
        self._count += 1
        return closed


class EvidenceTable:
    """`sequential.Evidence` for many series at once; `better` is its evidence per series."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._warm: list[Float64Array] = []
        self._bound = np.zeros(width)
        self._total = np.zeros(width)
        self._tested = np.zeros(width)
        self._closed = np.zeros((len(SPANS), width))
        self._open = np.zeros((len(SPANS), width))

    def add(self, differences: Float64Array) -> None:
        """Take the next difference of every series."""
        self.count += 1
        if self.count <= WARM_UP_BLOCKS:
            self._warm.append(differences)
            if self.count == WARM_UP_BLOCKS:
                table = np.array(self._warm)
                self._bound = CLIP_RMS * np.sqrt((table**2).mean(axis=0))
                self._total = np.clip(table, -self._bound, self._bound).sum(axis=0)
            return
        clipped = np.clip(differences, -self._bound, self._bound)
        self._open += clipped - self._total / (self.count - 1)
        self._total += clipped
        self._tested += clipped
        for at, span in enumerate(SPANS):
            if (self.count - WARM_UP_BLOCKS) % span == 0:
                self._closed[at] += self._open[at] ** 2
                self._open[at] = 0.0

    def better(self) -> Float64Array:
        """Return E_t against "not above zero" per series; 1 where nothing counts yet."""
        variance = (self._closed + self._open**2).max(axis=0)
        scale = 2 * np.where(self._bound > 0, self._bound, 1.0)
        shares = np.array(LAMBDAS)[:, None]
        logs = shares / scale * self._tested - (-np.log1p(-shares) - shares) / scale**2 * variance
        return np.asarray(np.where(self._bound > 0, np.exp(np.minimum(logs, 500.0)).mean(axis=0), 1.0))


class FeatureDrift:
    """Block means of standardised features against the training rows."""

    def __init__(self, width: int) -> None:
        self._above, self._below = EvidenceTable(width), EvidenceTable(width)

    @property
    def count(self) -> int:
        """Return how many blocks it has seen."""
        return self._above.count

    def add(self, means: Float64Array) -> None:
        """Take the mean of a block, in standard deviations of the training rows."""
        self._above.add(means - FEATURE_TOLERANCE)
        self._below.add(-means - FEATURE_TOLERANCE)

    def evidence(self) -> Float64Array:
        """Return the evidence per feature; their mean is an e-value of "no feature has moved"."""
        return (self._above.better() + self._below.better()) / 2


class PageHinkley:
    """Alarm when the mean of a series falls."""

    def __init__(self) -> None:
        self.count = 0
        self.height = 0.0
        self.mean = 0.0
        self._closed = [0.0] * len(SPANS)
        self._open = [0.0] * len(SPANS)

    def add(self, value: float) -> None:
        """Take the next value."""
        residual = value - self.mean
        if self.count >= PH_WARM_UP:
            step = -residual / (self._sigma() or 1.0)
            self.height = max(0.0, self.height + min(max(step, -_PH_STEP), _PH_STEP) - PH_SLACK)
        self.count += 1
        self.mean += residual / self.count
        for at, span in enumerate(SPANS):
            # The first value has no mean before it.
            self._open[at] += residual if self.count > 1 else 0.0
            if self.count % span == 0:
                self._closed[at] += self._open[at] ** 2
                self._open[at] = 0.0

    def _sigma(self) -> float:
        variance = max(done + part * part for done, part in zip(self._closed, self._open, strict=True))
        return math.sqrt(variance / self.count)


class DriftMonitor:
    """The three monitors about one champion. `features_of(window)` gives its features in standard deviations of the training rows.

    `alarms` says what is the matter, by monitor; it stays until `reset`. `names` are those of the features.
    """

    def __init__(self, block_rows: int, features_of: Callable[[Window], Float64Array] | None = None, *, names: Sequence[str] = ()) -> None:
        self.alarms: dict[str, str] = {}
        self._features_of = features_of
        self._names = names
        self._block_rows = block_rows
        self._frequencies = np.ones(3) / 3
        self.reset()

    def reset(self) -> None:
        """Begin anew: a training was asked for, or another model serves."""
        self.alarms = {}
        self._feature_blocks, self._excess_blocks, self._skill_blocks = (Blocks(self._block_rows) for _ in range(3))
        self._observed: dict[str, int] = {}
        self._features: FeatureDrift | None = None
        self._calibration = Evidence()
        self._outcome = PageHinkley()

    def observe(self, instrument_id: str, row: int, window: Window) -> None:
        """Take a window that the champion answered; features of a few windows a block are enough."""
        if self._features_of is None or row - self._observed.get(instrument_id, -self._block_rows) < self._block_rows // WINDOWS_A_BLOCK:
            return
        self._observed[instrument_id] = row
        means = self._feature_blocks.add(instrument_id, row, self._features_of(window))
        if means is None:
            return
        if self._features is None:
            self._features = FeatureDrift(len(means))
        self._features.add(means)
        if self._features.count > RESTART_BLOCKS:
            self._features = FeatureDrift(len(means))
        evidence = self._features.evidence()
        if evidence.mean() >= 1 / ALPHA:
            self.alarms["features"] = f"{self._worst(evidence)} moved away from training (e-value {evidence.mean():.3g})"

    def _worst(self, evidence: Float64Array) -> str:
        worst = [int(at) for at in np.argsort(-evidence, kind="stable")[:3] if evidence[at] >= 1]
        return ", ".join(self._names[at] if at < len(self._names) else f"feature {at}" for at in worst)

    def label(self, instrument_id: str, row: int, claim: Claim, move: Move) -> None:
        """Take what the market did after a window."""
        loss = log_loss(claim, move)
        happened = 1 + (move.half_ticks > 0) - (move.half_ticks < 0)
        skill = -math.log(float(self._frequencies[happened])) - loss
        self._frequencies += (np.eye(3)[happened] - self._frequencies) / _LATELY
        excess = self._excess_blocks.add(instrument_id, row, loss - _entropy(claim))
        if excess is not None:
            self._add_calibration(excess)
        skill_mean = self._skill_blocks.add(instrument_id, row, skill)
        if skill_mean is not None:
            self._add_outcome(skill_mean)

    def _add_calibration(self, excess: float) -> None:
        if self._calibration.count >= RESTART_BLOCKS:
            self._calibration = Evidence()
        self._calibration.add(excess - CALIBRATION_TOLERANCE)
        evidence = self._calibration.better()
        if evidence >= 1 / ALPHA:
            mean = self._calibration.mean + CALIBRATION_TOLERANCE
            self.alarms["calibration"] = f"log-loss is {mean:.3f} above what the model itself expects (e-value {evidence:.3g})"

    def _add_outcome(self, skill: float) -> None:
        self._outcome.add(skill)
        if self._outcome.height > PH_LIMIT:
            self.alarms["outcome"] = f"the log-loss has grown against that of the frequencies (Page-Hinkley {self._outcome.height:.3g})"

    def status(self) -> dict[str, Any]:
        """Return where each monitor stands, and the alarms."""
        evidence = self._features.evidence() if self._features else np.ones(1)
        return {
            "alarms": dict(self.alarms),
            "features_e": float(f"{evidence.mean():.4g}"),
            "calibration_e": float(f"{self._calibration.better():.4g}"),
            "calibration_excess": None if not self._calibration.count else round(self._calibration.mean + CALIBRATION_TOLERANCE, 5),
            "outcome_ph": round(self._outcome.height, 3),
            "outcome_skill": round(self._outcome.mean, 5),
            "blocks": self._outcome.count,
        }


def _entropy(claim: Claim) -> float:
    return -sum(p * math.log(p) for p in (claim.p_down, claim.p_flat, claim.p_up) if p > 0)
