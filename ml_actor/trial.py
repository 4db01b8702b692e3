"""One challenger's trial: its scores against the champion's on the same windows, block by block, until the evidence decides.

Two scores a window, both known once the market has moved on by the horizon:

- *calibration*: log-loss of (down, flat, up). A proper score: whoever misstates a probability loses (Good 1952).
- *cost-aware*: what a trader would have earned, in ticks, who believes the model and acts only where that pays: direction times the
  move of the mid, less the spread (half of it in, half out), where (p_up - p_down) times the usual size of a move exceeds the
  spread; else 0. A proper score too (Granger & Machina 2006): no other probabilities than the true ones earn more.

A block is at least `horizon_rows` rows long, over all instruments; its difference is the mean over its windows. The challenger is

- **promoted** when (E_calibration + E_cost) / 2 >= 1/alpha (`sequential`; the mean of two e-processes is one), its log-loss is not the
  higher one, the cost-aware score does not speak against it (E of "worse" below 4), and there are at least `min_windows` windows
  and `min_blocks` blocks;
- **refused** when the same evidence says that it is worse, or after `max_blocks` blocks without a decision. Ties keep the champion.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final

import msgspec

from ml_actor.sequential import Evidence

OBJECTION: Final = 4.0
_LEAST_P: Final = 1e-6
_BINS: Final = 10


class Outcome(StrEnum):
    """How a trial stands."""

    UNDECIDED = "undecided"
    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a model said about a window."""

    p_down: float
    p_flat: float
    p_up: float

    def is_sound(self) -> bool:
        """Return whether these are probabilities."""
        numbers = (self.p_down, self.p_flat, self.p_up)
        return min(numbers) >= 0 and abs(sum(numbers) - 1) <= 1e-6


class Move(msgspec.Struct, frozen=True, array_like=True):
    """What the market did, in half ticks: the mid's move over the horizon, the spread at its start, and how far moves usually go."""

    half_ticks: int
    spread_half_ticks: int
    usual_half_ticks: float = 2.0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """When a trial decides. `alpha` is the share of equal challengers that may be promoted by luck."""

    alpha: float = 0.05
    min_windows: int = 200
    min_blocks: int = 20
    max_blocks: int = 400


def log_loss(claim: Claim, move: Move) -> float:
    """Return -ln of the probability of what happened, at most 13.8."""
    happened = claim.p_flat if move.half_ticks == 0 else claim.p_up if move.half_ticks > 0 else claim.p_down
    return -math.log(min(max(happened, _LEAST_P), 1.0))


def direction(claim: Claim, move: Move) -> int:
    """Return -1 or 1 where acting on the claim pays in the eyes of who believes it, else 0."""
    edge = (claim.p_up - claim.p_down) * move.usual_half_ticks
    return 0 if abs(edge) <= move.spread_half_ticks else 1 if edge > 0 else -1


def gain_ticks(claim: Claim, move: Move) -> float:
    """Return what acting on the claim would have met after the spread, ticks; 0 where nobody would act on it."""
    side = direction(claim, move)
    return (side * move.half_ticks - move.spread_half_ticks) / 2 if side else 0.0


class Tally(msgspec.Struct, kw_only=True):
    """Sums over the windows of one model, and how often its confidence about the direction was right, by tenths."""

    windows: int = 0
    log_loss: float = 0.0
    gain_ticks: float = 0.0
    acted: int = 0
    said: list[float] = msgspec.field(default_factory=lambda: [0.0] * _BINS)
    right: list[int] = msgspec.field(default_factory=lambda: [0] * _BINS)
    seen: list[int] = msgspec.field(default_factory=lambda: [0] * _BINS)

    def add(self, claim: Claim, move: Move) -> tuple[float, float]:
        """Count one window and return its two scores."""
        loss, gain = log_loss(claim, move), gain_ticks(claim, move)
        self.windows += 1
        self.log_loss += loss
        self.gain_ticks += gain
        self.acted += direction(claim, move) != 0
        moving = claim.p_up + claim.p_down
        if move.half_ticks and moving > 0:
            self._add_direction(claim.p_up / moving, went_up=move.half_ticks > 0)
        return loss, gain

    def _add_direction(self, up: float, *, went_up: bool) -> None:
        confidence = max(up, 1 - up)
        at = min(int((confidence - 0.5) * 2 * _BINS), _BINS - 1)
        self.said[at] += confidence
        self.right[at] += (up >= 0.5) == went_up
        self.seen[at] += 1

    def calibration_error(self) -> float:
        """Return the expected calibration error of the direction, over ten bins of confidence; NaN before any move."""
        total = sum(self.seen)
        gaps = sum(abs(said - right) for said, right in zip(self.said, self.right, strict=True))
        return gaps / total if total else math.nan

    def facts(self) -> dict[str, float | None]:
        """Return the means per window."""
        n, error = max(1, self.windows), self.calibration_error()
        return {
            "log_loss": round(self.log_loss / n, 6),
            "gain_ticks": round(self.gain_ticks / n, 6),
            "acted_share": round(self.acted / n, 6),
            "ece_direction": None if math.isnan(error) else round(error, 6),
        }


class Trial(msgspec.Struct, kw_only=True):
    """The trial of `challenger` against `champion`. Plain values: it can be written down and gone on with.

    Differences are champion's loss less challenger's, and challenger's gain less champion's: above zero speaks for the challenger.
    """

    champion: str
    challenger: str
    block_rows: int
    started_ns: int = 0
    blocks: int = 0
    ours: Tally = msgspec.field(default_factory=Tally)
    theirs: Tally = msgspec.field(default_factory=Tally)
    calibration: Evidence = msgspec.field(default_factory=Evidence)
    cost: Evidence = msgspec.field(default_factory=Evidence)
    block_windows: int = 0
    block_loss: float = 0.0
    block_gain: float = 0.0
    block_start: dict[str, int] = {}

    def add(self, instrument_id: str, row: int, *, champion: Claim, challenger: Claim, move: Move) -> bool:
        """Score one window whose last row is number `row` of its instrument, in order of time; say whether it closed a block."""
        start = self.block_start.setdefault(instrument_id, row)
        is_closed = row - start >= self.block_rows and self.block_windows > 0
        if is_closed:
            self._close_block(instrument_id, row)
        their_loss, their_gain = self.theirs.add(champion, move)
        our_loss, our_gain = self.ours.add(challenger, move)
        self.block_windows += 1
        self.block_loss += their_loss - our_loss
        self.block_gain += our_gain - their_gain
        return is_closed

    def _close_block(self, instrument_id: str, row: int) -> None:
        self.calibration.add(self.block_loss / self.block_windows)
        self.cost.add(self.block_gain / self.block_windows)
        self.blocks += 1
        self.block_windows, self.block_loss, self.block_gain = 0, 0.0, 0.0
        self.block_start = {instrument_id: row}

    def outcome(self, rules: Rules) -> Outcome:
        """Return what the evidence says so far. Only a new block changes it."""
        enough = 1 / rules.alpha
        if self.ours.windows < rules.min_windows or self.blocks < rules.min_blocks:
            return Outcome.UNDECIDED
        if self.e_better() >= enough and self.calibration.mean >= 0 and self.cost.worse() < OBJECTION:
            return Outcome.BETTER
        if self.e_worse() >= enough and self.calibration.mean <= 0:
            return Outcome.WORSE
        return Outcome.NO_DIFFERENCE if self.blocks >= rules.max_blocks else Outcome.UNDECIDED

    def e_better(self) -> float:
        """Return the evidence against "in neither score better"."""
        return (self.calibration.better() + self.cost.better()) / 2

    def e_worse(self) -> float:
        """Return the evidence against "in neither score worse"."""
        return (self.calibration.worse() + self.cost.worse()) / 2

    def facts(self) -> dict[str, Any]:
        """Return the evidence for people and for the log of decisions."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "windows": self.ours.windows,
            "blocks": self.blocks,
            "block_rows": self.block_rows,
            "e_better": _short(self.e_better()),
            "e_worse": _short(self.e_worse()),
            "log_loss_gain": _short(self.calibration.mean),
            "gain_ticks": _short(self.cost.mean),
            "scores": {"champion": self.theirs.facts(), "challenger": self.ours.facts()},
        }


def words(trial: Trial, outcome: Outcome) -> str:
    """Say in a sentence how a trial stands."""
    facts = trial.facts()
    return (
        f"{outcome}: e-value {facts['e_better']:g} for better, {facts['e_worse']:g} for worse, on {trial.ours.windows} windows in "
        f"{trial.blocks} blocks; log-loss {facts['log_loss_gain'] or 0:+g}, after costs {facts['gain_ticks'] or 0:+g} ticks a window"
    )


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")
