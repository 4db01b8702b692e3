"""Sierra Chart trades with depth: each depth once, before the trade that met it; times and levels as the export means them."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.errors import ConfigError, IntegrityError
from framework.market.formats import open_feed, open_source
from framework.messages import BookSnapshot, TradeTick
from framework.model import NS_PER_S, Side

LEVELS = ";".join(f"AskDOM_{level};BidDOM_{level}" for level in range(40))
HEAD = (
    "Date;Time;Sequence;DepthSequence;Price;Volume;TradeType;AskPrice;BidPrice;AskSize;BidSize;TotalAskDepth;TotalBidDepth;"
    f"AskDOMPrice;BidDOMPrice;{LEVELS}\n"
)
AT_NS = 1_643_031_000 * NS_PER_S  # 2022-01-24 13:30:00 UTC


def row(
    time: str = "13:30:00.5001", depth: int = 7, price: float = 4347.75, kind: int = 2, ask: float = 4347.75, bid: float = 4347.5
) -> str:
    sizes = ";".join("0;0" if level == 1 else f"{10 + level};{20 + level}" for level in range(40))
    return f"2022-01-24;{time};1;{depth};{price};3;{kind};1;1;1;1;1;1;{ask};{bid};{sizes}\n"


def written(folder: Path, *rows: str, name: str = "es_dom.csv") -> Path:
    path = folder / name
    path.write_text(HEAD + "".join(rows))
    return path


def test_a_depth_is_shown_once_before_the_trade_that_met_it(tmp_path: Path) -> None:
    path = written(tmp_path, row(), row("13:30:00.5002", kind=1, price=4347.5), row("13:30:00.5003", depth=9, kind=0))

    events = list(open_source(path).events(1))

    assert [type(event) for event in events] == [BookSnapshot, TradeTick, TradeTick, BookSnapshot, TradeTick]
    book, trade = events[0], events[1]
    assert isinstance(book, BookSnapshot)
    assert isinstance(trade, TradeTick)
    assert book.ask_ticks[:3] == (17391, 17393, 17394)
    assert book.bid_sizes[:2] == (20, 22)
    assert (trade.ts_event, trade.price_ticks, trade.size) == (AT_NS + 5_001_000, 17391, 3)
    assert [event.aggressor for event in events if isinstance(event, TradeTick)] == [Side.BUY, Side.SELL, None]


def test_a_crossed_depth_is_left_out_and_counted(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, row(ask=4347.5), row(depth=8)))
    assert sum(isinstance(event, BookSnapshot) for event in source.events(1)) == 1
    assert source.notes == {"crossed depths left out": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ((row(), row("13:29:59.1")), ConfigError, "line 3 is earlier than the line above it"),
        ((row("13:30"),), IntegrityError, "line 2 has no time like"),
        ((row(price=4347.8),), ConfigError, "line 2 has the price 4347.8, not a multiple of 0.25"),
        ((), ConfigError, "holds no rows"),
    ],
)
def test_bad_rows_are_refused_by_line(tmp_path: Path, rows: tuple[str, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(open_source(written(tmp_path, *rows)).events(1))


def test_a_name_without_a_symbol_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="begin it with the symbol"):
        open_source(written(tmp_path, row(), name="dom.csv"))


@pytest.mark.recordings
def test_a_recorded_minute_is_trades_and_depths(recordings: Path) -> None:
    events = list(open_feed([recordings / "cme_es_sierra_dom" / "es_tbt_dom40_20220124.csv.zst"]).read())
    trades = [event for event in events if isinstance(event, TradeTick)]
    assert len(trades) == 2_026
    assert all(event.bid_ticks[0] < event.ask_ticks[0] for event in events if isinstance(event, BookSnapshot))
