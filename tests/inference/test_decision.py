"""The decision table: total, pure, and the one that the documentation prints."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import StrategyFile
from framework.inference.decision import (
    ACTIONS,
    CONFIDENT,
    GUARDS,
    TRADES,
    WAITING,
    Cell,
    Cooldown,
    DecisionInputs,
    DecisionSettings,
    Holding,
    OnSell,
    as_markdown,
    decide,
)
from framework.messages import Action, FailureReason, Prediction
from framework.model import FlowType

NOW_NS = 1_700_000_000_000_000_000


def prediction(flow_type: FlowType = FlowType.BUY, confidence: float = 0.75, *, age_s: float = 0.1, moves: int = 1) -> Prediction:
    return Prediction(
        prediction_id="p1",
        strategy_id="s",
        instrument_id="TIDE.SIM",
        flow_type=flow_type,
        confidence=confidence,
        p_down=0.1,
        p_flat=0.15,
        p_up=0.75,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=NOW_NS - int(age_s * 1e9),
        as_of_sequence=100,
        received_ns=NOW_NS,
        as_of_total_rows=1_000 - moves,
    )


def inputs(outcome: Prediction | FailureReason | None = None, **changes: object) -> DecisionInputs:
    base = DecisionInputs(
        position_lots=0,
        has_open_orders=False,
        is_book_sound=True,
        cooldown=Cooldown.COOLING if outcome else Cooldown.READY,
        rows=100,
        total_rows=1_000,
        now_ns=NOW_NS,
        outcome=outcome,
        settings=DecisionSettings(),
    )
    return msgspec.structs.replace(base, **changes)


OUTCOMES: tuple[Prediction | FailureReason | None, ...] = (
    None,
    *FailureReason,
    *(
        prediction(flow_type, confidence, age_s=age_s, moves=moves)
        for flow_type, confidence, age_s, moves in itertools.product(
            FlowType, (0.0, 0.59, 0.6, 1.0, 1.5, float("nan"), float("inf")), (0.0, 1.0, 1.01), (0, 20, 21)
        )
    ),
)


def every_input() -> list[DecisionInputs]:
    return [
        inputs(
            outcome,
            position_lots=position,
            has_open_orders=working,
            is_book_sound=sound,
            cooldown=cooldown,
            rows=rows,
            settings=DecisionSettings(on_sell=on_sell),
        )
        for outcome, position, working, sound, cooldown, rows, on_sell in itertools.product(
            OUTCOMES, (-3, 0, 1), (False, True), (True, False), Cooldown, (0, 9, 10), OnSell
        )
    ]


def test_the_full_product_of_inputs_reaches_every_cell_and_leaves_no_gap() -> None:
    reached = set()
    for case in every_input():
        decision = decide(case)
        assert decision.action is ACTIONS[decision.reason]
        reached.add(decision.reason)

    assert reached == set(Cell)


def test_the_confident_half_has_a_cell_for_every_combination() -> None:
    assert set(CONFIDENT) == set(itertools.product(Holding, (-1, 0, 1), OnSell))
    assert set(ACTIONS) == set(Cell)


def test_every_failure_reason_has_a_guard_and_a_cell_of_its_own() -> None:
    cells = [decide(inputs(reason)).reason for reason in FailureReason]

    assert len(set(cells)) == len(FailureReason)
    assert all(decide(inputs(reason)).action is Action.DEFAULT for reason in FailureReason)
    assert Cell.LOW_CONFIDENCE not in cells


def test_a_trade_needs_a_sound_book_enough_rows_and_a_fresh_confident_prediction() -> None:
    for case in every_input():
        if decide(case).action not in TRADES:
            continue
        outcome = case.outcome
        assert isinstance(outcome, Prediction)
        assert case.is_book_sound
        assert not case.has_open_orders or decide(case).action is Action.CLOSE
        assert case.rows >= 10
        assert 0.6 <= outcome.confidence <= 1.0
        assert outcome.age_s(NOW_NS) <= 1.0
        assert case.total_rows - outcome.as_of_total_rows <= 20


def test_nothing_but_on_sell_short_ever_opens_a_short() -> None:
    for case in every_input():
        decision = decide(case)
        if decision.action is Action.SELL:
            assert case.settings.on_sell is OnSell.SHORT
            assert case.position_lots >= 0
        if decision.action is Action.BUY:
            assert case.position_lots <= 0


@pytest.mark.parametrize(
    ("flow_type", "position", "on_sell", "action", "reason"),
    [
        (FlowType.BUY, 0, OnSell.SHORT, Action.BUY, Cell.ENTER_LONG),
        (FlowType.STRONG_BUY, 0, OnSell.IGNORE, Action.BUY, Cell.ENTER_LONG),
        (FlowType.SELL, 0, OnSell.SHORT, Action.SELL, Cell.ENTER_SHORT),
        (FlowType.STRONG_SELL, 0, OnSell.FLAT, Action.ABSTAIN, Cell.SELL_STAYS_FLAT),
        (FlowType.SELL, 0, OnSell.IGNORE, Action.ABSTAIN, Cell.SELL_IGNORED),
        (FlowType.NEUTRAL, 0, OnSell.SHORT, Action.ABSTAIN, Cell.NEUTRAL),
        (FlowType.BUY, 2, OnSell.SHORT, Action.ABSTAIN, Cell.HOLD_LONG),
        (FlowType.SELL, 2, OnSell.SHORT, Action.SELL, Cell.REVERSE_TO_SHORT),
        (FlowType.SELL, 2, OnSell.FLAT, Action.CLOSE, Cell.CLOSE_LONG),
        (FlowType.SELL, 2, OnSell.IGNORE, Action.ABSTAIN, Cell.SELL_IGNORED),
        (FlowType.STRONG_BUY, -2, OnSell.SHORT, Action.BUY, Cell.REVERSE_TO_LONG),
        (FlowType.BUY, -2, OnSell.FLAT, Action.CLOSE, Cell.CLOSE_SHORT),
        (FlowType.SELL, -2, OnSell.SHORT, Action.ABSTAIN, Cell.HOLD_SHORT),
        (FlowType.NEUTRAL, -2, OnSell.SHORT, Action.ABSTAIN, Cell.NEUTRAL),
    ],
)
def test_a_confident_prediction_is_weighed_against_the_position(
    flow_type: FlowType, position: int, on_sell: OnSell, action: Action, reason: Cell
) -> None:
    decision = decide(inputs(prediction(flow_type), position_lots=position, settings=DecisionSettings(on_sell=on_sell)))

    assert (decision.action, decision.reason) == (action, reason)


def test_confidence_equal_to_the_threshold_counts_as_confident() -> None:
    assert decide(inputs(prediction(confidence=0.6))).reason is Cell.ENTER_LONG


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), float("-inf"), 1.5])
def test_a_confidence_that_is_no_probability_never_counts_as_confident(confidence: float, threshold: float) -> None:
    case = inputs(prediction(confidence=confidence), settings=DecisionSettings(confidence_threshold=threshold))

    assert decide(case).reason is Cell.LOW_CONFIDENCE


def test_an_outcome_is_decided_whatever_the_cooldown_says() -> None:
    decisions = {decide(inputs(prediction(), cooldown=cooldown)).reason for cooldown in Cooldown}

    assert decisions == {Cell.ENTER_LONG}


def test_a_prediction_about_rows_before_a_session_break_is_not_acted_on() -> None:
    assert decide(inputs(prediction(), rows=3)).reason is Cell.INSUFFICIENT_DOM


def test_waiting_cells_are_those_that_need_no_outcome_and_never_act() -> None:
    assert all(ACTIONS[cell] is Action.ABSTAIN for cell in WAITING)
    assert {decide(case).reason for case in every_input() if case.outcome is None} == WAITING


@given(st.floats(allow_nan=True), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.floats(0, 1))
def test_any_numbers_get_a_decision(confidence: float, position: int, rows: int, threshold: float) -> None:
    settings = DecisionSettings(confidence_threshold=threshold)

    decision = decide(inputs(prediction(confidence=confidence), position_lots=position, rows=rows, settings=settings))

    assert decision.action is ACTIONS[decision.reason]


def test_settings_come_from_the_missions_keys() -> None:
    file = StrategyFile(
        name="s", strategy="m:C", instrument_id="TIDE.SIM", prediction_confidence_threshold=0.7, min_dom_samples=5, max_book_moves=3
    )

    settings = DecisionSettings.of(file, OnSell.FLAT)

    assert settings == DecisionSettings(
        confidence_threshold=0.7, min_dom_samples=5, max_book_moves=3, max_prediction_age_s=1.0, on_sell=OnSell.FLAT
    )


def test_the_documented_table_is_the_one_that_decides() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "decision_table.md").read_text()

    assert as_markdown() in page
    assert all(guard.words in page for guard in GUARDS)
