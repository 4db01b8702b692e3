"""CSV layouts that are known by their header: exported bars, Tardis trades and snapshots, Binance archives. Each is a mapping."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.columns import Header
from framework.market.formats.definitions import InstrumentFacts, find_instrument
from framework.market.formats.mapping import BarColumns, BookColumns, TableMapping, TimeColumn, TradeColumns
from framework.market.formats.table import TableSource
from framework.model import Instrument

SIERRA_BARS: Final = ("Date", "Time", "Open", "High", "Low", "Last", "Volume", "NumberOfTrades", "BidVolume", "AskVolume")
VOLUMETRIC_BARS: Final = ("timestamp", "instrument", "period", "open", "high", "low", "close", "volume", "vol_ask", "vol_bid")
UTC_BARS: Final = ("timestamp_utc", "open", "high", "low", "close", "volume")
TARDIS: Final = ("exchange", "symbol", "timestamp", "local_timestamp")
BINANCE_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "aggTrades": ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker"),
    "trades": ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
    "bookTicker": (
        "update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty", "transaction_time", "event_time",
    ),
    "klines": (
        "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count", "taker_buy_volume",
        "taker_buy_quote_volume", "ignore",
    ),
}  # fmt: skip
"""Columns of the archives, by kind; older ones have no header line."""

TARDIS_VENUES: Final = {"binance-futures": "BINANCEUM", "binance-delivery": "BINANCECM"}
CHICAGO: Final = "America/Chicago"
NEW_YORK: Final = "America/New_York"

_BAR_NAME: Final = re.compile(r"(?P<symbol>[A-Za-z0-9]+)_(?P<count>\d{1,4})(?P<unit>s|m|min|h)(?:[_.]|$)")
_ARCHIVE_NAME: Final = re.compile(
    r"(?P<symbol>[A-Z0-9_]+)-(?:(?P<kind>aggTrades|trades|bookTicker)|(?P<count>\d+)(?P<unit>[smhd]))-\d{4}-\d\d"
)
_UNIT_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_MAKER: Final = {"buy": ["false", "False"], "sell": ["true", "True"]}

Opener = Callable[[Path, Header, bytes], TableSource]


def find_layout(path: Path, head: bytes) -> Opener | None:
    """Return who opens a CSV that begins with `head`, or None for a layout that is not known."""
    if _ARCHIVE_NAME.match(path.name):
        return _binance_archive
    header = Header.of(head)
    known = set(header.names)
    return next((opener for names, opener in _LAYOUTS if set(names) <= known), None)


def _depth_by_distance(path: Path, _: Header, __: bytes) -> TableSource:
    raise ConfigError(
        f"{path}: holds the depth summed up by distance from the price (Binance bookDepth): no book can be made of it; "
        "take the archive bookTicker for best quotes, or record the depth stream"
    )


def _sierra_bars(path: Path, _: Header, __: bytes) -> TableSource:
    symbol, interval_s = _symbol_and_interval(path)
    bar = BarColumns(
        open="Open",
        high="High",
        low="Low",
        close="Last",
        volume="Volume",
        buy_volume="AskVolume",
        sell_volume="BidVolume",
        interval_s=interval_s,
    )
    time = TimeColumn(columns=["Date", "Time"], format="%Y/%m/%d %H:%M:%S", timezone=CHICAGO)
    return _source(path, find_instrument(symbol, "CME", path), time, bar=bar)


def _volumetric_bars(path: Path, header: Header, head: bytes) -> TableSource:
    first = _first_row(path, header, head)
    period = re.fullmatch(r"Volumetric_(\d+)", first["period"])
    if period is None:
        raise ConfigError(f"{path}: bars of period {first['period'][:40]!r}, known is Volumetric_MINUTES; {_MAPPING}")
    bar = BarColumns(
        open="open", high="high", low="low", close="close", volume="volume", buy_volume="vol_ask", sell_volume="vol_bid",
        interval_s=60.0 * int(period.group(1)), time_is="end",
    )  # fmt: skip
    return _source(path, find_instrument(first["instrument"], "CME", path), TimeColumn(columns=["timestamp"], timezone=NEW_YORK), bar=bar)


def _utc_bars(path: Path, _: Header, __: bytes) -> TableSource:
    symbol, interval_s = _symbol_and_interval(path)
    bar = BarColumns(open="open", high="high", low="low", close="close", volume="volume", interval_s=interval_s)
    return _source(path, find_instrument(symbol, "CME", path), TimeColumn(columns=["timestamp_utc"]), bar=bar)


def _tardis_trades(path: Path, header: Header, head: bytes) -> TableSource:
    trade = TradeColumns(price="price", size="amount", side="side")
    return _tardis_source(path, header, head, trade=trade)


def _tardis_snapshots(path: Path, header: Header, head: bytes) -> TableSource:
    levels = sum(name.startswith("asks[") and name.endswith("].price") for name in header.names)
    book = BookColumns(
        bid_price="bids[{level}].price", bid_size="bids[{level}].amount", ask_price="asks[{level}].price", ask_size="asks[{level}].amount",
        levels=levels, crossed="skip",
    )  # fmt: skip
    return _tardis_source(path, header, head, book=book)


def tardis_instrument(path: Path, header: Header, head: bytes) -> Instrument:
    """Return what a Tardis file is about, as its first row says. Raises `ConfigError`."""
    first = _first_row(path, header, head)
    plain = re.sub(r"[^A-Za-z0-9]", "", first["exchange"]).upper()[:16]
    return find_instrument(first["symbol"].upper(), TARDIS_VENUES.get(first["exchange"], plain), path)


def _tardis_source(path: Path, header: Header, head: bytes, **rows: BookColumns | TradeColumns) -> TableSource:
    times = [TimeColumn(columns=[name], unit="us") for name in ("timestamp", "local_timestamp")]
    return _source(path, tardis_instrument(path, header, head), times[0], receive_time=times[1], **rows)


def _binance_archive(path: Path, header: Header, head: bytes) -> TableSource:
    name = _ARCHIVE_NAME.match(path.name)
    assert name is not None  # `find_layout` chose us by it
    columns = BINANCE_KINDS[name["kind"] or "klines"]
    if not head[:1].isalpha():
        header = Header(columns, 0, ",")
    symbol = name["symbol"]
    instrument = find_instrument(symbol, "BINANCECM" if "_" in symbol else "BINANCEUM", path)
    time_name = {"aggTrades": "transact_time", "trades": "time", "bookTicker": "transaction_time", None: "open_time"}[name["kind"]]
    return TableSource(
        path, _archive_mapping(name, instrument, time_name, _first_row(path, header, head)), instrument=instrument, header=header
    )


def _archive_mapping(name: re.Match[str], instrument: Instrument, time_name: str, first: dict[str, str]) -> TableMapping:
    # Since 2025 the archives of the spot market count microseconds.
    time = TimeColumn(columns=[time_name], unit="us" if len(first.get(time_name, "")) >= 16 else "ms")
    facts = _facts(instrument)
    if name["kind"] == "bookTicker":
        book = BookColumns(
            bid_price="best_bid_price",
            bid_size="best_bid_qty",
            ask_price="best_ask_price",
            ask_size="best_ask_qty",
            levels=1,
            crossed="skip",
        )
        return TableMapping(instrument=facts, time=time, book=book)
    if name["kind"] is not None:
        size = "quantity" if name["kind"] == "aggTrades" else "qty"
        return TableMapping(instrument=facts, time=time, trade=TradeColumns(price="price", size=size, side="is_buyer_maker", **_MAKER))
    bar = BarColumns(
        open="open", high="high", low="low", close="close", volume="volume", buy_volume="taker_buy_volume",
        interval_s=float(int(name["count"]) * _UNIT_S[name["unit"]]),
    )  # fmt: skip
    return TableMapping(instrument=facts, time=time, bar=bar)


def _source(
    path: Path,
    instrument: Instrument,
    time: TimeColumn,
    *,
    receive_time: TimeColumn | None = None,
    **rows: BookColumns | TradeColumns | BarColumns,
) -> TableSource:
    mapping = TableMapping.model_validate({"instrument": _facts(instrument), "time": time, "receive_time": receive_time, **rows})
    return TableSource(path, mapping, instrument=instrument)


def _facts(instrument: Instrument) -> InstrumentFacts:
    # The instrument itself is handed in beside it; the mapping only needs one of its shape.
    return InstrumentFacts(instrument_id=instrument.instrument_id, tick_size=Decimal(instrument.tick_size))


def _symbol_and_interval(path: Path) -> tuple[str, float]:
    name = _BAR_NAME.match(path.name)
    if name is None:
        raise ConfigError(
            f"{path}: its name does not say which contract and interval it is, as ESH15_5m.csv does; rename it, or {_MAPPING}"
        )
    return name["symbol"], float(int(name["count"]) * _UNIT_S[name["unit"]])


def _first_row(path: Path, header: Header, head: bytes) -> dict[str, str]:
    lines = head.split(b"\n")
    if len(lines) <= header.lines or not lines[header.lines].strip():
        raise ConfigError(f"{path}: holds no rows below its header")
    cells = lines[header.lines].decode("utf-8", "replace").strip().split(header.delimiter)
    if len(cells) != len(header.names):
        raise IntegrityError(
            f"{path}: line {header.lines + 1} has {len(cells)} columns, its header {len(header.names)}; fetch the file again"
        )
    return dict(zip(header.names, cells, strict=True))


_MAPPING: Final = "say it in a mapping file (NAME.csv.yaml beside it)"
_LAYOUTS: Final[tuple[tuple[tuple[str, ...], Opener], ...]] = (
    (SIERRA_BARS, _sierra_bars),
    (VOLUMETRIC_BARS, _volumetric_bars),
    (UTC_BARS, _utc_bars),
    ((*TARDIS, "id", "side", "price", "amount"), _tardis_trades),
    ((*TARDIS, "asks[0].price", "bids[0].amount"), _tardis_snapshots),
    (("timestamp", "percentage", "depth", "notional"), _depth_by_distance),
)
