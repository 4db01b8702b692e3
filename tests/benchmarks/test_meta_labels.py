"""The measurement of meta-labels finds a signal that is there, none that is not, and never fits on what it judges."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.meta_labels import MODELS, Trades, measure, walk_forward


def drawn(count: int, strength: float, seed: int = 3) -> Trades:
    """Return trades whose first feature tells with this strength who wins; each is closed 5 s after it was decided, one a second."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 12))
    has_won = rng.random(count) < 1 / (1 + np.exp(-strength * features[:, 0]))
    decided_ns = np.arange(count) * 1_000_000_000
    pnl = np.where(has_won, 1.0, -1.0)
    return Trades(features=features, has_won=has_won, pnl=pnl, decided_ns=decided_ns, closed_ns=decided_ns + 5_000_000_000)


def test_a_planted_signal_is_found_and_pays_and_none_is_found_where_there_is_none() -> None:
    there, nothing = measure(drawn(1_000, 3.0)), measure(drawn(1_000, 0.0))

    for model in MODELS:
        found = there["models"][model]
        assert found["auc_interval"][0] > 0.7
        assert found["rules"]["better_half"]["gain_interval"][0] > 0.2
        low, high = nothing["models"][model]["auc_interval"]
        assert low < 0.5 < high


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_comes_later_changes_no_judgement(model: object) -> None:
    """Turn the outcome of the last block round: nothing that was said about any trade may change."""
    trades = drawn(600, 1.0)
    turned = trades.has_won.copy()
    turned[540:] = ~turned[540:]
    other = Trades(features=trades.features, has_won=turned, pnl=trades.pnl, decided_ns=trades.decided_ns, closed_ns=trades.closed_ns)

    one, two = walk_forward(trades, model), walk_forward(other, model)  # type: ignore[arg-type]
    assert np.array_equal(one["chances"], two["chances"])


def test_a_trade_that_is_still_open_is_not_learned_from() -> None:
    trades, seen = drawn(500, 1.0), []

    def model(features: np.ndarray, has_won: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(features))
        return np.full(len(features), 0.5), np.full(len(judged), 0.5)

    walk_forward(trades, model)

    # Blocks of 50 from number 100 on; a trade decided at second n was closed at n + 5.
    assert seen == [start - 5 for start in range(100, 500, 50)]
