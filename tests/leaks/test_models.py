"""Models: what peeks is caught, what learns finds what is there, and a martingale gives nothing to anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework.errors import ConfigError
from framework.leak_job import LeakJob, Verdict
from ml_actor.leaks import causality, skill, trainers
from ml_actor.leaks.book import Book, generate
from ml_actor.leaks.columns import CannotCompute, shipped_features


@pytest.fixture(autouse=True)
def fewer_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causality, "CUTS", 9)


def test_a_shipped_model_finds_what_is_there_and_nothing_else(findings: Callable[..., Any]) -> None:
    found = findings(model="linear", rows=7_000)

    assert {one.verdict for one in found.values()} == {Verdict.OK}
    planted = found["model linear", "finds a planted signal"]
    assert 0.9 < planted.numbers["found_share"] < 1.1


def test_a_trainer_that_peeks_is_caught_by_every_check_that_can(findings: Callable[..., Any]) -> None:
    found = findings(model="tests.leaks.planted:peeking_trainer", rows=5_000)
    verdicts = {check: one.verdict for (_, check), one in found.items()}

    assert verdicts["truncate the future"] is Verdict.LEAK
    assert verdicts["permute the future"] is Verdict.LEAK
    assert verdicts["no skill on a martingale"] is Verdict.LEAK
    assert verdicts["move the dates"] is Verdict.OK
    assert verdicts["begin later"] is Verdict.OK


def test_a_classifier_that_scales_by_what_it_is_given_together_is_caught(findings: Callable[..., Any]) -> None:
    found = findings(model="tests.leaks.planted:Shrunk", rows=4_000)
    verdicts = {check: one.verdict for (_, check), one in found.items()}

    assert verdicts["truncate the future"] is Verdict.LEAK
    assert verdicts["no skill on a martingale"] is Verdict.OK


def test_a_classifier_of_scikit_learn_is_checked_as_it_is(findings: Callable[..., Any]) -> None:
    found = findings(model="tests.leaks.planted:plain_classifier", rows=4_000)

    assert {one.verdict for (_, check), one in found.items() if check != "finds a planted signal"} == {Verdict.OK}


@pytest.mark.parametrize("model", ["no_such_version", "v0001-00000000", "champion", "tests.leaks.planted:HONEST"])
def test_a_model_that_is_not_there_is_refused_in_one_line(findings: Callable[..., Any], model: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        findings(model=model, models_dir=str(tmp_path))

    assert "\n" not in str(refused.value)


def probabilities(of: Callable[[Book], Any]) -> skill.Fit:
    return lambda train, seed: of


def test_the_best_possible_model_finds_exactly_what_there_is() -> None:
    job = LeakJob(seeds=2, rows=6_000)

    found = skill.check_planted("best", probabilities(lambda test: test.best_probabilities(20)), job)

    assert found.verdict is Verdict.OK
    assert found.numbers["found_share"] == pytest.approx(1.0)


def test_a_model_that_knows_more_than_there_is_to_know_leaks() -> None:
    def knows(test: Book) -> Any:
        moves, is_valid = skill.scored(test, 20)
        hint = np.eye(3)[np.sign(moves) + 1]
        mixed = 0.7 * test.best_probabilities(20) + 0.3 * hint
        return np.where(is_valid[:, None], mixed, np.nan)

    job = LeakJob(seeds=2, rows=6_000)

    assert skill.check_planted("knows", probabilities(knows), job).verdict is Verdict.LEAK
    assert skill.check_no_gain("knows", probabilities(knows), job).verdict is Verdict.LEAK


def test_a_model_that_sees_half_of_the_signal_fails_without_leaking() -> None:
    def shy(test: Book) -> Any:
        best = test.best_probabilities(20)
        return 0.3 * best + 0.7 * best.mean(axis=0)

    found = skill.check_planted("shy", probabilities(shy), LeakJob(seeds=2, rows=6_000))

    assert found.verdict is Verdict.FAILED
    assert found.numbers["found_share"] < 0.9


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ((0.95, 0.91, 1.02), Verdict.OK),
        ((1.05, 0.99, 1.12), Verdict.OK),
        ((0.85, 0.77, 0.92), Verdict.SKIPPED),
        ((1.15, 1.05, 1.22), Verdict.SKIPPED),
        ((0.80, 0.75, 0.89), Verdict.FAILED),
        ((1.30, 1.20, 1.40), Verdict.LEAK),
    ],
)
def test_a_share_is_judged_by_its_interval(measured: tuple[float, float, float], verdict: Verdict) -> None:
    assert skill._judge_share(*measured)[0] is verdict


def test_noise_is_no_skill() -> None:
    def noise(test: Book) -> Any:
        return np.random.default_rng(len(test.sides)).dirichlet(np.full(3, 30.0), len(test.sides))

    found = skill.check_no_gain("noise", probabilities(noise), LeakJob(seeds=3, rows=6_000))

    assert found.verdict is Verdict.OK
    assert found.numbers["gain_nats"] < 0


@pytest.mark.parametrize("shape", [(6, 2), (5, 3)])
def test_probabilities_of_another_shape_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(CannotCompute, match="expected"):
        trainers._checked("mine", np.full(shape, 1 / shape[1]), 6)


@pytest.mark.parametrize("wrong", [np.full((6, 3), 0.5), np.full((6, 3), np.nan), np.tile([-0.5, 0.5, 1.0], (6, 1))])
def test_numbers_that_are_no_probabilities_are_refused(wrong: Any) -> None:
    with pytest.raises(CannotCompute, match="no probabilities"):
        trainers._checked("mine", wrong, 6)


def test_the_same_book_is_fitted_once() -> None:
    calls: list[int] = []

    def fit(train: Book, seed: int) -> skill.Predict:
        calls.append(seed)
        return lambda test: test.best_probabilities(20)

    once = trainers.remembered(fit)
    first, second = generate(500, seed=1, strength=0.5), generate(500, seed=1, strength=0.0)
    for train in (first, first, second, first):
        once(train, 3)

    assert len(calls) == 3


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed a function like fit_horizons"):
        trainers.fit_of("mine", 7, shipped_features(100), LeakJob())
