"""Events that come as rows lie in the catalogue as the same events one by one: the same bytes, gaps and refusals."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.errors import ConfigError
from framework.market.catalogue import writing
from framework.market.catalogue.importing import ImportOptions, import_files
from framework.market.catalogue.index import Catalogue
from framework.market.catalogue.reading import open_market
from framework.market.catalogue.row_checks import RowChecks, places_of
from framework.market.catalogue.row_merging import merged_in_time
from framework.market.catalogue.sessions import Sessions, year_end_of, year_of
from framework.market.catalogue.writing import EntryWriter, Place
from framework.market.feed import merge_in_time
from framework.market.formats import open_feed
from framework.market.formats.recording import events_in
from framework.market.formats.rows import Books, Halts, Levels, Rows, Trades, bar_rows, merged
from framework.model import NS_PER_S, Instrument

INSTRUMENT = Instrument(instrument_id="TEST.CME", tick_size=Decimal("0.25"), session_gap_s=10.0)
T0 = 1_700_000_000 * NS_PER_S


def rows_at(times_s: list[float], kinds: list[int], *, first: int = 0, ask: int = 101) -> Rows:
    """Return a book (0), a trade (1), a closing (2) or an opening (3) at each time."""
    times = np.array([T0 + round(time_s * NS_PER_S) for time_s in times_s], np.int64)
    numbers = np.arange(first, first + len(times))
    chosen = [np.flatnonzero(np.isin(kinds, wanted)) for wanted in ((0,), (1,), (2, 3))]
    books, trades, halts = ((numbers[at], times[at]) for at in chosen)
    ones = np.ones(len(trades[0]), np.int64)
    levels = [Levels(np.ones(len(books[0]), np.int64), np.full(len(books[0]), tick), np.full(len(books[0]), 3)) for tick in (100, ask)]
    return merged(
        INSTRUMENT.instrument_id,
        "line",
        Books(*books, books[1], *levels),
        Trades(*trades, trades[1], 100 * ones, ones, 0 * ones),
        Halts(*halts, [kinds[index] == 3 for index in chosen[2]], ["halt"] * len(halts[0])),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 9.0, 20.0]), st.integers(0, 3)), min_size=1, max_size=60), st.integers(1, 25))
def test_rows_are_written_as_their_events(steps: list[tuple[float, int]], size: int) -> None:
    times_s = np.cumsum([step for step, _ in steps]).tolist()
    rows = rows_at(times_s, [kind for _, kind in steps])

    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        patched.setattr(writing, "PART_EVENTS", 16)
        place = Place(INSTRUMENT.instrument_id, "events", "2023-11-14")
        by_event, by_rows = (EntryWriter(folder / name, INSTRUMENT, place) for name in ("events", "rows"))
        for event in events_in(rows.batch):
            by_event.append(event)
        for begin in range(0, len(rows), size):
            by_rows.append_rows(rows.part(begin, min(begin + size, len(rows))))

        assert by_rows.finish() == by_event.finish()
        files = [{one.name: one.read_bytes() for one in (folder / name).iterdir()} for name in ("events", "rows")]
        assert files[0] == files[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=30).map(sorted), st.booleans())
def test_each_event_gets_the_place_that_it_would_get_alone(times_s: list[int], are_bars: bool) -> None:
    sessions, alone = Sessions("CME"), Sessions("CME")
    times = np.array(times_s, np.int64) * NS_PER_S + 1_704_067_200 * NS_PER_S - 86_400 * NS_PER_S
    names = ("open", "high", "low", "close")
    ticks = {f"{name}_ticks": times for name in names} | dict.fromkeys(("ts_event", "volume", "buy_volume", "sell_volume"), times)
    numbers = np.arange(len(times))
    rows = bar_rows("TEST.CME", "line", numbers, 60.0, ticks) if are_bars else rows_at(((times - T0) / NS_PER_S).tolist(), [1] * len(times))

    found = [(place.session, number) for place, part in places_of(rows, sessions) for number in part.numbers.tolist()]

    one_by_one = [year_of(at) if are_bars else alone.session_of(at) for at in times.tolist()]
    assert found == list(zip(one_by_one, numbers.tolist(), strict=True))


def test_a_bar_that_ends_with_the_year_belongs_to_it() -> None:
    new_year_ns = 1_704_067_200 * NS_PER_S
    assert (year_of(new_year_ns), year_end_of(new_year_ns)) == ("2023", new_year_ns + 1)
    assert (year_of(new_year_ns + 1), year_end_of(new_year_ns + 1)) == ("2024", 1_735_689_600 * NS_PER_S + 1)


def checks(*, is_skipping: bool = False) -> RowChecks:
    return RowChecks({INSTRUMENT.instrument_id: INSTRUMENT}, is_skipping=is_skipping)


def test_the_first_row_that_goes_back_in_time_is_refused_also_across_blocks() -> None:
    checked = checks()
    checked.sound(Path("a.csv"), rows_at([0, 1], [0, 1]))
    with pytest.raises(ConfigError, match=r"a\.csv: line 7 is earlier than the event before it"):
        checked.sound(Path("a.csv"), rows_at([2, 0.5, 0.2], [1, 1, 1], first=6))
    with pytest.raises(ConfigError, match="line 9 is earlier"):
        checked.sound(Path("a.csv"), rows_at([0.5], [1], first=9))


def test_a_crossed_book_is_refused_with_its_row_and_prices_unless_it_is_left_out() -> None:
    rows = rows_at([0, 1, 2], [1, 0, 0], ask=100)
    with pytest.raises(ConfigError, match=r"line 1: the book is crossed or locked \(bid 25\.00, ask 25\.00\).*--on-crossed skip"):
        checks().sound(Path("a.csv"), rows)

    skipping = checks(is_skipping=True)
    assert skipping.sound(Path("a.csv"), rows).numbers.tolist() == [0]
    assert skipping.crossed == 2


def test_of_a_crossed_book_and_a_step_back_the_first_is_said() -> None:
    with pytest.raises(ConfigError, match="line 1 is earlier"):
        checks().sound(Path("a.csv"), rows_at([1, 0, 0], [1, 0, 0], ask=100))
    with pytest.raises(ConfigError, match="line 0: the book is crossed"):
        checks().sound(Path("a.csv"), rows_at([1, 0, 0], [0, 0, 0], ask=100))


TIMES = st.lists(st.integers(0, 8), max_size=25).map(sorted)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TIMES, st.integers(1, 9)), min_size=2, max_size=3))
def test_rows_of_several_files_are_merged_as_their_events(streams: list[tuple[list[int], int]]) -> None:
    whole = [rows_at([float(at) for at in times], [1] * len(times), first=100 * number) for number, (times, _) in enumerate(streams)]
    blocks = [
        iter([one.part(begin, min(begin + size, len(one))) for begin in range(0, len(one), size)])
        for one, (_, size) in zip(whole, streams, strict=True)
    ]

    found = [event for rows in merged_in_time(blocks) for event in events_in(rows.batch)]

    assert found == list(merge_in_time([list(events_in(one.batch)) for one in whole]))


def test_books_and_trades_of_two_files_are_one_entry(tmp_path: Path) -> None:
    head = "exchange,symbol,timestamp,local_timestamp,"
    at = 1_720_000_000_000_000
    books = [
        f"binance-futures,BTCUSDT,{at + n},{at + n},true,{'bid' if n % 2 else 'ask'},{60_000 + (n % 2 == 0)}.0,0.001" for n in range(9)
    ]
    trades = [f"binance-futures,BTCUSDT,{at + n},{at + n},{n},buy,60001.0,0.002" for n in range(0, 9, 2)]
    (tmp_path / "books.csv").write_text("\n".join([f"{head}is_snapshot,side,price,amount", *books]) + "\n")
    (tmp_path / "trades.csv").write_text("\n".join([f"{head}id,side,price,amount", *trades]) + "\n")
    paths = [tmp_path / name for name in ("books.csv", "trades.csv")]
    catalogue = Catalogue(tmp_path / "catalogue")

    (entry,) = import_files(catalogue, paths, ImportOptions()).imported

    assert list(open_market([entry.key], catalogue).read()) == list(open_feed(paths).read())
    assert (entry.books, entry.trades) == (9, 5)
