"""Which version serves: what a newly trained one must show on recorded data before it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Int64Array
from ml_actor import splits
from ml_actor.artifacts import pack
from ml_actor.evaluation import is_better, log_losses
from ml_actor.features.engine import select
from ml_actor.models import ModelBundle
from ml_actor.preparation import Prepared, Recording, golden_windows
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

AS_GOOD_NATS: Final = 0.005
"""A version that knows more horizons may lose so much log-loss on the traded one, and no more, to serve without a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What recorded data say about a new version: better than the champion, fit to be tried against it, or neither; and why."""

    promote: bool
    challenge: bool
    reason: str
    is_first: bool = False


def save_version(bundle: ModelBundle, prepared: Sequence[Prepared], job: TrainingJob, facts: dict[str, Any]) -> TrainingResult:
    """Save a fitted version with the verdict of the offline gate. Raises `OSError` when the disk does not take it."""
    registry = Registry(job.models_dir)
    gate = offline_gate(bundle, registry, prepared, facts)
    facts |= {"promote": gate.promote, "challenge": gate.challenge, "promote_reason": gate.reason}
    files = pack(bundle, golden_windows(prepared, job.window_rows))
    version = registry.save(files, window_rows=job.window_rows, horizon_rows=job.horizon_rows, facts=facts)
    return TrainingResult(
        ok=True,
        version=version,
        metrics=facts["metrics"],
        promote=gate.promote,
        is_first=gate.is_first,
        challenge=gate.challenge,
        promote_reason=gate.reason,
    )


def offline_gate(bundle: ModelBundle, registry: Registry, prepared: Sequence[Prepared], facts: dict[str, Any]) -> Gate:
    """Say whether the new model should serve, or be tried.

    It must tell up from down better than a coin on the test slice (which is what strategies act on; shares of unmoved
    rows drift and say nothing about that). To serve at once it must have less log-loss than the champion on rows that neither
    has seen, or know horizons that the champion does not and have less than `AS_GOOD_NATS` more; to be tried, not more (all
    with 90 % confidence).
    """
    beats_coin, evidence = facts["metrics"]["beats_coin"]
    if not beats_coin:
        return Gate(promote=False, challenge=False, reason=f"no skill about the direction on the test slice: {evidence}")
    champion = registry.load_champion()
    if champion is None:
        return Gate(promote=True, challenge=False, is_first=True, reason=f"no champion yet, and skill about the direction: {evidence}")
    if champion.horizon_rows != bundle.horizon_rows:
        reason = f"the horizon changed from {champion.horizon_rows} to {bundle.horizon_rows} rows"
        return Gate(promote=True, challenge=False, is_first=True, reason=reason)
    seen = registry.manifest(champion.version).facts["data"]
    losses = [_losses_unseen(seen, part, bundle, champion) for part in prepared]
    ours, theirs = (np.concatenate([pair[side] for pair in losses]) for side in range(2))
    promote, reason = is_better(ours, theirs, bundle.horizon_rows)
    is_worse, _ = is_better(theirs, ours, bundle.horizon_rows)
    more = [str(horizon) for horizon in bundle.horizons if horizon not in champion.horizons]
    if more and is_better(ours, theirs + AS_GOOD_NATS, bundle.horizon_rows)[0]:
        # A trial would refuse it for being as good as the champion, and what it knows more would never serve.
        words = f"it knows {', '.join(more)} rows too, which the champion does not, and is as good within {AS_GOOD_NATS} nats: {reason}"
        return Gate(promote=True, challenge=False, is_first=True, reason=words)
    return Gate(promote=promote, challenge=not is_worse, reason=f"{reason}, and worse" if is_worse else reason)


def unseen_rows(recording: Recording, data_facts: dict[str, Any]) -> Int64Array:
    """Return the positions of the rows that a version with these data facts was not trained on.

    They are behind the last row that it was trained on; if the dataset no longer holds that row, they are later than it.
    """
    rows = recording.rows
    last = data_facts["last"].get(recording.instrument_id)
    if not last:
        return np.arange(len(rows))
    found = np.flatnonzero((rows.ts_event == last[0]) & (rows.sequence == last[1]))
    return np.arange(found[-1] + 1, len(rows)) if len(found) else np.flatnonzero(rows.ts_event > last[0])


def _losses_unseen(seen: dict[str, Any], part: Prepared, ours: ModelBundle, theirs: ModelBundle) -> tuple[Float64Array, Float64Array]:
    rows = part.recording.rows
    unseen = np.intersect1d(np.flatnonzero(part.slices == splits.TEST), unseen_rows(part.recording, seen))
    if not len(unseen):
        return np.zeros(0), np.zeros(0)
    start = max(0, int(unseen[0]) - max(ours.window_rows, theirs.window_rows) + 1)
    tail, classes = select(rows, slice(start, len(rows))), part.labels.classes[unseen]
    both = (model.predict_rows(tail, has_trades=part.recording.has_trades)[unseen - start] for model in (ours, theirs))
    first, second = (log_losses(probabilities, classes) for probabilities in both)
    return first, second
