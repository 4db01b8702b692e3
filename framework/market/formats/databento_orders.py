"""The orders of a Databento file of market by order, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from framework.errors import ConfigError
from framework.market.formats.databento import DatabentoSource
from framework.market.formats.databento_streams import PRICE_SCALE, UNDEFINED_PRICE, UNDEFINED_TIME, rows_of
from framework.market.formats.dbn_records import LAYOUTS, DbnFile
from framework.market.order_log import OrderAction, OrderChange
from framework.model import Instrument, Side

_ACTIONS: Final = {
    b"A": OrderAction.ADD,
    b"C": OrderAction.CANCEL,
    b"M": OrderAction.CHANGE,
    b"F": OrderAction.FILL,
    b"R": OrderAction.CLEAR,
}
_SIDES: Final = {b"B": Side.BUY, b"A": Side.SELL}


def order_logs(path: Path) -> dict[str, Iterator[OrderChange]]:
    """Return the order log of each instrument of a file, read as it is asked for. Raises `ConfigError` for another schema or format."""
    source = DatabentoSource(path)
    if DbnFile(path).schema != "mbo":
        raise ConfigError(f"{path}: holds no orders; queue_model fifo needs market by order (Databento schema mbo)")
    numbers = {number: one for number, one in source._instruments_by_number.items()}
    return {one.instrument_id: _log(path, one, {n for n, other in numbers.items() if other == one}) for one in source.instruments}


def _log(path: Path, instrument: Instrument, numbers: set[int]) -> Iterator[OrderChange]:
    tick = int(instrument.tick_size * PRICE_SCALE)
    for records in DbnFile(path).records(*LAYOUTS["mbo"]):
        for number, row in zip(records["instrument_id"].tolist(), rows_of("mbo", records), strict=True):
            ts_event, ts_recv, price, size, action, side, _, order_id = row
            kind = _ACTIONS.get(action)
            if kind is None or number not in numbers:
                continue
            ticks = 0 if price == UNDEFINED_PRICE else price // tick
            yield OrderChange(ts_event if ts_recv == UNDEFINED_TIME else ts_recv, kind, order_id, _SIDES.get(side), ticks, size)
