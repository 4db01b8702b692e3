"""A label that overlaps the window, or looks beyond its horizon, is caught; the shipped one is neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.leak_job import Verdict
from framework.window import Rows
from ml_actor.leaks import labelling
from ml_actor.leaks.book import generate


def test_the_label_of_the_models_sees_its_horizon_and_nothing_else(findings: Callable[..., Any]) -> None:
    found = findings(label="shipped")

    assert {one.verdict for one in found.values()} == {Verdict.OK}
    assert [check for _, check in found] == ["label and window", "label and horizon", "no feature tells it on a martingale"]


def test_a_label_that_overlaps_the_window_is_caught_with_its_reach(findings: Callable[..., Any]) -> None:
    found = findings(label="tests.leaks.planted:smoothed_label")
    by_check = {check: one for (_, check), one in found.items()}

    assert by_check["label and window"].verdict is Verdict.LEAK
    assert by_check["label and window"].numbers["rows"] == 19
    assert by_check["label and horizon"].verdict is Verdict.OK
    told = by_check["no feature tells it on a martingale"]
    assert told.verdict is Verdict.LEAK
    assert any(name.startswith(("return_", "ofi")) for name in told.names)


def test_a_threshold_from_all_of_the_data_looks_beyond_the_horizon() -> None:
    made = generate(3_000, seed=2, strength=0.5).recording

    def tercile_of_everything(rows: Rows, horizon_rows: int) -> Any:
        moves = labelling.shipped_label(horizon_rows).of(rows) + 1e-3 * rows.bid_sizes[:, 1]
        return np.where(np.abs(moves) > np.nanquantile(np.abs(moves), 1 / 3), np.sign(moves), 0.0)

    label = labelling.users_label("mine:label", tercile_of_everything, 20)
    window, horizon = labelling.check_reach(label, made, seed=1)

    assert window.verdict is Verdict.LEAK  # the past, too, moves the threshold
    assert horizon.verdict is Verdict.LEAK


def test_an_anchored_label_of_ones_own_passes() -> None:
    made = generate(3_000, seed=2, strength=0.5).recording

    def later(rows: Rows, horizon_rows: int) -> Any:
        mid = rows.bid_ticks[:, 0] + rows.ask_ticks[:, 0]
        return np.append(mid[horizon_rows:] - mid[:-horizon_rows], [np.nan] * horizon_rows)

    findings = labelling.check_reach(labelling.users_label("mine:later", later, 20), made, seed=1)

    assert [one.verdict for one in findings] == [Verdict.OK, Verdict.OK]
