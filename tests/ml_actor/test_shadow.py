"""The shadow lane: after the reply, bounded, never traded; and the same trial whatever the timing in lockstep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.features.engine import select
from ml_actor.ports import Predictor
from ml_actor.shadow import IDLE_S, MAX_CHALLENGERS, ShadowLane, Verdict, Watched, trials_from_bytes, trials_to_bytes
from ml_actor.trial import Outcome, Rules

HORIZON = 10
RULES = Rules()


@dataclass(frozen=True, kw_only=True)
class Scores:
    p_down: float
    p_flat: float
    p_up: float
    flow_type: FlowType
    confidence: float
    regime: int = 0
    shock_score: float = 0.0
    horizons: tuple[HorizonPrediction, ...] = ()


class Imbalance:
    """Leans to the thinner side by `strength`: in the synthetic market, 0 says nothing, 1 a good deal, -1 the wrong way."""

    window_rows = 100
    is_calibrated = True

    def __init__(self, version: str, strength: float, *, horizon_rows: int = HORIZON, seed: int | None = None) -> None:
        self.version = version
        self.horizon_rows = horizon_rows
        self.strength = strength
        self.asked: list[int] = []
        self.noise = np.random.default_rng(seed) if seed is not None else None

    def predict(self, window: Window) -> Scores:
        self.asked.append(window.as_of_sequence)
        bid, ask = float(window.rows.bid_sizes[-1, 0]), float(window.rows.ask_sizes[-1, 0])
        lean = np.tanh(self.strength * (np.log(bid / ask) + (self.noise.normal(scale=0.3) if self.noise else 0.0)))
        p_up, p_down = 0.2 * (1 + 0.8 * lean), 0.2 * (1 - 0.8 * lean)
        flow = FlowType.BUY if lean > 0.5 else FlowType.SELL if lean < -0.5 else FlowType.NEUTRAL
        return Scores(p_down=p_down, p_flat=1 - p_up - p_down, p_up=p_up, flow_type=flow, confidence=max(p_up, p_down) / (p_up + p_down))


class Broken(Imbalance):
    def predict(self, window: Window) -> Scores:
        raise ZeroDivisionError


class Nonsense(Imbalance):
    def predict(self, window: Window) -> Scores:
        return Scores(p_down=float("nan"), p_flat=0.5, p_up=0.5, flow_type=FlowType.BUY, confidence=0.5)


class Court:
    """A lockstep lane, its verdicts, and a champion that answers windows."""

    def __init__(self, champion: Imbalance, *challengers: Imbalance, rules: Rules = RULES, **more: Any) -> None:
        self.verdicts: list[Verdict] = []
        self.promoted: list[Predictor] = []
        self.lane = ShadowLane(rules=rules, on_verdict=self._on_verdict, **more)
        self.serve(champion)
        for challenger in challengers:
            self.lane.add(challenger)

    def _on_verdict(self, verdict: Verdict, challenger: Predictor) -> None:
        self.verdicts.append(verdict)
        if verdict.outcome is Outcome.BETTER:
            self.promoted.append(challenger)
            self.serve(challenger)

    def serve(self, champion: Predictor) -> None:
        self.lane.crown(champion)
        self.watched = Watched(champion, self.lane)

    def answer(self, windows: Iterable[Window], *, settle: bool = True) -> None:
        for window in windows:
            self.watched.predict(window)
            if settle:
                self.lane.settle()


def windows(rows: Rows, step: int = 3, start: int = 99, instrument_id: str = "ES.SIM") -> list[Window]:
    return [
        Window(
            instrument_id=instrument_id,
            tick_size=0.25,
            has_trades=True,
            rows=select(rows, slice(end - 99, end + 1)),
            bars=np.empty((0, len(BAR_COLUMNS))),
        )
        for end in range(start, len(rows), step)
    ]


@pytest.fixture(scope="module")
def rows(make_market: Callable[..., Rows]) -> Rows:
    return make_market(9_000, seed=3, segments=1)


def test_a_better_challenger_is_shadowed_on_the_same_windows_and_then_serves(rows: Rows) -> None:
    champion, challenger = Imbalance("v1", 0.0), Imbalance("v2", 1.0)
    court = Court(champion, challenger)
    court.answer(windows(rows))

    (verdict,) = court.verdicts
    assert verdict.outcome is Outcome.BETTER
    assert (verdict.champion, verdict.challenger) == ("v1", "v2")
    assert verdict.evidence["windows"] >= 200
    assert court.watched.version == "v2"
    # The window that brought the deciding label came too late for the trial.
    assert challenger.asked[: len(champion.asked) - 1] == champion.asked[:-1]


def test_a_worse_challenger_is_refused_and_an_equal_one_too(rows: Rows) -> None:
    court = Court(Imbalance("v1", 1.0), Imbalance("v2", -1.0), Imbalance("v3", 1.0), rules=Rules(max_blocks=300))
    court.answer(windows(rows))

    assert {verdict.challenger: verdict.outcome for verdict in court.verdicts} == {
        "v2": Outcome.WORSE,
        "v3": Outcome.NO_DIFFERENCE,
    }
    assert court.watched.version == "v1"


def test_in_lockstep_the_verdict_falls_on_the_same_prediction_every_time(rows: Rows) -> None:
    def served() -> list[str]:
        court, by = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0)), []
        for window in windows(rows):
            by.append(court.watched.version)
            court.answer([window])
        return by

    first = served()
    assert first == served()
    assert set(first) == {"v1", "v2"}


def test_a_challenger_is_asked_only_after_the_reply_has_left(rows: Rows) -> None:
    challenger = Imbalance("v2", 1.0)
    court = Court(Imbalance("v1", 0.0), challenger)
    court.answer(windows(rows)[:1], settle=False)
    assert challenger.asked == []

    court.lane.settle()
    assert len(challenger.asked) == 1


def test_what_does_not_fit_is_shed_and_counted(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0), max_waiting=10)
    court.answer(windows(rows)[:25], settle=False)

    assert court.lane.status()["waiting"] == 10
    assert court.lane.status()["shed"] == 15


def test_the_same_window_ten_thousand_times_counts_once(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0))
    some = windows(rows)[:3]
    court.answer(some)
    court.answer(some[2:] * 10_000)

    status = court.lane.status()
    assert (status["scored"], status["repeated"]) == (3, 10_000)
    assert court.lane.trials()[0].ours.windows == 0


def test_no_label_crosses_a_gap(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0))
    court.answer(windows(rows, step=300))  # windows that never overlap

    status = court.lane.status()
    assert (status["labelled"], status["joints"], status["missed"]) == (0, status["scored"] - 1, status["scored"] - 1)


@pytest.mark.parametrize("kind", [Broken, Nonsense])
def test_a_challenger_that_fails_costs_its_own_trial_only(rows: Rows, kind: type[Imbalance]) -> None:
    court = Court(Imbalance("v1", 0.0), kind("v2", 1.0), Imbalance("v3", 1.0))
    court.answer(windows(rows))

    assert [verdict.challenger for verdict in court.verdicts] == ["v3"]
    assert court.lane.status()["faults"] > 100


def test_a_challenger_of_another_horizon_is_not_tried(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0, horizon_rows=HORIZON + 1))

    assert court.lane.challengers == ()


def test_the_oldest_challenger_leaves_when_there_are_too_many() -> None:
    court = Court(Imbalance("v0", 0.0), *(Imbalance(f"v{number}", 1.0) for number in range(1, MAX_CHALLENGERS + 2)))

    assert court.lane.challengers == ("v2", "v3", "v4")


def test_another_champion_begins_all_trials_anew(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 0.0, seed=1), Imbalance("v3", 0.0, seed=2))
    court.answer(windows(rows)[:300])
    assert all(trial.blocks > 20 for trial in court.lane.trials())

    court.serve(Imbalance("v2", 0.0))
    assert [(trial.champion, trial.challenger, trial.blocks) for trial in court.lane.trials()] == [("v2", "v3", 0)]


def test_a_trial_goes_on_after_a_restart_and_a_damaged_note_begins_anew(rows: Rows) -> None:
    every = windows(rows)
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 0.02, seed=1))
    court.answer(every[:300])
    noted = trials_to_bytes(court.lane.trials())

    again = Court(Imbalance("v1", 0.0))
    again.lane.add(Imbalance("v2", 0.02), trials_from_bytes(noted)[0])
    assert again.lane.trials() == court.lane.trials()
    assert trials_from_bytes(noted[:-7]) == ()

    other = Court(Imbalance("v9", 0.0))
    other.lane.add(Imbalance("v2", 0.02), trials_from_bytes(noted)[0])
    assert other.lane.trials()[0].blocks == 0


def test_instruments_beyond_the_limit_push_out_the_oldest(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0))
    some = select(rows, slice(0, 110))
    for number in range(70):
        court.answer(windows(some, instrument_id=f"I{number}.SIM"))

    assert court.lane.status()["joints"] == 0
    assert court.lane.status()["missed"] > 0


async def test_live_the_lane_works_in_the_pauses_one_window_a_turn(rows: Rows) -> None:
    loop, challenger = asyncio.get_running_loop(), Imbalance("v2", 1.0)
    now = [0.0]
    turns: list[Callable[[], None]] = []
    court = Court(Imbalance("v1", 0.0), challenger, later=lambda _, call: turns.append(call), now_s=lambda: now[0])
    assert loop.is_running()
    court.answer(windows(rows)[:3])
    assert challenger.asked == []

    turns.pop()()  # a request has only just come: not yet
    assert challenger.asked == []
    now[0] += 2 * IDLE_S
    for done in (1, 2, 3):
        turns.pop()()
        assert len(challenger.asked) == done
    assert turns == []


def test_windows_that_never_overlap_are_labelled_from_recorded_rows(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0))
    seldom = windows(rows, step=110)
    court.answer(seldom)
    assert (court.lane.status()["labelled"], court.lane.status()["missed"]) == (0, len(seldom) - 1)

    court.lane.label_from({"ES.SIM": select(rows, slice(0, 5_000))})
    halfway = court.lane.status()
    assert 40 <= halfway["labelled"] <= 46
    court.lane.label_from({"ES.SIM": rows})

    status = court.lane.status()
    assert (status["labelled"], status["missed"], status["unlabelled"]) == (len(seldom) - 1, 0, 0)
    assert court.lane.trials()[0].ours.log_loss < court.lane.trials()[0].theirs.log_loss


def test_recorded_rows_label_nothing_across_a_joint(rows: Rows) -> None:
    court = Court(Imbalance("v1", 0.0), Imbalance("v2", 1.0))
    court.answer(windows(rows, step=110))
    court.lane.label_from({"ES.SIM": replace(rows, segment=np.arange(len(rows)))})

    status = court.lane.status()
    assert (status["labelled"], status["missed"]) == (0, 0)
    assert status["unlabelled"] == status["scored"] - 1
