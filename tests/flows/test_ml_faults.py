"""An ML process that drops, delays, repeats, mixes up, garbles, hangs and dies: trading goes on, nothing is lost or used late."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from framework.kernel.simulation import SimulatedLoop
from framework.messages import (
    DecisionMade,
    FailureReason,
    MLStateChanged,
    Prediction,
    PredictionFailed,
    PredictionReceived,
    SubmitOrder,
)
from framework.model import NS_PER_S
from tests.flows.harness import FAULTS, ImbalanceModel, Run, strategy

MakeRun = Callable[..., Run]
HEALTHY_FROM_S = 18.0
"""From here on nothing fails any more, and all has to be well again."""


def _faulty(make_run: MakeRun, **options: Any) -> Run:
    quick = {"prediction_cooldown_seconds": 0.25, "feedback_batch_size": 5, "feedback_send_interval_minutes": 0.1}
    trading = {"max_holding_s": 4.0, "entry_threshold": 0.15}
    return make_run(
        strategies=[
            strategy("ml_futures", parameters=trading, **quick),
            strategy("ml_futures", name="second", parameters=trading | {"entry": "passive"}, **quick),
        ],
        **{"speed": 1.0, "duration_s": 26.0, "timeout_s": 0.5} | options,
    )


async def _heal(run: Run) -> None:
    await run.until(HEALTHY_FROM_S)
    run.transport.is_faulty = run.transport.is_dead = run.transport.is_hanging = False


def _outcomes(run: Run) -> Counter[str]:
    received = [message.prediction.prediction_id for message in run.story.of(PredictionReceived)]
    return Counter(received + [message.prediction_id for message in run.story.of(PredictionFailed)])


def _check_promises(run: Run) -> None:
    """What holds whatever the ML process does."""
    assert run.process.reason == "the duration is over"
    assert run.process.desk.bus.stats()["faults"] == 0
    _one_outcome_each(run)
    _nothing_late_is_used(run)
    _what_is_used_is_about_what_was_asked(run)
    _feedback_is_stored_once(run)


def _one_outcome_each(run: Run) -> None:
    outcomes = _outcomes(run)
    assert set(outcomes.values()) == {1}
    # Only what was in flight when its strategy stopped has no outcome; and its strategy is gone.
    assert 0 <= run.requested() - outcomes.total() <= len(run.strategies)
    decided = Counter(decision.prediction_id for decision in run.story.of(DecisionMade) if decision.prediction_id)
    assert decided == outcomes


def _nothing_late_is_used(run: Run) -> None:
    received = {message.prediction.prediction_id for message in run.story.of(PredictionReceived)}
    for now_s, prediction_id in run.story.outcomes_s:
        if prediction_id in received:
            assert now_s <= run.transport.deadlines_s[prediction_id] + 1e-9


def _what_is_used_is_about_what_was_asked(run: Run) -> None:
    for message in run.story.of(PredictionReceived):
        prediction = message.prediction
        book = run.story.book_at(prediction.as_of_sequence)
        assert prediction.as_of_ns == book.ts_event
        assert prediction.p_up == pytest.approx(ImbalanceModel.p_up(book.bid_sizes[0], book.ask_sizes[0]))


def _feedback_is_stored_once(run: Run) -> None:
    """What is not acknowledged at the end waits in the journal, and the next start hands it over."""
    decided = [decision.decision_id for decision in run.story.of(DecisionMade)]
    assert len(set(decided)) == len(decided)
    stats = run.process.desk.feedback.stats()
    assert (stats["acknowledged"] + stats["pending"], stats["dropped"]) == (len(decided), 0)
    assert stats["acknowledged"] <= run.ml.shelf.count <= len(decided)
    _next_start_delivers(run, decided)


def _next_start_delivers(run: Run, decided: list[str]) -> None:
    pending = run.process.desk.feedback.stats()["pending"]
    after = Run(run.state_dir, ml=run.ml, strategies=run.strategies, speed=1.0, duration_s=1.0).go()
    assert after.pending_at_start == pending
    assert set(run.ml.shelf.items) == {*decided, *(decision.decision_id for decision in after.story.of(DecisionMade))}
    assert after.process.desk.feedback.stats()["pending"] == 0


def _failures(run: Run) -> Counter[FailureReason]:
    return Counter(failure.reason for failure in run.story.of(PredictionFailed))


def _in_market_s(run: Run, from_s: float, to_s: float) -> list[Prediction]:
    start_ns = run.process.market.start_ns
    received = [message.prediction for message in run.story.of(PredictionReceived)]
    return [one for one in received if from_s <= (one.as_of_ns - start_ns) / NS_PER_S < to_s]


LEADS_TO = {
    "drop": {FailureReason.TIMEOUT},
    "delay": {FailureReason.TIMEOUT},
    "duplicate": set[FailureReason](),
    "reorder": set[FailureReason](),
    "misaddress": {FailureReason.BAD_REPLY},
    "garble": {FailureReason.BAD_REPLY},
}


COUNTED_AS = {"delay": "late", "duplicate": "duplicate", "misaddress": "unknown", "garble": "bad_frames"}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone_costs_predictions_is_counted_and_nothing_else(make_run: MakeRun, name: str) -> None:
    run = _faulty(make_run, wire_options={"faults": [FAULTS[name]], "share": 0.4, "seed": 5})
    counts: dict[str, float] = {}

    async def heal_and_count(run: Run) -> None:
        assert run.process.client is not None
        await _heal(run)
        counts.update(run.process.client.stats())

    run.go(meanwhile=heal_and_count)

    _check_promises(run)
    assert name not in COUNTED_AS or counts[COUNTED_AS[name]] > 10
    reasons = set(_failures(run))
    assert reasons >= LEADS_TO[name]
    assert reasons <= LEADS_TO[name] | {FailureReason.ML_DOWN}
    assert len(_in_market_s(run, 21.0, 26.0)) > 20
    assert run.story.of(SubmitOrder)


@pytest.mark.parametrize("way", ["is_dead", "is_hanging"])
def test_an_outage_leaves_the_default_behaviour_and_ends_by_itself(make_run: MakeRun, way: str) -> None:
    run = _faulty(make_run)

    async def fail_for_a_while(run: Run) -> None:
        await run.until(6.0)
        setattr(run.transport, way, True)
        await _heal(run)

    run.go(meanwhile=fail_for_a_while)

    _check_promises(run)
    assert set(_failures(run)) <= {FailureReason.ML_DOWN, FailureReason.TIMEOUT}
    assert not _in_market_s(run, 6.6, 17.9)
    assert len(_in_market_s(run, 20.0, 26.0)) > 20
    start_ns = run.process.market.start_ns
    meanwhile = [one for one in run.story.of(SubmitOrder) if 7.0 < (one.ts_event - start_ns) / NS_PER_S < 18.0]
    assert {one.strategy_id for one in meanwhile} == {"ml_futures", "second"}
    states = [change.state for change in run.story.of(MLStateChanged)]
    assert states == ["UP", "MODEL", "DOWN", "UP", "MODEL"]


def test_feedback_of_an_outage_is_acknowledged_after_it(make_run: MakeRun) -> None:
    run = _faulty(make_run, duration_s=45.0)
    seen: dict[str, tuple[int, int, int]] = {}

    def look(run: Run, when: str) -> None:
        stats = run.process.desk.feedback.stats()
        seen[when] = (stats["pending"], stats["acknowledged"], run.ml.shelf.count)

    async def fail_from_two_to_forty(run: Run) -> None:
        await run.until(2.0)
        run.transport.is_dead = True
        await run.until(42.0)
        look(run, "before")
        run.transport.is_dead = False
        await run.until(44.5)
        look(run, "after")

    run.go(meanwhile=fail_from_two_to_forty)

    assert seen["before"][0] > 3
    assert seen["before"][1:] == (0, 0)
    assert seen["after"][1] >= seen["before"][0]
    assert seen["after"][1] == seen["after"][2]
    _check_promises(run)


def test_a_service_without_a_model_costs_nothing_but_predictions(make_run: MakeRun) -> None:
    run = _faulty(make_run)
    run.ml.service.use(None)

    async def train(run: Run) -> None:
        await _heal(run)
        run.process.samples.train_now("a test asked")

    run.go(meanwhile=train)

    _check_promises(run)
    assert set(_failures(run)) == {FailureReason.NO_MODEL}
    assert len(_in_market_s(run, 21.0, 26.0)) > 20
    assert [one.state for one in run.story.of(MLStateChanged)] == ["UP", "NO_MODEL", "TRAINING", "MODEL"]


def _loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop


@pytest.mark.parametrize("loop_seed", range(3))
def test_an_answer_that_waited_behind_a_blocked_loop_is_late_whichever_callback_runs_first(make_run: MakeRun, loop_seed: int) -> None:
    run = _faulty(make_run, wire_options={"latency_s": 0.2})

    async def block_now_and_then(run: Run) -> None:
        for now_s in range(2, 18):
            await run.until(now_s)
            _loop().stall(0.6)

    run.go(loop_seed=loop_seed, meanwhile=block_now_and_then)

    _check_promises(run)
    assert FailureReason.TIMEOUT in _failures(run)


async def _at_random(run: Run) -> None:
    """Let the service die and hang now and then, until all is well."""
    rng = random.Random(run.transport.seed)
    now_s = rng.uniform(0.5, 4.0)
    while now_s < HEALTHY_FROM_S - 4.0:
        await run.until(now_s)
        if rng.random() < 0.3:
            _loop().stall(rng.uniform(0.1, 1.5))
        run.transport.is_dead, run.transport.is_hanging = rng.choice(((True, False), (False, True), (False, False)))
        now_s += rng.uniform(0.1, 4.0)
    await _heal(run)


@pytest.mark.parametrize("seed", range(30))
def test_any_mix_of_faults_keeps_every_promise(make_run: MakeRun, seed: int) -> None:
    rng = random.Random(1_000 + seed)
    faults = rng.sample(list(FAULTS.values()), rng.randrange(1, len(FAULTS) + 1))
    wire_options = {"faults": faults, "share": rng.choice((0.1, 0.4, 0.9)), "seed": seed, "latency_s": rng.choice((0.001, 0.05, 0.3))}
    run = _faulty(make_run, seed=7 + seed % 3, wire_options=wire_options)

    run.go(loop_seed=seed, meanwhile=_at_random)

    _check_promises(run)
    assert len(_in_market_s(run, 22.5, 26.0)) > 5


@pytest.mark.parametrize("seed", range(6))
def test_in_lockstep_any_mix_of_faults_keeps_every_promise(make_run: MakeRun, seed: int) -> None:
    wire_options = {"faults": list(FAULTS.values()), "share": 0.5, "seed": seed}
    run = _faulty(make_run, speed=None, wire_options=wire_options).go(loop_seed=seed)

    _one_outcome_each(run)
    _nothing_late_is_used(run)
    _what_is_used_is_about_what_was_asked(run)
    assert len(set(_failures(run))) >= 2
