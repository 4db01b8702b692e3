"""What the `MLService` needs of others: models, a trainer, a place for feedback. Tests hand in simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import Window
from framework.wire import FeedbackItem


class Scored(Protocol):
    """One prediction, as `ml_actor.models.Scores` has it."""

    @property
    def p_down(self) -> float:
        """Return the probability of a lower mid after the horizon."""

    @property
    def p_flat(self) -> float:
        """Return the probability of the same mid."""

    @property
    def p_up(self) -> float:
        """Return the probability of a higher mid."""

    @property
    def flow_type(self) -> FlowType:
        """Return what the probabilities claim."""

    @property
    def confidence(self) -> float:
        """Return the probability of that claim."""

    @property
    def regime(self) -> int:
        """Return the market regime, or -1 where it is not known."""

    @property
    def shock_score(self) -> float:
        """Return how much this looks like a liquidity shock."""

    @property
    def horizons(self) -> tuple[HorizonPrediction, ...]:
        """Return what it says about further horizons, the nearest first."""


class Predictor(Protocol):
    """A loaded model version, as `ml_actor.models.ModelBundle`. Immutable: swapping models is swapping one reference."""

    @property
    def version(self) -> str:
        """Return its name in the registry."""

    @property
    def window_rows(self) -> int:
        """Return how many rows it looks at."""

    @property
    def horizon_rows(self) -> int:
        """Return how many rows ahead it speaks about."""

    @property
    def is_calibrated(self) -> bool:
        """Return whether its probabilities were calibrated on later data."""

    def predict(self, window: Window) -> Scored:
        """Predict from one window."""


class ModelStore(Protocol):
    """The registry of versions, as `ml_actor.registry.Registry`. Every method may read a disk: call it in a thread."""

    def load_champion(self) -> Predictor | None:
        """Load, verify and warm the version that serves; None if there is none."""

    def champion(self) -> str | None:
        """Return its name."""

    def versions(self) -> tuple[dict[str, Any], ...]:
        """Return a summary of every version, newest first."""

    def manifest(self, version: str) -> Any:
        """Return what a version is."""

    def decisions(self) -> Sequence[Any]:
        """Return every decision about versions, oldest first."""

    def promote(self, version: str, *, reason: str = "") -> None:
        """Make `version` the champion, for an operator."""

    def rollback(self, *, reason: str = "") -> str:
        """Return to the champion before."""

    def pin(self, version: str, *, reason: str = "") -> None:
        """Keep `version` for ever, and as champion if it is that."""

    def unpin(self, version: str, *, reason: str = "") -> None:
        """Take the pin off."""


class Learning(Protocol):
    """Sees what the champion answers, as `ml_actor.learning.Learning`."""

    @property
    def wish(self) -> str:
        """Return why a training is wanted, or ""."""

    def watch(self, predictor: Predictor) -> Predictor:
        """Take note that `predictor` serves from now on; return what is to be asked in its place."""

    def settle(self) -> None:
        """Do what waits until an answer is on its way. Never raises."""

    def status(self) -> dict[str, Any]:
        """Return how the challengers' trials stand."""


class Trainer(Protocol):
    """Runs trainings elsewhere, one at a time."""

    @property
    def is_running(self) -> bool:
        """Return whether a training runs."""

    def start(self, reason: str, refit: str = "") -> tuple[str, bool]:
        """Start a training, or name the one that runs: job id, and whether it is new. Never waits."""

    def status(self) -> dict[str, Any]:
        """Return what runs and how the last one ended."""


class FeedbackSink(Protocol):
    """Where feedback is kept, as `FeedbackStore`. `add` waits for the disk: call it in a thread."""

    @property
    def count(self) -> int:
        """Return how many items are stored."""

    def add(self, items: Sequence[FeedbackItem], *, received_ns: int) -> int:
        """Store items durably, each id once; return how many were new."""
