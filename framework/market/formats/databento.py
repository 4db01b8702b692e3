"""Databento DBN files (optional extra `databento`): market by order, market by price, trades, bars, and definitions beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError
from framework.market.formats.databento_rows import OffTick, block_for, rows_of_all
from framework.market.formats.databento_streams import STREAMS, TradeStream, rows_of
from framework.market.formats.dbn_records import LAYOUTS, DbnFile, Records
from framework.market.formats.definitions import find_instrument
from framework.market.formats.rows import Rows
from framework.market.formats.units import OffUnit
from framework.messages import MarketEvent
from framework.model import Instrument

DEFINITION: Final = "definition"
PRICE_SCALE: Final = 1_000_000_000
SNAPSHOT: Final = 0x20
_UNDEFINED_TIME: Final = 2**64 - 1
_NO_DEFINITIONS: Final[Mapping[str, Instrument]] = {}


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What a definition record says of one instrument. `expires_ns` is None for what does not expire."""

    instrument: Instrument
    expires_ns: int | None = None


class DatabentoSource:
    """One DBN file, plain or compressed. Opening reads it once, from end to end, so that a damaged file is refused before anything starts.

    `book_interval_ns` conflates books of market by order: at most one per interval (0: one per event that changed the visible
    levels). `definitions` (by `SYMBOL.VENUE`) go before the contracts that are known. Raises `ConfigError` (extra not installed,
    schema or symbol not known) or `IntegrityError` (damaged).
    """

    def __init__(self, path: Path, *, book_interval_ns: int = 0, definitions: Mapping[str, Instrument] = _NO_DEFINITIONS) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.record = 0
        self._book_interval_ns = book_interval_ns
        self._file = DbnFile(path)
        self._schema = self._file.schema
        if self._schema not in LAYOUTS:
            raise ConfigError(f"{path}: schema {self._schema!r} is not replayed{_hint(self._schema)}, allowed are {', '.join(LAYOUTS)}")
        self.holds = "trades" if self._schema == "trades" else "bars" if self._schema.startswith("ohlcv") else "events"
        self._instruments_by_number = self._instruments(definitions)
        self.instruments: tuple[Instrument, ...] = tuple(dict.fromkeys(self._instruments_by_number.values()))
        self._scan()

    def where(self) -> str:
        """Return which record the last event came from."""
        return f"record {self.record}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield trades as they come and books at the ends of events, or bars, numbered from `first_sequence`."""
        streams = {number: STREAMS[self._schema](one, self._book_interval_ns) for number, one in self._instruments_by_number.items()}
        self.next_sequence = first_sequence
        first = 0
        for records in self._file.records(*LAYOUTS[self._schema]):
            yield from self._take(records, streams, first)
            first += len(records)
            self.read_share = self._file.share
        self.read_share = 1.0

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows, an instrument at a time in each block."""
        blocks = {number: block_for(self._schema, one, self._book_interval_ns) for number, one in self._instruments_by_number.items()}
        self.next_sequence = first_sequence
        first = 0
        for records in self._file.records(*LAYOUTS[self._schema]):
            try:
                found = rows_of_all(blocks, records, first, self.next_sequence)
            except OffTick as exc:
                raise self._off_tick(exc, exc.number) from exc
            yield from found
            first += len(records)
            self.next_sequence += sum(len(one) for one in found)
            self.read_share = self._file.share
        self.read_share = 1.0

    def _off_tick(self, exc: OffUnit, record: int) -> ConfigError:
        return ConfigError(f"{self.path}: record {record}: {exc}; name its definition file too")

    def _take(self, records: Records, streams: Mapping[int, TradeStream], first: int) -> Iterator[MarketEvent]:
        numbers = records["instrument_id"].tolist()
        try:
            for index, (number, row) in enumerate(zip(numbers, rows_of(self._schema, records), strict=True)):
                stream = streams.get(number)
                if stream is not None:
                    self.record = first + index
                    for event in stream.take(row, self.next_sequence):
                        self.next_sequence += 1
                        yield event
        except OffUnit as exc:
            raise self._off_tick(exc, self.record) from exc

    def _scan(self) -> None:
        rtype, layout = LAYOUTS[self._schema]
        first: int | None = None
        last = row = 0
        for records in self._file.records(rtype, layout):
            times = _times(records)
            live = times if "flags" not in (layout.names or ()) else times[records["flags"] & SNAPSHOT == 0]
            if not len(live):
                continue
            if bool((live[1:] < live[:-1]).any()) or live[0] < last:
                raise ConfigError(f"{self.path}: after record {row} records are not in order of ts_recv; sort the file")
            first, last = (int(live[0]) if first is None else first), int(live[-1])
            row += len(records)
        if first is None:
            raise ConfigError(f"{self.path}: holds no records of schema {self._schema} beyond its snapshot")
        shift_ns = STREAMS[self._schema].shift_ns
        self.start_ns, self.end_ns = first + shift_ns, last + shift_ns

    def _instruments(self, definitions: Mapping[str, Instrument]) -> dict[int, Instrument]:
        metadata = self._file.metadata
        venue = metadata.dataset.partition(".")[0] or "DBN"
        found: dict[int, Instrument] = {}
        for symbol, intervals in metadata.mappings.items():
            instrument = definitions.get(f"{symbol}.{venue}") or find_instrument(symbol, venue, self.path)
            found |= {int(one["symbol"]): instrument for one in intervals if one["symbol"].isdecimal()}
        if not found:
            raise ConfigError(f"{self.path}: maps no symbol to an instrument id; request it with `stype_out` instrument_id")
        return found


def read_definitions(path: Path) -> dict[str, Definition] | None:
    """Return the definitions in a DBN file by `SYMBOL.VENUE`, or None if it holds something else. Raises as `DatabentoSource`."""
    file = DbnFile(path)
    if file.schema != DEFINITION:
        return None
    venue = file.metadata.dataset.partition(".")[0] or "DBN"
    found = [_definition(record, venue, path) for record in file.definitions()]
    return {one.instrument.instrument_id: one for one in found}


def _definition(record: Any, venue: str, path: Path) -> Definition:
    tick, multiplier = record.min_price_increment, record.unit_of_measure_qty
    if not 0 < tick < 2**62:
        raise ConfigError(f"{path}: the definition of {record.raw_symbol[:40]} has no tick size; fetch it again")
    return Definition(
        instrument=Instrument(
            instrument_id=f"{record.raw_symbol}.{venue}",
            tick_size=_plain(tick),
            multiplier=_plain(multiplier) if 0 < multiplier < 2**62 else Decimal(1),
            currency=record.currency or "USD",
        ),
        expires_ns=None if record.expiration == _UNDEFINED_TIME else record.expiration,
    )


def _plain(scaled: int) -> Decimal:
    """Return 50 for 50000000000 and 0.25 for 250000000: no exponent, no zeros at the end."""
    return Decimal(f"{(Decimal(scaled) / PRICE_SCALE).normalize():f}")


def _times(records: Records) -> Any:
    """Return when each record was received, or happened where nobody noted that, ns UTC, as int64."""
    names = records.dtype.names or ()
    times = records["ts_event"] if "ts_recv" not in names else records["ts_recv"]
    unknown = times == _UNDEFINED_TIME
    if unknown.any():
        times = times.copy()
        times[unknown] = records["ts_event"][unknown]
    return times.astype("i8")


def _hint(schema: str) -> str:
    return " alone: name the market data too" if schema == DEFINITION else ""
