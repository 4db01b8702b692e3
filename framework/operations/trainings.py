"""The trainings that this process asks for: start one, follow it, count those that ended well."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from framework.clock import Clock
from framework.errors import TidebookError
from framework.inference.client import MLClient
from framework.kernel.pacer import Pacer
from framework.operations.first_training import train_and_wait
from framework.progress import Progress

log = logging.getLogger("Tidebook")


class Trainings:
    """Trainings through one client. `share` (0 to 1) and `stage` say how far the one that runs is; None and "" if none does."""

    def __init__(self, client: MLClient | None, pacer: Pacer, clock: Clock) -> None:
        self.done = 0
        self.share: float | None = None
        self.stage = ""
        self._client = client
        self._pacer = pacer
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    def request(self, reason: str, refit: str = "") -> None:
        """Start a training in the background; at full speed market time waits for its end, so that a replay stays a replay."""
        if self._client is None or not self._client.is_up:
            log.warning("No training (%s): the ML process is not up", reason)
            return
        task = asyncio.get_running_loop().create_task(self.run(reason, self._note, refit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._pacer.is_lockstep:
            self._pacer.hold(self._clock.now_ns(), task)

    async def run(self, reason: str, on_progress: Progress, refit: str = "") -> None:
        """Train and wait for the end; what becomes of it is logged and counted, and raises nothing."""
        assert self._client is not None
        try:
            ended = await train_and_wait(self._client, reason, on_progress, refit)
        except (TimeoutError, TidebookError) as exc:
            log.warning("Training (%s) is lost from sight: %s", reason, exc or "no end within ten minutes")
        else:
            self.done += ended.state == "DONE"
            log.log(logging.INFO if ended.state == "DONE" else logging.WARNING, "Training (%s): %s", reason, ended)
        finally:
            self.share, self.stage = None, ""

    def _note(self, stage: str, share: float) -> None:
        self.stage, self.share = stage, share
