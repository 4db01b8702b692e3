"""`SampleRecorder`: appends DOM rows to the training dataset as they happen, and asks for a training when it is time.

Every row is a sample, acted on or not (`docs/decisions/0003`). Rows are pulled from the DOM views in blocks, so that the
recorder costs a book nothing and misses none under load.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

import msgspec

from framework.clock import Clock, Timer
from framework.config import TrainingConfig
from framework.errors import StorageError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import DomUpdated, Message, TrainingWanted
from framework.model import NS_PER_S, Instrument
from framework.window import DomView, Rows

SAMPLES: Final = "samples"


class SampleWriter(Protocol):
    """What the recorder needs of a `DatasetWriter`."""

    @property
    def total_rows(self) -> int:
        """Return how many rows the dataset has."""

    def append(self, instrument: Instrument, rows: Rows, *, after_gap: bool = False) -> None:
        """Append rows; `after_gap` says that rows before these are missing. Raises `StorageError`."""

    def seal(self) -> int | Future[int]:
        """Make what was appended visible to readers, now or (a future) in the background. Raises `StorageError`."""


class TrainingTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask for a training; 0 turns a trigger off. Nothing is asked for with fewer than `min_rows` in the dataset.

    `drift_cooldown_minutes`: a training that the ML process wants (drift) is at least this long after the last one.
    """

    after_new_rows: int = 0
    every_minutes: float = 0.0
    drift_cooldown_minutes: float = 0.0
    min_rows: int = 3_000

    @staticmethod
    def of(training: TrainingConfig) -> TrainingTrigger:
        """Take the keys from `config/main.yaml`."""
        return TrainingTrigger(
            after_new_rows=training.after_new_rows,
            every_minutes=training.every_minutes,
            drift_cooldown_minutes=training.drift_cooldown_minutes,
            min_rows=training.min_rows,
        )


class _Source:
    __slots__ = ("block_rows", "dom", "instrument", "taken")

    def __init__(self, instrument: Instrument, block_rows: int) -> None:
        self.instrument = instrument
        self.block_rows = block_rows
        self.dom: DomView | None = None
        self.taken = 0


class SampleRecorder(Actor):
    """Record the rows of every instrument that was added. Appending stops at the first `StorageError`; trading goes on."""

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        writer: SampleWriter,
        *,
        trigger: TrainingTrigger,
        request_training: Callable[[str, str], None],
    ) -> None:
        super().__init__(SAMPLES)
        self._bus = bus
        self._clock = clock
        self._writer = writer
        self._trigger = trigger
        self._request_training = request_training
        self._sources: dict[str, _Source] = {}
        self._new_rows = 0
        self._asked_ns: int | None = None
        self._is_stopped = False
        self._timer: Timer | None = None
        self._counts = {"rows": 0, "lost_rows": 0, "trainings_requested": 0, "storage_errors": 0}
        self._log = logging.getLogger("SampleRecorder")

    def stats(self) -> dict[str, int]:
        """Return rows appended, rows lost (the buffer went over them), trainings requested and storage errors."""
        return dict(self._counts)

    def add_instrument(self, instrument: Instrument, *, max_dom_history: int, block_rows: int = 50) -> None:
        """Record an instrument, in blocks of at most half its buffer: the other half is the margin under load."""
        self._sources[instrument.instrument_id] = _Source(instrument, max(1, min(block_rows, max_dom_history // 2)))
        self._bus.subscribe(self.name, DomUpdated, instrument.instrument_id)

    def on_start(self) -> None:
        """Start the schedule of trainings."""
        self._schedule()

    def handle(self, message: Message) -> None:
        """Take a `DomUpdated` or a `TrainingWanted`."""
        if isinstance(message, TrainingWanted):
            self._train_if_wanted(message.reason)
            return
        assert isinstance(message, DomUpdated)
        source = self._sources[message.instrument_id]
        source.dom = message.dom
        if message.dom.total_rows - source.taken >= source.block_rows:
            self._take(source, message.dom)
            self._train_after_rows()

    def on_stop(self) -> None:
        """Append what is left; the writer is closed by its owner."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def train_now(self, reason: str, refit: str = "") -> None:
        """Append and seal everything, then ask for a training; `refit` is full, warm or "" (as due).

        Raises nothing: a disk that fails is logged and counted.
        """
        self._flush()
        self._new_rows = 0
        self._asked_ns = self._clock.now_ns()
        try:
            sealed = self._writer.seal()
        except StorageError as exc:
            self._on_seal_failed(exc)
            return
        if isinstance(sealed, Future):
            # Comes back on the loop, not on the writer's thread: this actor belongs to the loop.
            asyncio.wrap_future(sealed).add_done_callback(functools.partial(self._on_sealed, reason, refit))
        else:
            self._ask(reason, refit)

    def _on_sealed(self, reason: str, refit: str, sealed: asyncio.Future[int]) -> None:
        if sealed.cancelled():
            return
        failure = sealed.exception()
        if failure is None:
            self._ask(reason, refit)
        else:
            self._on_seal_failed(failure)

    def _on_seal_failed(self, failure: BaseException) -> None:
        self._counts["storage_errors"] += 1
        self._log.error("No training: its samples cannot be sealed: %s", failure)

    def _ask(self, reason: str, refit: str) -> None:
        self._counts["trainings_requested"] += 1
        self._log.info("Requesting training: %s (%d rows)", reason, self._writer.total_rows)
        self._request_training(reason, refit)

    def _take(self, source: _Source, dom: DomView) -> None:
        total = dom.total_rows
        rows = dom.rows_since(source.taken)
        lost = total - source.taken - len(rows)
        source.taken = total
        self._counts["lost_rows"] += lost
        if len(rows) and not self._is_stopped:
            self._append(source.instrument, rows, after_gap=lost > 0)

    def _append(self, instrument: Instrument, rows: Rows, *, after_gap: bool) -> None:
        try:
            self._writer.append(instrument, rows, after_gap=after_gap)
        except StorageError as exc:
            # Samples are worth less than the strategy loop: it goes on without them.
            self._is_stopped = True
            self._counts["storage_errors"] += 1
            self._log.error("Training samples are no longer recorded: %s", exc)
            return
        self._counts["rows"] += len(rows)
        self._new_rows += len(rows)

    def _flush(self) -> None:
        for source in self._sources.values():
            if source.dom is not None:
                self._take(source, source.dom)

    def _train_after_rows(self) -> None:
        wanted = self._trigger.after_new_rows
        if 0 < wanted <= self._new_rows and self._writer.total_rows >= self._trigger.min_rows:
            self.train_now(f"{self._new_rows} new rows")

    def _train_if_wanted(self, reason: str) -> None:
        cooldown_ns = round(self._trigger.drift_cooldown_minutes * 60 * NS_PER_S)
        is_cooling = self._asked_ns is not None and self._clock.now_ns() - self._asked_ns < cooldown_ns
        self._flush()
        if cooldown_ns > 0 and not is_cooling and self._new_rows and self._writer.total_rows >= self._trigger.min_rows:
            self.train_now(reason)

    def _schedule(self) -> None:
        if self._trigger.every_minutes > 0:
            when_ns = self._clock.now_ns() + round(self._trigger.every_minutes * 60 * NS_PER_S)
            self._timer = self._clock.call_at(when_ns, self._train_by_schedule)

    def _train_by_schedule(self) -> None:
        self._schedule()
        self._flush()
        if self._new_rows and self._writer.total_rows >= self._trigger.min_rows:
            self.train_now(f"every {self._trigger.every_minutes:g} minutes")
