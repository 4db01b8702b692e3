"""Sweeps: every point once, also after a kill; a value that is refused is said before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from framework.backtest.engine import Plan
from framework.backtest.sweep import Grid, Runner, planned, read_axis, sweep
from framework.errors import ConfigError, IntegrityError

MakePlan = Callable[..., Plan]
GRID = Grid(parameters={"levels": (1, 5)}, fee_factors=(0.0, 1.0))


def silent(_stage: str, _share: float) -> None:
    """Say nothing."""


def test_every_combination_is_one_line_and_the_best_comes_first(plan: MakePlan, tmp_path: Path) -> None:
    tries: list[int] = []
    table = sweep(plan(), GRID, tmp_path / "out.parquet", Runner(on_try=lambda: tries.append(1)))

    assert len(table) == len(tries) == 4
    assert set(table.select("parameters.levels", "fee_factor").rows()) == {(1, 0.0), (1, 1.0), (5, 0.0), (5, 1.0)}
    assert table["sharpe"].to_list() == sorted(table["sharpe"].to_list(), reverse=True)
    assert pl.read_parquet(tmp_path / "out.parquet").equals(table)
    without = table.filter(pl.col("fee_factor") == 0)
    assert without["fees"].to_list() == [0.0, 0.0]
    assert without["net"].to_list() == without["gross"].to_list()


def test_a_sweep_that_was_killed_runs_only_what_is_missing(plan: MakePlan, tmp_path: Path) -> None:
    out, tries = tmp_path / "out.parquet", []
    whole = sweep(plan(), GRID, out, Runner())
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])  # killed in the middle of a write

    again = sweep(plan(), GRID, out, Runner(on_try=lambda: tries.append(1)))

    assert len(tries) == 2
    assert again.equals(whole)


def test_another_recording_or_setting_is_another_sweep(plan: MakePlan, tmp_path: Path) -> None:
    tries: list[int] = []
    small = Grid(parameters={"levels": (1,)})
    for seed in (7, 8, 8):
        sweep(replace(plan(), seed=seed), small, tmp_path / "out.parquet", Runner(on_try=lambda: tries.append(1)))

    assert len(tries) == 2


def test_a_lean_sweep_finds_what_a_whole_one_finds(plan: MakePlan, tmp_path: Path) -> None:
    whole = sweep(plan(), GRID, tmp_path / "a.parquet", Runner())
    lean = sweep(replace(plan(), is_lean=True), GRID, tmp_path / "b.parquet", Runner())

    assert lean.equals(whole)
    assert lean["fills"].sum() > 0


def test_a_lean_sweep_of_what_needs_more_is_refused_before_anything_runs(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks for predictions"):
        sweep(replace(plan("ml_futures"), is_lean=True), Grid(seeds=(1,)), tmp_path / "out.parquet", Runner())
    assert not list(tmp_path.glob("out*"))


def test_processes_find_what_one_process_finds(plan: MakePlan, tmp_path: Path) -> None:
    here = sweep(plan(), GRID, tmp_path / "a.parquet", Runner())
    there = sweep(plan(), GRID, tmp_path / "b.parquet", Runner(workers=2))

    assert here.equals(there)


@pytest.mark.parametrize("text", ["levels", "nothing=1", "=1", ""])
def test_a_parameter_that_is_none_is_refused_with_those_that_are(plan: MakePlan, text: str) -> None:
    with pytest.raises(ConfigError, match=r"--vary: found .*entry_threshold.*levels"):
        read_axis(text, plan().deployment)


def test_values_are_read_as_in_a_config(plan: MakePlan) -> None:
    deployment = plan().deployment

    assert read_axis("levels=1,3", deployment) == ("levels", (1, 3))
    assert read_axis("allow_short=true,false", deployment) == ("allow_short", (True, False))
    assert read_axis("entry=market,passive", deployment) == ("entry", ("market", "passive"))


def test_a_value_that_the_strategy_refuses_is_said_before_anything_runs(plan: MakePlan, tmp_path: Path) -> None:
    tries: list[int] = []
    grid = Grid(parameters={"levels": (1, 99)})

    with pytest.raises(ConfigError, match="levels"):
        sweep(plan(), grid, tmp_path / "out.parquet", Runner(on_try=lambda: tries.append(1)))
    assert tries == []
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("grid", [Grid(), Grid(seeds=tuple(range(20_000)))])
def test_nothing_to_vary_and_too_much_are_refused(grid: Grid) -> None:
    with pytest.raises(ConfigError, match="at most 10,000 points"):
        grid.points()


def test_a_point_changes_only_what_it_names(plan: MakePlan) -> None:
    made = plan()
    point = planned(made, {"parameters.levels": 2, "seed": 3, "latency": "40", "fee_factor": 2.0})

    assert (point.deployment.parameters.levels, point.seed) == (2, 3)  # type: ignore[attr-defined]
    assert point.latency is not None
    assert point.latency.name == "40"
    assert point.settings.paper.taker_fee == made.settings.paper.taker_fee * 2
    assert point.settings.risk == made.settings.risk


def test_a_file_that_holds_something_else_is_refused(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("a diary\n")

    with pytest.raises(IntegrityError, match=r"out\.jsonl:1"):
        sweep(plan(), GRID, tmp_path / "out.parquet", Runner())
