"""Sierra Chart exports of trades with the depth of the market beside each: one row a trade, up to 40 levels a side, semicolons.

The depth is a state of its own, with a number (`DepthSequence`): each is shown once, before the first trade that came with it, its
levels counted in ticks from `AskDOMPrice` and `BidDOMPrice`. It lags the quote of the trade, which is not used. Times are UTC as far as
anybody can tell; the fraction of a second is a whole number of microseconds without leading zeros. The file does not say which contract
it is: the first part of its name does (`es_...` is ES.CME).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.columns import Array, Header, first_and_last, lot_of, numbers_in, read_columns, tick_of, to_units
from framework.market.formats.definitions import find_instrument
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.recording import numbered_events
from framework.market.formats.rows import BUYER, NOBODY, SELLER, Books, Levels, Rows, Trades, merged, numbered
from framework.messages import MarketEvent
from framework.model import Instrument
from framework.window import LEVELS

_HEAD: Final = b"Date;Time;Sequence;DepthSequence;"
_SYMBOL: Final = re.compile(r"([A-Za-z0-9]{1,8})_")
_SIDES: Final = ("Bid", "Ask")
_TYPES: Final = {
    "Date": pa.string(), "Time": pa.string(), "DepthSequence": pa.int64(), "Price": pa.float64(), "Volume": pa.float64(),
    "TradeType": pa.int64(), **{f"{side}DOMPrice": pa.float64() for side in _SIDES},
    **{f"{side}DOM_{level}": pa.float64() for side in _SIDES for level in range(LEVELS)},
}  # fmt: skip
_CROSSED: Final = "crossed depths left out"


def is_head(head: bytes) -> bool:
    """Return whether a file that begins so is one of these."""
    return head.startswith(_HEAD)


class SierraDomSource:
    """One file. Opening reads its times from end to end; raises `ConfigError` or `IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        self.notes: dict[str, int] = {}
        named = _SYMBOL.match(path.name)
        if named is None:
            raise ConfigError(f"{path}: its name does not say what was traded; begin it with the symbol, as es_20220124.csv does")
        found = find_instrument(named[1].upper(), "CME", path)
        self.instruments: tuple[Instrument, ...] = (found,)
        self._tick, self._lot = tick_of(found), lot_of(found)
        self._header = Header.of(head_of(path), ";")
        self._scan()

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield per row the depth, where it is a new one, then the trade, numbered from `first_sequence`."""
        for rows in self.rows(first_sequence):
            for self.line, event in numbered_events(rows):
                yield event

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows."""
        self.next_sequence = first_sequence
        depth = -1
        with PlainBytes(self.path) as content:
            for line, batch in read_columns(content, self.path, self._header, _TYPES):
                rows = self._rows(batch, line, depth)
                depth = batch.column("DepthSequence")[-1].as_py()
                yield rows
                self.next_sequence += len(rows)
                self.read_share = content.share
        self.read_share = 1.0

    def _scan(self) -> None:
        with PlainBytes(self.path) as content:
            blocks = read_columns(content, self.path, self._header, {name: _TYPES[name] for name in ("Date", "Time")})
            self.start_ns, self.end_ns = first_and_last(((line, self._times(batch, line)) for line, batch in blocks), self.path)

    def _times(self, batch: pa.RecordBatch, line: int) -> Array:
        parts = pc.extract_regex(batch.column("Time"), r"^(?P<second>\d\d:\d\d:\d\d)\.(?P<micros>\d{1,6})$")
        if parts.null_count:
            row = int(np.flatnonzero(~np.asarray(parts.is_valid()))[0])
            raise IntegrityError(f"{self.path}: line {line + row} has no time like 13:30:00.5001; fetch the file again")
        seconds = pc.binary_join_element_wise(batch.column("Date"), parts.field("second"), "T")
        try:
            utc = seconds.cast(pa.timestamp("ns")).cast(pa.int64())
        except pa.ArrowInvalid as exc:
            raise IntegrityError(f"{self.path}: after line {line}: a date does not read: {str(exc)[:100]}; fetch the file again") from exc
        times: Array = np.asarray(utc) + np.asarray(parts.field("micros").cast(pa.int64())) * 1_000
        return times

    def _rows(self, batch: pa.RecordBatch, line: int, before: int) -> Rows:
        times, lines = self._times(batch, line), line + np.arange(batch.num_rows)
        depths = batch.column("DepthSequence").to_numpy()
        fresh = np.flatnonzero(np.diff(depths, prepend=before) != 0)
        bids, asks = (self._side(batch, side, fresh, line) for side in _SIDES)
        prices = to_units(numbers_in(batch, ["Price"])[:, 0], self._tick, self.path, line)
        sizes = to_units(numbers_in(batch, ["Volume"])[:, 0], self._lot, self.path, line)
        kinds = batch.column("TradeType").to_numpy(zero_copy_only=False)
        began = np.where(kinds == 2, BUYER, np.where(kinds == 1, SELLER, NOBODY))
        # The depth is what the trade met, so it comes before it.
        books = Books(2 * lines[fresh], times[fresh], times[fresh], bids, asks)
        rows = merged(self.instruments[0].instrument_id, "line", books, Trades(2 * lines + 1, times, times, prices, sizes, began))
        crossed = rows.crossed()
        if crossed.size:
            self.notes[_CROSSED] = self.notes.get(_CROSSED, 0) + len(crossed)
            rows = rows.without(crossed)
        rows = numbered(rows, self.next_sequence + np.arange(len(rows)))
        return Rows(rows.instrument_id, rows.batch, rows.arrivals, rows.kinds, rows.numbers // 2, rows.word)

    def _side(self, batch: pa.RecordBatch, side: str, rows: Array, line: int) -> Levels:
        best = to_units(numbers_in(batch, [f"{side}DOMPrice"]), self._tick, self.path, line)[rows]
        sizes = np.nan_to_num(numbers_in(batch, [f"{side}DOM_{level}" for level in range(LEVELS)]))
        lots = to_units(sizes, self._lot, self.path, line)[rows]
        return Levels.of(best + np.arange(LEVELS) * (-1 if side == "Bid" else 1), lots, lots > 0)
