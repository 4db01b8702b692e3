"""Supervise trainings: one child process at a time, niced, with one thread, a memory limit and a time limit.

Whatever becomes of the child, the old model serves on; `status` says how it ended. A child dies with its parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import TidebookError
from ml_actor.openmp import openmp_environment
from ml_actor.training_job import CHILD_ENVIRONMENT, TrainingJob, TrainingResult

log = logging.getLogger("MLService")

MAX_LINE_BYTES: Final = 1 << 20
STOP_TIMEOUT_S: Final = 2.0


class Progress(msgspec.Struct, kw_only=True):
    """How a training stands: RUNNING, DONE, REFUSED (with its reason), FAILED (a fault, a kill, a limit)."""

    job_id: str
    reason: str
    started_ns: int
    state: str = "RUNNING"
    stage: str = "start"
    fraction: float = 0.0
    version: str = ""
    detail: str = ""
    metrics: dict[str, Any] = {}


class TrainingChild:
    """Runs `python -m ml_actor.training --job FILE` for one job at a time.

    `prepare(job)` fills in a job before the child starts (it may wait); `on_trained(result)` is awaited after a training
    that made a version, and returns what became of it, in words. `new_job(reason, refit)` gives a job with a new id.
    """

    def __init__(
        self,
        directory: Path,
        *,
        new_job: Callable[[str, str], TrainingJob],
        prepare: Callable[[TrainingJob], Awaitable[None]],
        on_trained: Callable[[TrainingResult], Awaitable[str]],
        wall_ns: Callable[[], int],
        time_limit_s: float = 3_600.0,
        argv: Sequence[str] = (sys.executable, "-m", "ml_actor.training"),
    ) -> None:
        self._directory = directory
        self._new_job = new_job
        self._prepare = prepare
        self._on_trained = on_trained
        self._wall_ns = wall_ns
        self._time_limit_s = time_limit_s
        self._argv = tuple(argv)
        self._progress: Progress | None = None
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._counts = {"started": 0, "done": 0, "refused": 0, "failed": 0, "bad_lines": 0}

    @property
    def is_running(self) -> bool:
        """Return whether a training runs."""
        return self._task is not None

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def start(self, reason: str, refit: str = "") -> tuple[str, bool]:
        """Start a training (`refit` full, warm or "": as due), or name the one that runs. Never waits."""
        if self._task is not None and self._progress is not None:
            return self._progress.job_id, False
        job = self._new_job(reason, refit)
        self._progress = Progress(job_id=job.job_id, reason=reason, started_ns=self._wall_ns())
        self._counts["started"] += 1
        log.info("Training %s starts: %s", job.job_id, reason)
        self._task = asyncio.get_running_loop().create_task(self._run(job, self._progress), name="ml-training")
        return job.job_id, True

    def status(self) -> dict[str, Any]:
        """Return the counters, and how the training that runs, or ran last, stands."""
        return {**self._counts, "job": msgspec.to_builtins(self._progress) if self._progress else None}

    async def close(self) -> None:
        """End the child, if one runs: ask, wait, kill."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, job: TrainingJob, progress: Progress) -> None:
        try:
            async with asyncio.timeout(self._time_limit_s):
                await self._prepare(job)
                result = await self._child(job, progress)
            await self._take(result, progress)
        except TimeoutError:
            self._end(progress, "FAILED", f"took longer than {self._time_limit_s:g} s and was killed")
        except (OSError, TidebookError) as exc:
            self._end(progress, "FAILED", str(exc))
        except asyncio.CancelledError:
            self._end(progress, "FAILED", "the service was stopped")
            raise
        finally:
            # The process first: as long as it lives, no other training may start.
            await self._end_process()
            self._task = None

    async def _child(self, job: TrainingJob, progress: Progress) -> TrainingResult:
        """Run the child and return its result line; a refusal in its place if there is none."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / "job.json"
        path.write_bytes(msgspec.json.encode(job))
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            "--job",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **CHILD_ENVIRONMENT, **openmp_environment(self._directory / "lib")},
            limit=MAX_LINE_BYTES,
        )
        result = await self._read(self._process, progress)
        code = await self._process.wait()
        if result is None:
            raise ChildFailed(f"the training process ended with exit code {code} and no result (killed, or out of memory); see the log")
        return result

    async def _read(self, process: asyncio.subprocess.Process, progress: Progress) -> TrainingResult | None:
        assert process.stdout is not None
        result = None
        while line := await _line(process.stdout):
            try:
                said = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError:
                self._counts["bad_lines"] += 1
                continue
            result = said.result or result
            if said.stage:
                progress.stage, progress.fraction = said.stage[:100], said.fraction
        return result

    async def _take(self, result: TrainingResult, progress: Progress) -> None:
        progress.fraction = 1.0
        progress.metrics = result.metrics
        progress.version = result.version
        if not result.ok:
            self._end(progress, "REFUSED", result.reason)
            return
        self._end(progress, "DONE", await self._on_trained(result))

    def _end(self, progress: Progress, state: str, detail: str) -> None:
        progress.state, progress.detail = state, detail
        self._counts[state.lower()] += 1
        level = logging.INFO if state == "DONE" else logging.WARNING
        log.log(level, "Training %s: %s %s %s", progress.job_id, state, progress.version, detail)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            # This runs in a task that was cancelled: there `asyncio.timeout` of Python 3.11.2 does not raise, and no kill would follow.
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


class ChildFailed(TidebookError):
    """The training process ended without a result."""


class _Line(msgspec.Struct):
    stage: str = ""
    fraction: float = 0.0
    result: TrainingResult | None = None


async def _line(stdout: asyncio.StreamReader) -> bytes:
    """Return the next line, b"" at the end; a line that is too long is cut into unreadable ones."""
    try:
        return await stdout.readuntil(b"\n")
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except asyncio.LimitOverrunError as exc:
        return await stdout.read(exc.consumed)
