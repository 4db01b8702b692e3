"""Recordings that nobody recorded: books with gaps and without sides, trades at and beyond them, breaks, halts and refused books."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import numpy as np

from framework.backtest.lean.columns import BOOK, PASSED, SAID, TRADE, MarketColumns
from framework.messages import BookInvalid, BookRecovered, Message, SessionChanged
from framework.model import NS_PER_MS, NS_PER_S, Instrument

START_NS = 1_750_000_000 * NS_PER_S
NAME = "WILD.SIM"


class Market:
    """A recording as it grows."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.now_ns, self.mid = START_NS, 1_000
        self.index: list[tuple[int, int, int]] = []
        self.facts: list[list[int]] = []
        self.levels: list[list[list[int]]] = []
        self.trades: list[list[int]] = []
        self.others: list[Message] = []

    def step(self) -> None:
        """Let something happen, now or a little later."""
        if self.chance.random() < 0.7:
            self.now_ns += self.chance.choice([NS_PER_MS // 2, NS_PER_MS, 3 * NS_PER_MS, 250 * NS_PER_MS, 2 * NS_PER_S])
        self.mid += self.chance.choice([-1, 0, 0, 0, 1])
        self.chance.choices([self.book, self.trade, self.word], [60, 35, 5])[0]()

    def book(self) -> None:
        spread = self.chance.choice([1, 1, 1, 2, 4])
        sides = [self.side(self.mid, -1), self.side(self.mid + spread, 1)]
        received_ns = self.now_ns - (6 * NS_PER_S if self.chance.random() < 0.03 else 0)
        self.index.append((self.now_ns, BOOK, len(self.facts)))
        self.facts.append([self.now_ns, received_ns, len(self.facts), len(sides[0][0]), len(sides[1][0])])
        self.levels.append([column + [0] * (10 - len(column)) for side in sides for column in side])

    def side(self, best: int, away: int) -> list[list[int]]:
        depth = self.chance.choice([0, 1, 3, 5, 10, 10, 10, 10])
        ticks = [best]
        for _ in range(depth - 1):
            ticks.append(ticks[-1] + away * self.chance.choice([1, 1, 1, 2]))
        return [ticks[:depth], [self.chance.randint(1, 12) for _ in range(depth)]]

    def trade(self) -> None:
        price, size = self.mid + self.chance.randint(-2, 3), self.chance.randint(1, 15)
        self.index.append((self.now_ns, TRADE, len(self.trades)))
        self.trades.append([self.now_ns, self.now_ns, len(self.trades), price, size, self.chance.choice([-1, 0, 1, 1, -1])])

    def word(self) -> None:
        where: dict[str, Any] = {"instrument_id": NAME, "ts_event": self.now_ns}
        kind, word = self.chance.choice(
            [
                (PASSED, SessionChanged(**where, is_open=True, reason="open")),
                (PASSED, SessionChanged(**where, is_open=True, reason="open")),
                (PASSED, SessionChanged(**where, is_open=False, reason="lunch")),
                (PASSED, SessionChanged(**where, is_open=False, reason="halt", is_halt=True)),
                (SAID, BookInvalid(**where, reason="crossed")),
                (SAID, BookRecovered(**where)),
                (SAID, BookRecovered(**where)),
            ]
        )
        self.index.append((self.now_ns, kind, len(self.others)))
        self.others.append(word)


def wild_columns(seed: int, events: int, *, limits: tuple[int, int] | None = None) -> MarketColumns:
    """Return a recording; `limits` are the price limits of its instrument."""
    market = Market(Random(seed))
    for _ in range(events):
        market.step()
    lower, upper = limits or (None, None)
    index = np.array(market.index, np.int64).reshape(-1, 3)
    times = index[:, 0].copy()
    return MarketColumns(
        instrument=Instrument(
            instrument_id=NAME,
            tick_size=Decimal("0.5"),
            multiplier=Decimal(10),
            lower_limit_ticks=lower,
            upper_limit_ticks=upper,
        ),
        times=times,
        kinds=index[:, 1].copy(),
        places=index[:, 2].copy(),
        starts=np.flatnonzero(np.diff(times, prepend=times[:1] - 1, append=times[-1:] + 1)),
        book_facts=np.array(market.facts, np.int64).reshape(-1, 5),
        levels=np.array(market.levels, np.int64).reshape(-1, 4, 10),
        trades=np.array(market.trades, np.int64).reshape(-1, 6),
        others=tuple(market.others),
    )
