"""A slice of the kills of the ML process, and that the record sees what may not be."""

from __future__ import annotations

import asyncio

import pytest

from framework.messages import FailureReason
from framework.wire import PredictReply
from tests.faults.askers import Asked, Record
from tests.faults.ml_kills import run_stub


@pytest.mark.timeout(240)
def test_two_hundred_kills_leave_one_outcome_each_none_late_and_a_process_that_comes_back() -> None:
    found = run_stub(200, seed=1)

    assert found.violations == []
    assert found.kills.total() == len(found.recoveries_s) == 200
    assert found.outcomes["answered"] > 200
    assert found.outcomes[FailureReason.ML_DOWN] > 0
    assert found.outcomes.total() == found.requests


def _reply(sequence: int) -> PredictReply:
    return PredictReply(
        version=1,
        request_id="r",
        flow_type="BUY",
        confidence=0.5,
        p_down=0.2,
        p_flat=0.3,
        p_up=0.5,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=1,
        as_of_sequence=sequence,
        regime=0,
        shock_score=0.1,
        compute_us=1.0,
        instrument_id="A.X",
    )


async def test_the_record_sees_what_is_late_repeated_foreign_or_without_an_end() -> None:
    now_s = asyncio.get_running_loop().time()
    record = Record()
    record.asked = {name: Asked(7, now_s + (-1.0 if name == "late" else 60.0)) for name in ("late", "twice", "foreign", "stuck", "untold")}

    record.end("late", _reply(7))
    record.end("twice", _reply(7))
    record.end("twice", FailureReason.TIMEOUT)
    record.end("foreign", _reply(8))
    record.end("untold", _reply(7))
    for name in ("late", "twice", "foreign"):
        record.asked[name].told = 1

    late, twice, foreign, stuck, untold = record.finish()
    assert late.startswith("late was answered 1000")
    assert twice == "twice ended 2 times"
    assert foreign == "foreign asked about book 7 and heard about 8"
    assert (stuck, untold) == ("without an outcome: ['stuck']", "not told once: ['untold']")
