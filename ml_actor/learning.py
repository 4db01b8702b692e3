"""What becomes of a trained version: first champion, challenger on trial, promoted, refused; and who decided it on what evidence.

The first model serves as soon as its offline gate lets it (`promotion`). Every later one is a challenger: it shadows the champion
(`shadow`) until its trial decides (`trial`). With `promotion: offline` the offline gate alone decides, as before.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from framework.errors import TidebookError
from framework.window import Float64Array, Rows, Window
from ml_actor.drift import DriftMonitor
from ml_actor.features.catalogue import ALL_NAMES
from ml_actor.models import ModelBundle
from ml_actor.ports import Predictor
from ml_actor.registry import Pinned, Registry
from ml_actor.registry.durable import replace
from ml_actor.shadow import ShadowLane, Verdict, Watched, trials_from_bytes, trials_to_bytes
from ml_actor.training_job import TrainingResult
from ml_actor.trial import Claim, Move, Outcome, Rules

log = logging.getLogger("MLService")

GATE: Final = "gate"
TRIAL: Final = "trial"
SAVE_TRIALS_S: Final = 30.0
GO_ROUND: Final = ("day_sin", "day_cos")
"""Features that move with the time of day, drift or not."""

_WATCHED: Final = [at for at, name in enumerate(ALL_NAMES) if name not in GO_ROUND]
LEFT: Final = "left without a verdict: newer challengers needed the room, or the champion speaks about another horizon"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Placed:
    words: str
    champion: Predictor | None = None
    challenger: Predictor | None = None


class InThread(Protocol):
    """Run what waits for a disk in the service's one thread."""

    def __call__(self, work: Callable[[], Result]) -> Awaitable[Result]:
        """Run `work` there and return its result. Suspends."""


class Learning:
    """The champion's and the challengers' keeper. `serve` makes a model answer from the next request on.

    In lockstep a verdict is carried out before the next request is answered (it waits for the disk then, and market time for it);
    live, in the thread. Whatever fails, the old champion serves on.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        rules: Rules,
        is_shadowing: bool,
        is_lockstep: bool,
        versions_kept: int,
        wall_ns: Callable[[], int],
    ) -> None:
        self.serve: Callable[[Predictor | None], None] = lambda _: None
        self._registry = registry
        self._is_shadowing = is_shadowing
        self._is_lockstep = is_lockstep
        self._versions_kept = versions_kept
        self._in_thread: InThread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loaded: dict[str, Predictor] = {}
        self._drift: DriftMonitor | None = None
        self.lane = ShadowLane(
            rules=rules,
            on_verdict=self._on_verdict,
            on_label=self._on_label,
            on_window=self._on_window,
            wall_ns=wall_ns,
            later=None if is_lockstep else _later,
            now_s=_now_s,
        )

    # --- life --------------------------------------------------------------------------------------------------------

    def open(self) -> ModelBundle | None:
        """Load champion and challengers; waits for the disk. Returns the champion."""
        champion = self._registry.load_champion()
        for refused in self._registry.refused:
            log.error("Model %s is not used: %s", refused.version, refused.reason)
        for version in self._registry.standing().challengers:
            try:
                self._loaded[version] = self._registry.load(version)
            except TidebookError as exc:
                log.error("Challenger %s is not used: %s", version, exc)
        return champion

    def resume(self) -> None:
        """Go on with the trials that were written down; waits for the disk. To be called once the champion serves."""
        content = self.trials_file.read_bytes() if self.trials_file.is_file() else b""
        known = {trial.challenger: trial for trial in trials_from_bytes(content)}
        for version, challenger in self._loaded.items():
            self.lane.add(challenger, known.get(version))
        self._loaded.clear()

    def start(self, in_thread: InThread) -> None:
        """Begin to write trials down every 30 s, on the running loop."""
        self._in_thread = in_thread
        self._start(self._save_trials())

    async def close(self) -> None:
        """Stop, and write the trials down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._write_trials(trials_to_bytes(self.lane.trials()))

    @property
    def trials_file(self) -> Path:
        """Return where trials are written down."""
        return self._registry.directory / "trials.json"

    async def _save_trials(self) -> None:
        assert self._in_thread is not None
        while True:
            await asyncio.sleep(SAVE_TRIALS_S)
            await self._in_thread(functools.partial(self._write_trials, trials_to_bytes(self.lane.trials())))

    def _write_trials(self, content: bytes) -> None:
        if not self._registry.directory.is_dir():
            return
        try:
            replace(self.trials_file, content)
        except OSError as exc:
            log.error("%s: trials cannot be written down (%s)", self.trials_file, exc.strerror)

    # --- for the service ---------------------------------------------------------------------------------------------

    def watch(self, predictor: Predictor) -> Predictor:
        """Take note that `predictor` serves from now on; return it so that the lane sees what it answers."""
        self.lane.crown(predictor)
        self._drift = DriftMonitor(predictor.horizon_rows, _features_of(predictor), names=[ALL_NAMES[at] for at in _WATCHED])
        return Watched(predictor, self.lane)

    def settle(self) -> None:
        """Do what waits until an answer is on its way."""
        self.lane.settle()

    def status(self) -> dict[str, Any]:
        """Return how the trials stand."""
        drift = self._drift.status() if self._drift else None
        return {"promotion": "shadow" if self._is_shadowing else "offline", **self.lane.status(), "drift": drift}

    @property
    def wish(self) -> str:
        """Return why a training is wanted, or "": what the drift monitors say. It stays until a training begins."""
        alarms = self._drift.alarms if self._drift else {}
        return "drift: " + "; ".join(f"{name}: {words}" for name, words in sorted(alarms.items())) if alarms else ""

    def training_begins(self) -> None:
        """Take note that a training begins: what it will find is not drift any more."""
        if self._drift is not None:
            self._drift.reset()

    def label_from(self, rows: Mapping[str, Rows]) -> None:
        """Label windows that no later request overlapped from recorded rows, by instrument."""
        self.lane.label_from(rows)

    def _on_label(self, instrument_id: str, row: int, claim: Claim, move: Move) -> None:
        if self._drift is not None:
            self._drift.label(instrument_id, row, claim, move)

    def _on_window(self, instrument_id: str, row: int, window: Window) -> None:
        if self._drift is not None:
            self._drift.observe(instrument_id, row, window)

    # --- a new version -----------------------------------------------------------------------------------------------

    async def take(self, result: TrainingResult) -> str:
        """Decide about a version that a training saved; return what became of it, in words."""
        assert self._in_thread is not None
        placed = await self._in_thread(lambda: self._place(result))
        if placed.champion is not None:
            self.serve(placed.champion)
        elif placed.challenger is not None:
            self.lane.add(placed.challenger)
        await self._in_thread(lambda: self._tidy(self.lane.challengers))
        return placed.words

    def _place(self, result: TrainingResult) -> _Placed:
        """Make the version champion or challenger, or refuse it. Runs in the thread."""
        registry, version, reason, evidence = self._registry, result.version, result.promote_reason, {"metrics": result.metrics}
        try:
            if result.promote and (result.is_first or not self._is_shadowing):
                registry.promote(version, by=GATE, reason=reason, evidence=evidence)
                return _Placed(f"promoted: {reason}", champion=registry.load(version))
            if result.challenge and self._is_shadowing:
                registry.challenge(version, by=GATE, reason=reason, evidence=evidence)
                return _Placed(f"on trial: {reason}", challenger=registry.load(version))
        except Pinned as exc:
            reason = str(exc)
        registry.refuse(version, by=GATE, reason=reason, evidence=evidence)
        return _Placed(f"not promoted: {reason}")

    def _tidy(self, on_trial: tuple[str, ...]) -> None:
        """Refuse challengers that are not on trial any more, and delete old versions. Runs in the thread."""
        for version in self._registry.standing().challengers:
            if version not in on_trial:
                self._registry.refuse(version, by=TRIAL, reason=LEFT)
        self._registry.collect(self._versions_kept)

    # --- verdicts ----------------------------------------------------------------------------------------------------

    def _on_verdict(self, verdict: Verdict, challenger: Predictor) -> None:
        log.info("Challenger %s against %s: %s", verdict.challenger, verdict.champion, verdict.reason)
        if not self._is_lockstep:
            self._start(self._carry_out_later(verdict, challenger))
        elif self._carry_out(verdict):
            self.serve(challenger)

    async def _carry_out_later(self, verdict: Verdict, challenger: Predictor) -> None:
        assert self._in_thread is not None
        if await self._in_thread(lambda: self._carry_out(verdict)):
            self.serve(challenger)

    def _carry_out(self, verdict: Verdict) -> bool:
        """Write a verdict into the registry; say whether the challenger is champion now."""
        registry, version, reason = self._registry, verdict.challenger, verdict.reason
        try:
            if verdict.outcome is Outcome.BETTER and registry.champion() == verdict.champion:
                registry.promote(version, by=TRIAL, reason=reason, evidence=verdict.evidence)
                return True
            if verdict.outcome is Outcome.BETTER:
                reason = f"another champion came meanwhile; {reason}"
            registry.refuse(version, by=TRIAL, reason=reason, evidence=verdict.evidence)
        except Pinned as exc:
            registry.refuse(version, by=TRIAL, reason=f"{exc}; {reason}", evidence=verdict.evidence)
        except (TidebookError, OSError) as exc:
            log.error("The verdict about %s could not be carried out: %s", version, exc)
        return False

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _features_of(predictor: Predictor) -> Callable[[Window], Float64Array] | None:
    """Return what computes the standardised features of a window for this model, if it is one that has them."""
    engine, traded = getattr(predictor, "engine", None), getattr(predictor, "traded", None)
    if engine is None or traded is None:
        return None
    return lambda window: np.asarray(traded.linear.standardised(engine.transform(window)[None, :])[0, _WATCHED])


def _later(delay_s: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, call)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
