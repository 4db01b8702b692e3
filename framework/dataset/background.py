"""A dataset writer that keeps the disk away from the event loop."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from pathlib import Path

from framework.dataset.writer import DatasetWriter
from framework.errors import StorageError
from framework.model import Instrument
from framework.window import Rows

_Job = tuple[Instrument, Rows, bool] | Future[int] | None


class BackgroundDatasetWriter:
    """A `DatasetWriter` in a thread behind a bounded queue.

    Opening happens in the constructor and raises what `DatasetWriter` raises. `append` never waits: when the queue holds `max_jobs`
    blocks, the block is dropped and counted in `dropped_rows`, and the instrument's next block starts a new segment. A
    disk that fails drops and counts likewise, with the reason in `failure`.
    """

    def __init__(self, directory: Path, *, part_rows: int = 10_000, max_jobs: int = 1_000) -> None:
        self._writer = DatasetWriter(directory, part_rows=part_rows)
        self._queue: queue.Queue[_Job] = queue.Queue(max_jobs)
        self._after_gap: set[str] = set()
        self._total_rows = self._writer.total_rows
        self._is_closed = False
        self.dropped_rows = 0
        self.failure = ""
        self._thread = threading.Thread(target=self._work, name="dataset", daemon=True)
        self._thread.start()

    @property
    def total_rows(self) -> int:
        """Return how many rows are in the directory or on their way to it."""
        return self._total_rows

    def append(self, instrument: Instrument, rows: Rows, *, after_gap: bool = False) -> None:
        """Hand rows to the thread, or drop and count them."""
        instrument_id = instrument.instrument_id
        try:
            if self._is_closed:
                raise queue.Full
            self._queue.put_nowait((instrument, rows, after_gap or instrument_id in self._after_gap))
        except queue.Full:
            self.dropped_rows += len(rows)
            self._after_gap.add(instrument_id)
            return
        self._after_gap.discard(instrument_id)
        self._total_rows += len(rows)

    def seal(self) -> Future[int]:
        """Seal what was appended so far; the future has the number of rows sealed, or a `StorageError`."""
        done: Future[int] = Future()
        try:
            if self._is_closed:
                raise queue.Full
            self._queue.put_nowait(done)
        except queue.Full:
            done.set_exception(StorageError(f"{self._writer.directory}: the writer is behind or closed; seal again later"))
        return done

    def close(self, timeout_s: float = 30.0) -> None:
        """Write and seal the rest; waits for the disk, at most `timeout_s`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if isinstance(job, Future):
                self._seal(job)
            else:
                self._append(*job)
        try:
            self._writer.close()
        except StorageError as exc:
            self.failure = str(exc)

    def _append(self, instrument: Instrument, rows: Rows, after_gap: bool) -> None:  # noqa: FBT001
        before = self._writer.total_rows
        try:
            self._writer.append(instrument, rows, after_gap=after_gap)
        except StorageError as exc:
            self.failure = str(exc)
            # Rows that reached the tail are safe, even if sealing it failed.
            lost_rows = len(rows) - (self._writer.total_rows - before)
            self.dropped_rows += lost_rows
            self._total_rows -= lost_rows

    def _seal(self, done: Future[int]) -> None:
        try:
            done.set_result(self._writer.seal())
        except StorageError as exc:
            self.failure = str(exc)
            done.set_exception(exc)
