"""One challenger's trial: blocks, scores, and when it ends how."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from ml_actor.trial import Claim, Move, Outcome, Rules, Tally, Trial, gain_ticks, log_loss, words

RULES = Rules()
UP, DOWN, FLAT = Move(2, 2), Move(-2, 2), Move(0, 2)


def claim(p_up: float, p_down: float = 0.1) -> Claim:
    return Claim(p_down, 1 - p_down - p_up, p_up)


def trial(block_rows: int = 10) -> Trial:
    return Trial(champion="v1", challenger="v2", block_rows=block_rows)


def go(challenger_edge: float, *, blocks: int = 400, seed: int = 1) -> tuple[Outcome, Trial]:
    """Ten windows a block; the challenger gives what happened `challenger_edge` more probability."""
    rng, tried = np.random.default_rng(seed), trial()
    for row in range(blocks * 10):
        move = (UP, DOWN, FLAT)[rng.integers(3)]
        base, noise = rng.uniform(0.3, 0.5), rng.normal(scale=0.05)
        right = np.clip([base, base + challenger_edge + noise], 0.05, 0.95)
        said = [_claim_about(move, float(p)) for p in right]
        tried.add("ES", row, champion=said[0], challenger=said[1], move=move)
        if (outcome := tried.outcome(RULES)) is not Outcome.UNDECIDED:
            return outcome, tried
    return Outcome.UNDECIDED, tried


def _claim_about(move: Move, p: float) -> Claim:
    rest = (1 - p) / 2
    if move.half_ticks == 0:
        return Claim(rest, p, rest)
    return Claim(rest, rest, p) if move.half_ticks > 0 else Claim(p, rest, rest)


@pytest.mark.parametrize(("move", "p"), [(UP, 0.6), (DOWN, 0.1), (FLAT, 0.3)])
def test_the_log_loss_is_about_what_happened(move: Move, p: float) -> None:
    assert log_loss(claim(0.6), move) == pytest.approx(-math.log(p))


def test_no_probability_at_all_costs_much_but_not_everything() -> None:
    assert log_loss(Claim(0.0, 0.0, 1.0), DOWN) == pytest.approx(13.8155, abs=1e-3)


@pytest.mark.parametrize(
    ("said", "move", "ticks"),
    [
        (claim(0.6), Move(2, 2, 6.0), 0.0),  # one tick won, one tick of spread paid
        (claim(0.6), Move(6, 2, 6.0), 2.0),
        (claim(0.6), Move(-2, 2, 6.0), -2.0),
        (claim(0.1, 0.6), Move(-6, 2, 6.0), 2.0),
        (claim(0.6), Move(6, 2, 4.0), 0.0),  # an edge of exactly the spread
        (claim(0.6), Move(6, 4, 6.0), 0.0),  # a spread too wide to act
        (claim(0.3, 0.3), Move(6, 2, 6.0), 0.0),
    ],
)
def test_the_gain_is_what_acting_on_ones_own_belief_would_have_met_after_the_spread(said: Claim, move: Move, ticks: float) -> None:
    assert gain_ticks(said, move) == ticks


def test_the_gain_is_a_proper_score_the_truth_earns_most() -> None:
    truth = claim(0.5, 0.15)
    moves = {Move(8, 2, 6.0): truth.p_up, Move(0, 2, 6.0): truth.p_flat, Move(-4, 2, 6.0): truth.p_down}
    honest = sum(p * gain_ticks(truth, move) for move, p in moves.items())

    for other in (claim(0.15, 0.5), claim(0.3, 0.3), claim(0.9, 0.05), claim(0.33, 0.1)):
        assert sum(p * gain_ticks(other, move) for move, p in moves.items()) <= honest + 1e-12


def test_a_block_is_closed_once_the_horizon_has_passed() -> None:
    tried = trial(block_rows=50)
    closed = [row for row in range(0, 300, 20) if tried.add("ES", row, champion=claim(0.5), challenger=claim(0.6), move=UP)]

    assert closed == [60, 120, 180, 240]
    assert tried.blocks == 4


def test_instruments_share_a_block() -> None:
    tried = trial(block_rows=50)
    for row in range(0, 60, 10):
        for name in ("A", "B"):
            tried.add(name, row, champion=claim(0.5), challenger=claim(0.6), move=UP)

    assert tried.blocks == 1


def test_a_better_challenger_is_promoted_and_the_evidence_says_so() -> None:
    outcome, tried = go(0.05)

    assert outcome is Outcome.BETTER
    assert RULES.min_blocks <= tried.blocks < 120
    facts = tried.facts()
    assert facts["e_better"] >= 20
    assert facts["scores"]["challenger"]["log_loss"] < facts["scores"]["champion"]["log_loss"]
    assert words(tried, outcome).startswith("better: e-value")


def test_a_worse_challenger_is_refused_and_never_promoted() -> None:
    outcomes = {go(-0.03, seed=seed)[0] for seed in range(10)}

    assert outcomes == {Outcome.WORSE}


def test_the_champion_itself_as_challenger_ends_without_a_difference() -> None:
    tried, rng = trial(), np.random.default_rng(7)
    for row in range(5_000):
        said = claim(float(rng.uniform(0.1, 0.8)))
        tried.add("ES", row, champion=said, challenger=said, move=(UP, DOWN, FLAT)[rng.integers(3)])

    assert (tried.outcome(RULES), tried.e_better(), tried.e_worse()) == (Outcome.NO_DIFFERENCE, 1.0, 1.0)


@pytest.mark.parametrize("rules", [Rules(min_blocks=150), Rules(min_windows=100_000, min_blocks=1)])
def test_nothing_is_decided_below_the_least_number_of_windows_and_blocks(rules: Rules) -> None:
    _, tried = go(0.3)
    assert tried.outcome(RULES) is Outcome.BETTER
    assert tried.outcome(rules) is Outcome.UNDECIDED


def test_a_challenger_that_wins_one_score_and_loses_the_other_is_not_promoted() -> None:
    rng, tried = np.random.default_rng(3), trial()
    for row in range(4_000):
        up = rng.random() < 0.5
        # Surer of what happens in every window, and yet it would be acted on where the move does not pay for the spread.
        move = Move(2 if up else -2, 4, 12.0)
        said = _claim_about(move, 0.5 + float(rng.normal(scale=0.01)))
        tried.add("ES", row, champion=said, challenger=_claim_about(move, 0.6), move=move)
        assert tried.outcome(RULES) is not Outcome.BETTER

    assert tried.calibration.better() > 20
    assert tried.cost.worse() > 4


def test_the_calibration_error_is_near_zero_for_honest_confidence_and_large_for_bragging() -> None:
    rng, honest, bragging = np.random.default_rng(8), Tally(), Tally()
    for _ in range(4_000):
        p = float(rng.uniform(0.5, 0.9))
        move = UP if rng.random() < p else DOWN
        honest.add(Claim(1 - p, 0.0, p), move)
        bragging.add(Claim(0.02, 0.0, 0.98), move)

    assert honest.calibration_error() < 0.03
    assert bragging.calibration_error() > 0.2
    assert Tally().facts()["ece_direction"] is None


def test_a_trial_that_was_written_down_is_gone_on_with() -> None:
    _, tried = go(0.01, blocks=30)

    assert msgspec.json.decode(msgspec.json.encode(tried), type=Trial) == tried
