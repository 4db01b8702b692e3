"""Export: books, trades or bars as a plain table in prices, CSV or Parquet; a CSV gets its mapping file, so it can come back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from framework.dataset.parts import sync_directory
from framework.errors import ConfigError, StorageError
from framework.messages import Bar, BookSnapshot, MarketEvent, TradeTick
from framework.model import Instrument
from framework.window import LEVELS

WHAT: Final[dict[str, type]] = {"books": BookSnapshot, "trades": TradeTick, "bars": Bar}
ROWS_AT_ONCE: Final = 20_000

_LEVEL_NAMES: Final = [f"{side}_{what}_{level}" for level in range(1, LEVELS + 1) for side in ("bid", "ask") for what in ("price", "size")]
COLUMNS: Final = {
    "books": ["instrument_id", "ts_event", "ts_recv", "sequence", *_LEVEL_NAMES],
    "trades": ["instrument_id", "ts_event", "ts_recv", "sequence", "price", "size", "aggressor"],
    "bars": ["instrument_id", "ts_event", "interval_s", "open", "high", "low", "close", "volume", "buy_volume", "sell_volume"],
}

_MAPPINGS: Final = {
    "books": 'book: {{bid_price: "bid_price_{{level}}", bid_size: "bid_size_{{level}}", ask_price: "ask_price_{{level}}", '
    'ask_size: "ask_size_{{level}}", levels: 10, first_level: 1}}',
    "trades": "trade: {{price: price, size: size, side: aggressor, buy: [BUY], sell: [SELL]}}",
    "bars": "bar: {{open: open, high: high, low: low, close: close, volume: volume, buy_volume: buy_volume, sell_volume: sell_volume, "
    "interval_s: {interval_s:g}, time_is: end}}",
}


def export_events(events: Iterable[MarketEvent], instruments: dict[str, Instrument], what: str, path: Path) -> int:
    """Write the `what` among `events` to `path` (.csv or .parquet) and return the number of rows. The file appears whole or not at all.

    Prices are in points and sizes in units of the instrument, exact. Raises `ConfigError` (another suffix, nothing to write) or
    `StorageError`.
    """
    writer = {".csv": _write_csv, ".parquet": _write_parquet}.get(path.suffix)
    if writer is None:
        raise ConfigError(f"--output: found {path.name}; allowed a name that ends in .csv or .parquet")
    rows = (_row(event, instruments[event.instrument_id]) for event in events if type(event) is WHAT[what])
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        count = writer(rows, what, temporary)
        if not count:
            raise ConfigError(f"no {what} in there to export; --what says which of {', '.join(WHAT)}")
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written: {exc.strerror or exc}; free space or choose another folder") from exc
    finally:
        temporary.unlink(missing_ok=True)
    return count


def mapping_of(instrument: Instrument, what: str, interval_s: float) -> str:
    """Return the mapping file with which an exported CSV comes back."""
    times = {"bars": "time: {columns: [ts_event], unit: ns}"}.get(
        what, "time: {columns: [ts_event], unit: ns}\nreceive_time: {columns: [ts_recv], unit: ns}"
    )
    facts = ("instrument_id", "tick_size", "lot_size", "multiplier", "currency", "session_gap_s")
    lines = [f"  {name}: {_plain(getattr(instrument, name))}" for name in facts]
    return "\n".join(["instrument:", *lines, times, _MAPPINGS[what].format(interval_s=interval_s)]) + "\n"


def _row(event: Any, instrument: Instrument) -> list[Any]:
    if type(event) is BookSnapshot:
        return [event.instrument_id, event.ts_event, event.ts_recv, event.sequence, *_levels(event, instrument)]
    if type(event) is TradeTick:
        price, size = instrument.price(event.price_ticks), instrument.lot_size * event.size
        return [event.instrument_id, event.ts_event, event.ts_recv, event.sequence, price, size, event.aggressor and event.aggressor.value]
    prices = [instrument.price(ticks) for ticks in (event.open_ticks, event.high_ticks, event.low_ticks, event.close_ticks)]
    volumes = [instrument.lot_size * lots for lots in (event.volume, event.buy_volume, event.sell_volume)]
    return [event.instrument_id, event.ts_event, event.interval_s, *prices, *volumes]


def _levels(book: BookSnapshot, instrument: Instrument) -> Iterator[Decimal | None]:
    sides = ((book.bid_ticks, book.bid_sizes), (book.ask_ticks, book.ask_sizes))
    for level in range(LEVELS):
        for ticks, sizes in sides:
            is_there = level < len(ticks)
            yield instrument.price(ticks[level]) if is_there else None
            yield instrument.lot_size * sizes[level] if is_there else None


def _write_csv(rows: Iterator[list[Any]], what: str, path: Path) -> int:
    count = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[what])
        for row in rows:
            writer.writerow([_plain(value) for value in row])
            count += 1
    return count


def _write_parquet(rows: Iterator[list[Any]], what: str, path: Path) -> int:
    names = COLUMNS[what]
    schema = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in names])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while block := list(islice(rows, ROWS_AT_ONCE)):
            columns = [pa.array(map(_number, column), field.type) for column, field in zip(zip(*block, strict=True), schema, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(block)
    return count


_TYPES: Final = {
    "instrument_id": pa.string(), "ts_event": pa.int64(), "ts_recv": pa.int64(), "sequence": pa.int64(), "aggressor": pa.string(),
}  # fmt: skip


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
