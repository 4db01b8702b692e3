"""Build the ML process once, every object with its collaborators, from settings and a state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from framework import wire
from framework.config import MainConfig
from framework.dataset import read_dataset
from framework.errors import ConfigError, IntegrityError, StorageError
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window
from ml_actor.codecs import Call
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.feedback_store import FeedbackStore
from ml_actor.learning import Learning
from ml_actor.registry import Registry
from ml_actor.server import RouterServer
from ml_actor.service import MLService
from ml_actor.training_child import TrainingChild
from ml_actor.training_job import TrainingJob
from ml_actor.trial import Rules

BLANK_ROWS: Final = 2


class MLProcess:
    """Service, rim, trainings and feedback of one state directory. `wall_ns` and `timer` are the two clocks of the machine.

    `open` does all that waits (loading, checking, compiling) and comes before any loop; `start` binds; `close` ends it.
    `is_lockstep`: market time waits for every reply, so trials and promotions fall on the same prediction in every run.
    """

    def __init__(
        self,
        config: MainConfig,
        state_dir: Path,
        endpoint: str,
        *,
        wall_ns: Callable[[], int],
        timer: Callable[[], float],
        is_lockstep: bool = False,
    ) -> None:
        self._config = config
        self._state_dir = state_dir
        self._wall_ns = wall_ns
        self._registry = Registry(state_dir / "models", wall_ns=wall_ns)
        self._feedback = FeedbackStore(state_dir / "ml_feedback.sqlite")
        self.learning = Learning(
            self._registry,
            rules=Rules(**config.training.trial.model_dump()),
            is_shadowing=config.training.promotion == "shadow",
            is_lockstep=is_lockstep,
            versions_kept=config.training.versions_kept,
            wall_ns=wall_ns,
        )
        self.trainer = TrainingChild(
            state_dir / "ml_training",
            new_job=self._new_job,
            prepare=self._prepare,
            on_trained=self.learning.take,
            wall_ns=wall_ns,
        )
        self.service = MLService(self._registry, self.trainer, self._feedback, wall_ns=wall_ns, timer=timer, learning=self.learning)
        self.learning.serve = self.service.use
        self.server = RouterServer(self.service, endpoint, server=config.ml_service.server)

    def open(self) -> None:
        """Make the directories, check the feedback database, load the champion and compile. Raises `TidebookError`."""
        make_private(self._state_dir)
        self._feedback.open()
        warm_up(self._config.training.window_rows)
        self.service.use(self.learning.open())
        self.learning.resume()

    def start(self) -> None:
        """Bind and serve, on the running loop. Raises `StartRefused`."""
        self.server.start()
        self.learning.start(self.server.in_thread)

    async def close(self) -> None:
        """End a running training, stop serving, close the database."""
        await self.trainer.close()
        await self.learning.close()
        await self.server.close()
        self._feedback.close()

    def _new_job(self, reason: str, refit: str) -> TrainingJob:
        training, now_ns = self._config.training, self._wall_ns()
        self.learning.training_begins()
        return TrainingJob(
            job_id=f"job-{now_ns // 1_000_000}",
            dataset_dir=str(self._state_dir / "training_data.parquet"),
            models_dir=str(self._state_dir / "models"),
            reason=reason,
            feedback_file=str(self._state_dir / "ml_training" / "feedback.jsonl"),
            horizon_rows=training.horizon_rows,
            further_horizons_rows=tuple(sorted(training.further_horizons_rows)),
            window_rows=training.window_rows,
            min_rows=training.min_rows,
            max_rows=training.max_rows,
            half_life_rows=training.half_life_rows,
            refit=refit,
            full_every=training.full_every,
            seed=training.seed,
            memory_limit_mb=self._config.ml_service.memory_limit_mb,
            requested_ns=now_ns,
        )

    async def _prepare(self, job: TrainingJob) -> None:
        assert job.feedback_file is not None
        path = Path(job.feedback_file)

        def export() -> None:
            make_private(path.parent)
            self._feedback.export_for_training(path)

        await self.server.in_thread(export)
        if self.learning.lane.status()["missed"]:
            self.learning.label_from(await self.server.in_thread(lambda: _recorded(job)))


def _recorded(job: TrainingJob) -> dict[str, Rows]:
    """Return the rows of the dataset by instrument; nothing where it cannot be read, which the training will say."""
    try:
        read = read_dataset(Path(job.dataset_dir), max_rows=job.max_rows)
    except (IntegrityError, FileNotFoundError):
        return {}
    return {name: part.rows for name, part in read.instruments.items()}


def make_private(directory: Path) -> None:
    """Make a directory of mode 0700. Raises `ConfigError` for one that others may write to, `StorageError` if it cannot be made."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except FileExistsError as exc:
        raise ConfigError(f"{directory}: found something that is no directory") from exc
    except OSError as exc:
        raise StorageError(f"{directory}: cannot be used ({exc.strerror})") from exc
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        wrong = f"has mode {mode:04o} and belongs to user {status.st_uid}"
        raise ConfigError(f"{directory}: {wrong}; it must be yours and closed to others (chmod 700 {directory})")


def warm_up(window_rows: int) -> None:
    """Decode a request and compute features once, so that no client waits for a compiler; loading a model does that for the rest."""
    window = blank_window()
    request = wire.predict_request(window, request_id="warm-up", timeout_ms=1.0)
    Call(request, 0, wire.encode_window(window)).to_window()
    AdvancedMLFeatureEngine(window_rows=window_rows).transform(window)


def blank_window() -> Window:
    """Return a small window that says nothing."""
    level = np.arange(LEVELS, dtype=np.int32)
    ones = np.ones((BLANK_ROWS, LEVELS), np.float32)
    return Window(
        instrument_id="BLANK.TEST",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(
            ts_event=np.arange(BLANK_ROWS, dtype=np.int64),
            sequence=np.arange(BLANK_ROWS, dtype=np.int64),
            segment=np.zeros(BLANK_ROWS, np.int64),
            bid_ticks=np.tile(100 - level, (BLANK_ROWS, 1)),
            bid_sizes=ones,
            ask_ticks=np.tile(101 + level, (BLANK_ROWS, 1)),
            ask_sizes=ones,
            flow=np.zeros((BLANK_ROWS, len(FLOW_COLUMNS)), np.float32),
        ),
        bars=np.zeros((0, len(BAR_COLUMNS))),
    )
