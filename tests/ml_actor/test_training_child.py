"""Supervising trainings, with real child processes that behave and that do not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from framework.errors import IntegrityError
from ml_actor.training_child import TrainingChild
from ml_actor.training_job import TrainingJob, TrainingResult

GOOD = """
print('{"stage": "trees", "fraction": 0.5}', flush=True)
print('{"result": {"ok": true, "version": "v0001-aaaaaaaa", "promote": true, "promote_reason": "better"}}')
"""


class Bench:
    """A `TrainingChild` whose child runs `script`, and what it said."""

    def __init__(self, folder: Path, script: str, *, time_limit_s: float = 30.0) -> None:
        self.trained: list[TrainingResult] = []
        self.prepared: list[str] = []
        self.fault: Exception | None = None
        self.numbers = iter(range(1, 100))
        (folder / "child.py").write_text(script)
        self.child = TrainingChild(
            folder / "ml_training",
            new_job=lambda reason, refit: TrainingJob(job_id=f"job-{next(self.numbers)}", dataset_dir="d", models_dir="m", reason=reason),
            prepare=self.prepare,
            on_trained=self.take,
            wall_ns=lambda: 42,
            time_limit_s=time_limit_s,
            argv=(sys.executable, str(folder / "child.py")),
        )

    async def prepare(self, job: TrainingJob) -> None:
        self.prepared.append(job.job_id)

    async def take(self, result: TrainingResult) -> str:
        if self.fault:
            raise self.fault
        self.trained.append(result)
        return "promoted: better"

    async def run(self, reason: str = "test") -> dict[str, Any]:
        self.child.start(reason)
        return await self.ended()

    async def ended(self) -> dict[str, Any]:
        while self.child.is_running:
            await asyncio.sleep(0.005)
        job = self.child.status()["job"]
        assert isinstance(job, dict)
        return job

    async def started(self) -> int:
        while self.child.pid is None or self.child.status()["job"]["stage"] == "start":
            await asyncio.sleep(0.005)
        return self.child.pid


SLEEPER = 'import time\nprint(\'{"stage": "asleep"}\', flush=True)\ntime.sleep(60)\n'


async def test_a_training_tells_its_progress_and_its_version_is_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD)

    job = await bench.run("new rows")

    assert (job["state"], job["version"], job["detail"], job["reason"]) == ("DONE", "v0001-aaaaaaaa", "promoted: better", "new rows")
    assert [result.version for result in bench.trained] == ["v0001-aaaaaaaa"]
    assert bench.prepared == ["job-1"]


async def test_one_training_at_a_time_and_a_second_request_names_the_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD)

    first = bench.child.start("a")
    second = bench.child.start("b")
    await bench.ended()
    third = bench.child.start("c")
    await bench.ended()

    assert (first, second, third) == (("job-1", True), ("job-1", False), ("job-2", True))
    assert bench.child.status()["started"] == 2


async def test_a_refusal_says_why_and_nothing_is_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 'print(\'{"result": {"ok": false, "reason": "only 12 rows, 3000 needed"}}\')')

    job = await bench.run()

    assert (job["state"], job["detail"]) == ("REFUSED", "only 12 rows, 3000 needed")
    assert bench.trained == []


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)", "print('no json')", ""])
async def test_a_child_that_dies_without_a_result_is_a_failure_and_the_next_one_may_run(script: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, script)

    job = await bench.run()
    (tmp_path / "child.py").write_text(GOOD)
    again = await bench.run()

    assert job["state"] == "FAILED"
    assert "exit code" in job["detail"]
    assert again["state"] == "DONE"


async def test_a_killed_training_is_noticed_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SLEEPER)
    bench.child.start("test")
    os.kill(await bench.started(), signal.SIGKILL)

    job = await bench.ended()

    assert (job["state"], bench.child.status()["failed"]) == ("FAILED", 1)
    assert "-9" in job["detail"]


async def test_a_training_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SLEEPER, time_limit_s=0.5)
    bench.child.start("test")
    pid = await bench.started()

    job = await bench.ended()

    assert "longer than 0.5 s" in job["detail"]
    assert not psutil.pid_exists(pid)


async def test_lines_that_are_too_long_or_no_json_are_counted_and_passed_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "print('x' * 3_000_000)\nprint('warning: something')\nprint('{\"stage\": 7}')\n" + GOOD)

    job = await bench.run()

    assert job["state"] == "DONE"
    assert bench.child.status()["bad_lines"] >= 3


async def test_a_version_that_cannot_be_taken_is_a_failure_that_names_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD)
    bench.fault = IntegrityError("the signature does not hold")

    job = await bench.run()

    assert (job["state"], job["detail"]) == ("FAILED", "the signature does not hold")


async def test_the_child_has_one_thread_per_library(tmp_path: Path) -> None:
    script = """
import json, os
names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
print(json.dumps({"result": {"ok": False, "reason": " ".join(os.environ[name] for name in names)}}))
"""

    job = await Bench(tmp_path, script).run()

    assert job["detail"] == "1 1 1 1"


async def test_closing_ends_the_child_even_one_that_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER
    bench = Bench(tmp_path, deaf)
    bench.child.start("test")
    pid = await bench.started()

    await bench.child.close()

    assert not psutil.pid_exists(pid)
    assert bench.child.status()["job"]["detail"] == "the service was stopped"
