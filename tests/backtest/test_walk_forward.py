"""Walk-forward: what was chosen is judged on what it has not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.backtest.engine import Plan
from framework.backtest.sweep import Done, Grid, Runner, sweep
from framework.backtest.walk_forward import NET, SHARPE, choose, walk_forward
from framework.cli.sweep import _check, _say_steps
from framework.errors import ConfigError
from tests.flows.harness import record_market

MakePlan = Callable[..., Plan]
GRID = Grid(parameters={"levels": (1, 5)})
DAY_NS = 86_400_000_000_000
DAYS = ["day1", "day2", "day3"]


def done(point: int, net: float, *, sharpe: float = 0.0, error: str = "") -> Done:
    return Done(point={"parameters.levels": point}, digest=f"{point}", figures={"net": net}, sharpe=sharpe, error=error)


def test_each_day_is_traded_with_what_the_days_before_it_chose() -> None:
    found = [
        [done(1, 10.0), done(2, 5.0)],
        [done(1, -8.0), done(2, 4.0)],
        [done(1, 100.0), done(2, -1.0)],
    ]

    second, third = choose(DAYS, found)

    assert (second.recording, second.chosen, second.before, second.found.figures["net"]) == ("day2", {"parameters.levels": 1}, 10.0, -8.0)
    assert (third.recording, third.chosen, third.before, third.found.figures["net"]) == ("day3", {"parameters.levels": 2}, 9.0, -1.0)
    assert (second.hindsight, third.hindsight) == (4.0, 100.0)


def test_another_goal_chooses_otherwise() -> None:
    found = [[done(1, 10.0, sharpe=0.1), done(2, 5.0, sharpe=2.0)], [done(1, 1.0), done(2, 2.0)]]

    assert [choose(DAYS[:2], found, goal=goal)[0].chosen["parameters.levels"] for goal in (NET, SHARPE)] == [1, 2]


def test_a_point_that_failed_so_far_is_no_candidate_and_a_day_without_one_is_left_out() -> None:
    found = [[done(1, 0.0, error="no such row"), done(2, -5.0)], [done(1, 1.0), done(2, 2.0, error="broken")], [done(1, 1.0), done(2, 1.0)]]

    (step,) = choose(DAYS, found)

    assert (step.chosen["parameters.levels"], step.candidates, step.found.error) == (2, 1, "broken")


@given(st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=3, max_size=5), st.integers(-100, 100))
def test_no_choice_knows_its_own_day_or_a_later_one(nets: list[list[int]], other: int) -> None:
    days = [f"day{number}" for number in range(len(nets))]
    found = [[done(point, float(net)) for point, net in enumerate(day)] for day in nets]
    chosen = [step.chosen for step in choose(days, found)]

    changed = [*found[:-1], [done(point, float(other * point)) for point in range(3)]]

    assert [step.chosen for step in choose(days, changed)] == chosen


def test_a_walk_over_two_days_agrees_with_the_sweeps_of_each_day(plan: MakePlan, recording: Path, tmp_path: Path) -> None:
    later = record_market(tmp_path / "later", duration_s=60.0, start_ns=DAY_NS * 20_000)
    both = replace(plan(), data=(recording, later))
    tries: list[int] = []
    runner = Runner(on_try=lambda: tries.append(1))

    (step,) = walk_forward(both, GRID, tmp_path / "walk.parquet", runner)
    again = walk_forward(both, GRID, tmp_path / "walk.parquet", runner)

    assert again == [step]
    assert len(tries) == 4  # two points on two days, once
    first = sweep(plan(), GRID, tmp_path / "first.parquet", Runner()).sort("net", descending=True)
    second = sweep(replace(plan(), data=(later,)), GRID, tmp_path / "second.parquet", Runner())
    assert step.chosen["parameters.levels"] == first["parameters.levels"][0]
    assert step.found.figures["net"] == second.filter(pl.col("parameters.levels") == step.chosen["parameters.levels"])["net"][0]
    assert pl.read_parquet(tmp_path / "walk.parquet")["chosen.parameters.levels"].to_list() == [step.chosen["parameters.levels"]]


def test_one_recording_or_days_out_of_order_are_refused(plan: MakePlan, recording: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two recordings, --data names 1"):
        walk_forward(plan(), GRID, tmp_path / "walk.parquet", Runner())
    with pytest.raises(ConfigError, match=r"does not begin after .*; allowed recordings in the order of their days"):
        walk_forward(replace(plan(), data=(recording, recording)), GRID, tmp_path / "walk.parquet", Runner())


def test_the_verb_shows_each_day_and_the_total_beside_hindsight(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = [[done(1, 10.0), done(2, 5.0)], [done(1, -8.0), done(2, 4.0)]]

    _say_steps(choose(DAYS[:2], found), tmp_path / "walk.parquet", NET, is_json=False)
    for_people = capsys.readouterr().out
    _say_steps(choose(DAYS[:2], found), tmp_path / "walk.parquet", NET, is_json=True)
    for_scripts = json.loads(capsys.readouterr().out)

    assert "levels=1" in for_people
    assert "net over all of them -8; with hindsight 4" in for_people
    assert (for_scripts["total"], for_scripts["hindsight"], for_scripts["steps"][0]["recording"]) == (-8.0, 4.0, "day2")


@pytest.mark.parametrize(
    ("options", "words"),
    [(("x", NET, "a.parquet"), "--backend: found x; allowed loky"), (("loky", "gain", "a.parquet"), "--goal: found gain")],
)
def test_a_word_that_is_none_is_refused(options: tuple[str, str, str], words: str) -> None:
    backend, goal, out = options
    with pytest.raises(ConfigError, match=words):
        _check(backend, goal, Path(out))
