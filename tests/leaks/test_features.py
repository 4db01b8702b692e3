"""Planted leaks are caught by name, honest features are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework.errors import ConfigError
from framework.leak_job import Verdict
from framework.window import Rows
from ml_actor.leaks import causality
from ml_actor.leaks.book import generate
from ml_actor.leaks.columns import CannotCompute, as_table, users_features

Leaks = Callable[..., dict[str, tuple[str, ...]]]
HERE = "tests.leaks.planted"


@pytest.mark.parametrize(
    ("function", "check", "name"),
    [
        ("next_row", "truncate the future", "next_return"),
        ("next_row", "permute the future", "next_return"),
        ("next_row", "no skill on a martingale", "next_return"),
        ("scaled_on_all_data", "truncate the future", "scaled_size"),
        ("scaled_on_all_data", "permute the future", "scaled_size"),
        ("smoothed_regime", "truncate the future", "viterbi_regime"),
        ("target_by_time", "move the dates", "target_of_this_time"),
        ("row_number", "begin later", "row_number"),
    ],
)
def test_a_planted_leak_is_caught_by_name_and_nothing_else_is(leaks: Leaks, function: str, check: str, name: str) -> None:
    found = leaks(features=f"{HERE}:{function}")

    assert found[check] == (name,)
    assert {names for names in found.values() if names} == {(name,)}


def test_the_features_of_the_engine_do_not_know_the_future(findings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causality, "CUTS", 9)
    found = findings(features="shipped", rows=12_000)

    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert len(found) == 7


def honest(rows: Rows) -> dict[str, Any]:
    """A running mean that forgets, and a lagged return: causal, also where nothing is known yet."""
    mid = (rows.bid_ticks[:, 0].astype(float) + rows.ask_ticks[:, 0]) / 2
    gap = (rows.bid_sizes[:, 0] - rows.ask_sizes[:, 0]).astype(float)
    smooth = np.empty(len(rows))
    level = 0.0
    for row, one in enumerate(gap):
        level += 0.05 * (one - level)
        smooth[row] = level
    lagged = np.append([np.nan] * 5, mid[5:] - mid[:-5])
    return {"smooth": smooth, "lagged": lagged}


def test_memory_and_missing_values_are_no_leak(leaks: Leaks) -> None:
    assert leaks(features=f"{__name__ if '.' in __name__ else 'tests.leaks.test_features'}:honest") == {}


@pytest.mark.parametrize(("fades", "is_leak"), [(300.0, False), (2_000.0, False), (None, True)])
def test_memory_that_fades_is_told_from_a_number_that_stays(fades: float | None, is_leak: bool) -> None:
    made = generate(8_000, seed=1, strength=0.5).recording

    def remembering(rows: Rows) -> Any:
        sizes = rows.bid_sizes[:, 1].astype(float)
        if fades is None:
            return np.cumsum(sizes)
        kept, level, out = 0.5 ** (1 / fades), 10.0, np.empty(len(rows))
        for row, one in enumerate(sizes):
            level = kept * level + (1 - kept) * one
            out[row] = level
        return out

    subject = users_features("mine:remembering", remembering)
    full = subject.compute(made)

    assert causality.check_dates(subject, made, full).verdict is Verdict.OK
    assert causality.check_beginning(subject, made, full).verdict is (Verdict.LEAK if is_leak else Verdict.OK)


def test_a_function_that_cannot_live_without_the_future_is_a_leak() -> None:
    made = generate(1_000, seed=1, strength=0.5).recording

    def greedy(rows: Rows) -> Any:
        if len(rows) < 1_000:
            raise KeyError("tomorrow")
        return rows.bid_sizes[:, 0]

    subject = users_features("mine:greedy", greedy)
    found = causality.check_future(subject, made, subject.compute(made), seed=1)

    assert found[0].verdict is Verdict.LEAK
    assert "KeyError: 'tomorrow'" in found[0].detail


def test_cuts_lie_where_something_happens() -> None:
    rows = generate(3_000, seed=4, strength=0.8).recording.rows

    cuts = causality.cuts_of(rows, np.random.default_rng(1))

    moves_next = rows.bid_ticks[cuts + 1, 0] != rows.bid_ticks[cuts, 0]
    assert moves_next.sum() >= causality.CUTS // 3
    assert len(cuts) > 2 * causality.CUTS // 3


def test_a_flat_book_is_cut_all_the_same() -> None:
    made = generate(3_000, seed=4, strength=0.0).recording.rows
    still = Rows(**{name: getattr(made, name) * 0 + getattr(made, name)[:1] for name in Rows.__slots__})

    assert len(causality.cuts_of(still, np.random.default_rng(1))) >= causality.CUTS // 3 - 1


@pytest.mark.parametrize(
    ("made", "names", "shape"),
    [
        ({"a": [1, 2], "b": [3.0, np.nan]}, ("a", "b"), (2, 2)),
        (np.array([1.0, 2.0]), ("column 0",), (2, 1)),
        (np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), ("column 0", "column 1", "column 2"), (2, 3)),
    ],
)
def test_columns_may_come_as_mappings_or_arrays(made: Any, names: tuple[str, ...], shape: tuple[int, int]) -> None:
    table = as_table(made, 2, "mine")

    assert table.names == names
    assert table.values.shape == shape


@pytest.mark.parametrize("made", [{}, {"a": [1, 2, 3]}, {"a": ["x", "y"]}, None, 7, np.zeros((3, 2))])
def test_what_is_no_column_is_refused(made: Any) -> None:
    with pytest.raises(CannotCompute):
        as_table(made, 2, "mine")


def test_a_data_frame_keeps_its_names() -> None:
    import polars as pl

    assert as_table(pl.DataFrame({"x": [1, 2], "y": [0.5, 1.5]}), 2, "mine").names == ("x", "y")


@pytest.mark.parametrize(
    "target",
    ["no_such_module:f", "tests.leaks.planted:no_such_name", "tests.leaks.planted:HONEST", "tests.leaks.planted:next_row_of_nothing"],
)
def test_a_name_that_nothing_has_is_refused_in_one_line(findings: Callable[..., Any], target: str) -> None:
    with pytest.raises(ConfigError) as refused:
        findings(features=target)

    assert target in str(refused.value)
    assert "\n" not in str(refused.value)


def test_code_that_raises_on_unchanged_rows_is_refused(findings: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="raises ZeroDivisionError"):
        findings(features="tests.leaks.planted:broken")
