"""One fold: what is refused, and that a market without a signal shows no skill."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.evaluate.answers import Answer, activity, answer_fold, join_answers, regime_cuts
from ml_actor.evaluate.fitters import Question
from ml_actor.evaluate.folds import Fold, Part
from ml_actor.evaluate.scoring import alarms, score_horizon
from ml_actor.preparation import Recording


def part(name: str, rows: Rows) -> Part:
    return Part(
        file=name, first_row=0, fee_ticks=0.1, recording=Recording(instrument_id="A.SIM", tick_size=1.0, has_trades=True, rows=rows)
    )


def ask(train: Rows, test: Rows, *, model: str = "imbalance", horizons: tuple[int, ...] = (10,)) -> Answer | str:
    question = Question(horizons=horizons, label="sign", model=model, seed=7)
    found = answer_fold(Fold(number=1, train=(part("a", train),), test=(part("b", test),)), question)
    return found if isinstance(found, str) else found.by_horizon[horizons[0]]


def still(rows: Rows) -> Rows:
    """Return the rows with a mid that never moves."""
    held = {name: np.tile(getattr(rows, name)[:1], (len(rows), 1)) for name in ("bid_ticks", "ask_ticks")}
    return replace(rows, bid_ticks=held["bid_ticks"], ask_ticks=held["ask_ticks"])


def test_a_test_without_a_move_is_refused_by_its_missing_classes(make_market: Callable[..., Rows]) -> None:
    refusal = ask(make_market(3_000), still(make_market(3_000)))

    assert refusal == "horizon 10: no test row is labelled down or up; take a longer recording or other horizons"


@pytest.mark.parametrize(("rows", "horizon", "scored"), [(400, 10, 180), (3_000, 1_450, 0)])
def test_too_little_to_score_is_refused_with_its_number(make_market: Callable[..., Rows], rows: int, horizon: int, scored: int) -> None:
    refusal = ask(make_market(8_000, segments=1), make_market(rows), horizons=(horizon,))

    needed = "at least 300 needed; sessions must be longer than 100 rows and the horizon"
    assert refusal == f"horizon {horizon}: {scored} test rows can be scored, {needed}"


@pytest.mark.parametrize(
    ("said", "objection"),
    [
        ({}, "predicts no horizon 10"),
        ({10: np.full((5, 3), 1 / 3)}, "predicts an array of shape (5, 3) at horizon 10; expected (3000, 3): down, flat, up"),
        ({10: np.full((3_000, 3), 0.5)}, "predicts numbers that are no probabilities at horizon 10: they are negative, or do not sum to 1"),
    ],
)
def test_a_model_whose_predictions_are_none_is_refused(
    make_market: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch, said: dict[int, np.ndarray], objection: str
) -> None:
    fitted = SimpleNamespace(predict_rows=lambda recording: said, facts=dict)
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(fit=lambda train, *, horizons, label, seed, report: fitted))

    assert ask(make_market(3_000), make_market(3_000), model="mine:fit") == f"model mine:fit: {objection}"


def test_a_market_without_a_signal_shows_no_skill(make_market: Callable[..., Rows]) -> None:
    areas = []
    for seed in range(5):
        answer = ask(make_market(4_000, seed=2 * seed + 50, signal=0.0), make_market(4_000, seed=2 * seed + 51, signal=0.0))
        assert isinstance(answer, Answer)
        areas.append(score_horizon(answer, 10, seed=7, trials=1, sharpes=[])["scores"]["model"]["auc_up_down"])

    assert sum(low <= 0.5 <= high for low, high in (area["interval"] for area in areas)) >= 4


def test_knowing_the_future_raises_the_alarm(make_market: Callable[..., Rows]) -> None:
    answer = ask(make_market(4_000, seed=1), make_market(4_000, seed=2))
    assert isinstance(answer, Answer)
    leaked = np.full((len(answer.classes), 3), 0.01)
    leaked[np.arange(len(answer.classes)), answer.classes] = 0.98
    oracle = replace(answer, probabilities={**answer.probabilities, "model": leaked})

    honest, leaking = (score_horizon(one, 10, seed=7, trials=1, sharpes=[]) for one in (answer, oracle))

    assert alarms(10, honest) == []
    assert alarms(10, leaking)[0].startswith("h=10: AUC of up against down is 1.000, above 0.955")


def test_answers_of_folds_are_joined_with_their_files_and_sessions(make_market: Callable[..., Rows]) -> None:
    one, other = (ask(make_market(3_000, seed=1), make_market(3_000, seed=seed)) for seed in (2, 3))
    assert isinstance(one, Answer)
    assert isinstance(other, Answer)

    joined = join_answers([one, replace(other, names=("c",)), replace(other, names=("b",))])

    assert joined.names == ("b", "c")
    assert np.unique(joined.files, return_counts=True)[1].tolist() == [len(one.rows) + len(other.rows), len(other.rows)]
    assert len(joined.trips["0"].move) == len(joined.rows)


def test_activity_looks_back_a_hundred_rows_and_not_into_another_session(make_market: Callable[..., Rows]) -> None:
    rows = make_market(1_000)
    mids = rows.bid_ticks[:, 0].astype(int) + rows.ask_ticks[:, 0]

    found = activity(rows)

    assert found[499] == pytest.approx(np.abs(np.diff(mids))[399:499].sum() / 100)
    assert found[500] == pytest.approx((np.abs(np.diff(mids))[400:499].sum()) / 100)
    low, high = regime_cuts([Recording(instrument_id="A.SIM", tick_size=1.0, has_trades=True, rows=rows)])
    assert low < high
