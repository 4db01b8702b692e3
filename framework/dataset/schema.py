"""The columns of a dataset part, and `Rows` to and from them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from framework.dataset.parts import DamagedPart
from framework.window import FLOW_COLUMNS, LEVELS, ROW_SCHEMA_HASH, Rows

_WIDTHS: Final[dict[str, tuple[np.dtype[Any], int]]] = {
    "ts_event": (np.dtype("<i8"), 1),
    "sequence": (np.dtype("<i8"), 1),
    "segment": (np.dtype("<i8"), 1),
    "bid_ticks": (np.dtype("<i4"), LEVELS),
    "bid_sizes": (np.dtype("<f4"), LEVELS),
    "ask_ticks": (np.dtype("<i4"), LEVELS),
    "ask_sizes": (np.dtype("<f4"), LEVELS),
    "flow": (np.dtype("<f4"), len(FLOW_COLUMNS)),
}
ROW_FIELDS: Final = tuple(_WIDTHS)


def _arrow_type(dtype: np.dtype[Any], width: int) -> pa.DataType:
    value = pa.from_numpy_dtype(dtype)
    return value if width == 1 else pa.list_(value, width)


SCHEMA: Final = pa.schema(
    [
        pa.field("instrument_id", pa.string(), nullable=False),
        pa.field("tick_size", pa.float64(), nullable=False),
        pa.field("has_trades", pa.bool_(), nullable=False),
        *(pa.field(name, _arrow_type(dtype, width), nullable=False) for name, (dtype, width) in _WIDTHS.items()),
    ],
    metadata={"tidebook_rows": ROW_SCHEMA_HASH, "flow_columns": ",".join(FLOW_COLUMNS)},
)


def to_table(instrument_id: str, tick_size: float, rows: Rows, *, has_trades: bool) -> pa.Table:
    """Return `rows` with the facts of their instrument as a table."""
    count = len(rows)
    columns = [pa.repeat(instrument_id, count), pa.repeat(tick_size, count), pa.repeat(has_trades, count)]
    for name, (dtype, width) in _WIDTHS.items():
        flat = pa.array(np.ascontiguousarray(getattr(rows, name), dtype).reshape(-1))
        columns.append(flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def from_table(table: pa.Table) -> Rows:
    """Return the rows of `table`. Raises `DamagedPart` if it has other columns or an older meaning of them."""
    if not table.schema.equals(SCHEMA) or (table.schema.metadata or {}).get(b"tidebook_rows") != ROW_SCHEMA_HASH.encode():
        raise DamagedPart(f"has other columns than schema {ROW_SCHEMA_HASH}: {table.schema.names}")
    if any(column.null_count for column in table.columns):
        raise DamagedPart("has empty cells")
    return Rows(**{name: _to_array(table.column(name), *_WIDTHS[name]) for name in ROW_FIELDS})


def _to_array(column: pa.ChunkedArray, dtype: np.dtype[Any], width: int) -> npt.NDArray[Any]:
    whole = column.combine_chunks()
    if width == 1:
        return np.array(whole, dtype)
    return np.array(whole.flatten(), dtype).reshape(-1, width)


def join(blocks: list[Rows]) -> Rows:
    """Return the rows of all `blocks`, in order."""
    if len(blocks) == 1:
        return blocks[0]
    return Rows(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in ROW_FIELDS})


def last(rows: Rows, count: int) -> Rows:
    """Return the last `count` of `rows`."""
    start = max(0, len(rows) - count)
    return Rows(**{name: getattr(rows, name)[start:] for name in ROW_FIELDS})
