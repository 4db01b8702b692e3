"""The generated book has the skill that is claimed for it, no more and no less."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.leaks import book
from ml_actor.leaks.book import Signal, generate
from ml_actor.leaks.skill import scored


def test_the_same_seed_gives_the_same_book_and_another_seed_another() -> None:
    first, again, other = (generate(500, seed=seed, strength=0.5).recording.rows for seed in (1, 1, 2))

    fields = [field.name for field in dataclasses.fields(Rows)]
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in fields)
    assert not np.array_equal(first.bid_sizes, other.bid_sizes)


def test_every_book_is_sound() -> None:
    rows = generate(2_000, seed=3, strength=0.8).recording.rows

    assert (rows.bid_ticks[:, 0] < rows.ask_ticks[:, 0]).all()
    assert (rows.bid_sizes > 0).all()
    assert (rows.ask_sizes > 0).all()
    assert (np.diff(rows.ts_event) > 0).all()
    assert np.array_equal(np.unique(rows.segment), np.arange(book.SEGMENTS))
    assert (rows.flow[np.flatnonzero(np.diff(rows.segment)) + 1] == 0).all()


@pytest.mark.parametrize("strength", [0.0, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("horizon", [1, 7, 20])
def test_the_best_probabilities_are_what_happens(strength: float, horizon: int) -> None:
    made = generate(60_000, seed=5, strength=strength)
    moves, is_valid = scored(made, horizon)
    classes = np.sign(moves) + 1

    for number, side in enumerate((-1, 1)):
        chosen = is_valid & (made.sides == side)
        shares = np.bincount(classes[chosen], minlength=3) / chosen.sum()
        # Labels overlap: as many independent ones as there are horizons.
        error = 4.5 * np.sqrt(0.25 * horizon * 2 / chosen.sum()) + 1e-12
        assert np.abs(shares - made.signal.chances(horizon)[number]).max() < error


def test_chances_add_up_and_are_fair_without_a_signal() -> None:
    for strength in (0.0, 0.3, 1.0):
        chances = Signal(strength=strength).chances(15)
        assert np.allclose(chances.sum(axis=1), 1.0)
        assert np.allclose(chances[0], chances[1][::-1])
    fair = Signal(strength=0.0)
    assert np.allclose(fair.chances(15)[:, 0], fair.chances(15)[:, 2])
    assert fair.gain(15) == pytest.approx(0.0, abs=1e-12)


def test_a_stronger_signal_has_more_to_gain() -> None:
    gains = [Signal(strength=strength).gain(20) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]

    assert gains == sorted(gains)
    assert gains[-1] > 0.2


def test_order_flow_is_counted_as_the_dom_buffer_counts_it() -> None:
    rows = generate(400, seed=9, strength=0.5).recording.rows
    bid_ticks, ask_ticks = rows.bid_ticks[:, 0].astype(int), rows.ask_ticks[:, 0].astype(int)
    bid, ask = rows.bid_sizes[:, 0], rows.ask_sizes[:, 0]
    for row in range(1, 90):
        gain = (bid[row] if bid_ticks[row] >= bid_ticks[row - 1] else 0) - (bid[row - 1] if bid_ticks[row] <= bid_ticks[row - 1] else 0)
        loss = (ask[row] if ask_ticks[row] <= ask_ticks[row - 1] else 0) - (ask[row - 1] if ask_ticks[row] >= ask_ticks[row - 1] else 0)
        assert rows.flow[row, 7] == gain - loss
