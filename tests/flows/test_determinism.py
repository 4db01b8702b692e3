"""Same input, same run: in one process, in another one, with other latencies and another order of callbacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.messages import PredictionReceived, SubmitOrder
from tests.flows.harness import HOME, Run, strategy

MakeRun = Callable[..., Run]
IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from tests.flows.harness import Run, strategy
for speed in (None, 1.0):
    run = Run(Path(sys.argv[1]) / str(speed), strategies=[strategy("ml_futures"), strategy("book_imbalance")], speed=speed).go()
    print(run.story.whole.count, run.story.whole.hexdigest())
"""


def _busy(make_run: MakeRun, **options: Any) -> Run:
    """A run with many predictions and resting orders: there is a lot that could come in another order."""
    quick = {"prediction_cooldown_seconds": 0.2}
    return make_run(
        strategies=[
            strategy("ml_futures", **quick),
            strategy("ml_futures", name="patient", parameters={"entry": "passive", "max_holding_s": 3.0}, **quick),
            strategy("book_imbalance", parameters={"entry_threshold": 0.15, "max_holding_s": 2.0}),
        ],
        **{"duration_s": 20.0} | options,
    )


@pytest.mark.parametrize("speed", [None, 1.0])
def test_the_same_seed_gives_the_same_messages_twice(make_run: MakeRun, speed: float | None) -> None:
    first, second = _busy(make_run, speed=speed).go(), _busy(make_run, speed=speed).go()

    assert first.story.whole.count > 1_000
    assert first.story.whole.hexdigest() == second.story.whole.hexdigest()


def test_another_seed_of_the_market_gives_another_run(make_run: MakeRun) -> None:
    first, second = _busy(make_run).go(), _busy(make_run, seed=8).go()

    assert first.story.whole.hexdigest() != second.story.whole.hexdigest()


def test_processes_with_other_hash_seeds_send_the_same_messages(tmp_path: Path) -> None:
    said = set()
    for hash_seed in ("0", "12345"):
        command = (sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / hash_seed))
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(HOME)}
        ended = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=60, check=True)
        said.add(ended.stdout)

    assert len(said) == 1
    assert int(said.pop().split()[0]) > 500


def test_in_lockstep_orders_do_not_depend_on_the_latency_of_the_ml_process(make_run: MakeRun) -> None:
    quick = _busy(make_run, wire_options={"latency_s": 0.001}).go()
    slow = _busy(make_run, wire_options={"latency_s": 0.2}).go()

    assert len(quick.story.of(SubmitOrder)) > 10
    assert quick.story.orders() == slow.story.orders()
    assert quick.story.ruled.hexdigest() == slow.story.ruled.hexdigest()
    assert len(quick.story.of(PredictionReceived)) > 100


@pytest.mark.parametrize("loop_seed", range(2, 5))
def test_in_lockstep_orders_do_not_depend_on_the_order_of_callbacks(make_run: MakeRun, loop_seed: int) -> None:
    first, other = _busy(make_run).go(loop_seed=1), _busy(make_run).go(loop_seed=loop_seed)

    assert first.story.orders() == other.story.orders()
    assert first.story.ruled.hexdigest() == other.story.ruled.hexdigest()


def test_in_lockstep_a_training_swaps_the_model_at_the_same_prediction(make_run: MakeRun) -> None:
    training = {"training": {"after_new_rows": 100, "min_rows": 500}}
    runs = [
        _busy(make_run, duration_s=55.0, config=training, wire_options={"latency_s": latency_s}).go(loop_seed=seed)
        for seed, latency_s in ((1, 0.001), (2, 0.05))
    ]

    versions = [[message.prediction.model_version for message in run.story.of(PredictionReceived)] for run in runs]
    assert len(set(versions[0])) > 1
    assert versions[0] == versions[1]
    assert runs[0].story.ruled.hexdigest() == runs[1].story.ruled.hexdigest()


def test_at_a_finite_speed_latency_is_felt(make_run: MakeRun) -> None:
    # Otherwise the test of latencies in lockstep would prove nothing.
    quick = _busy(make_run, speed=1.0, wire_options={"latency_s": 0.001}).go()
    slow = _busy(make_run, speed=1.0, wire_options={"latency_s": 0.2}).go()

    assert quick.story.ruled.hexdigest() != slow.story.ruled.hexdigest()
