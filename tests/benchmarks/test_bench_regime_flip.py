"""The flip benchmark's arithmetic, and a small market whose signal turns round; the whole thing is a command."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_actor.labels import label_rows
from tests.benchmarks.bench_regime_flip import BOOK_INTERVAL_MS, draw, market, skills, summary


def curve(seed: int, closed_loop: list[float], oracle: float = 0.4, frozen: float = -0.3) -> dict[str, Any]:
    chunks = len(closed_loop)
    return {
        "seed": seed,
        "closed_loop": closed_loop,
        "oracle": [oracle] * chunks,
        "frozen": [frozen] * chunks,
        "swaps_after_rows": [5_000],
    }


def test_recovery_is_the_loop_s_share_of_the_oracle_s_skill_at_the_end() -> None:
    found = summary([curve(1, [-0.3] * 4 + [0.4] * 6), curve(2, [-0.3] * 4 + [0.32] * 6)])

    assert found["recovery"] == pytest.approx(0.9)
    assert found["recovered_after_rows"] == 4_000
    assert found["is_reached"]


def test_a_loop_that_never_learns_has_not_recovered() -> None:
    found = summary([curve(1, [-0.3] * 10)])

    assert found["recovered_after_rows"] is None
    assert not found["is_reached"]


def test_the_plot_is_an_svg_of_three_lines() -> None:
    picture = draw([curve(1, [-0.3, 0.1, 0.4]), curve(2, [-0.2, 0.2, 0.3])])

    assert picture.startswith("<svg xmlns=")
    assert all(name in picture for name in ("closed loop", "frozen champion", "trained on the new regime"))


def test_the_market_s_signal_turns_round_where_it_is_told_to() -> None:
    rows = market(3, 3_000, flip_at_row=1_500)
    bid, ask = rows.bid_sizes[:, 0], rows.ask_sizes[:, 0]
    lean = (bid - ask) / (bid + ask)
    before, after = (skills(np.stack([0.5 - lean / 4, 0 * lean, 0.5 + lean / 4], axis=1), rows, start, 10)[0] for start in (100, 1_900))

    assert BOOK_INTERVAL_MS == 500.0
    assert label_rows(rows, horizon_rows=10, min_history=10).is_valid.sum() > 2_900
    assert before > 0.1
    assert after < -0.1
