"""The mapping file of a CSV: which columns are the time, the prices and the sizes, and what the instrument is.

It lies beside the CSV under its name with `.yaml` behind (`trades.csv` and `trades.csv.yaml`), or is named by `data import --mapping`.
The layouts that Tidebook knows by their header are mappings too (`known_layouts`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from framework.config import Positive, Settings, conflict
from framework.market.formats.definitions import InstrumentFacts

ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
Level = Annotated[int, Field(ge=0, le=1_000)]


class TimeColumn(Settings):
    """One column of counts since the epoch (`unit`), or one or two columns of text (joined by a space; ISO without a `format`)."""

    columns: Annotated[list[ColumnName], Field(min_length=1, max_length=2)]
    unit: Literal["ns", "us", "ms", "s", "text"] = "text"
    format: str = ""
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _counts_have_one_column(self) -> Self:
        if self.unit != "text" and len(self.columns) != 1:
            raise conflict("columns", len(self.columns), "one column for counts; two only for texts")
        return self


class BookColumns(Settings):
    """Columns of the levels; `{level}` in a name counts from `first_level`, best first."""

    bid_price: ColumnName
    bid_size: ColumnName
    ask_price: ColumnName
    ask_size: ColumnName
    levels: Annotated[int, Field(ge=1, le=1_000)]
    first_level: Level = 0
    crossed: Literal["refuse", "skip"] = "refuse"


class TradeColumns(Settings):
    """Columns of a trade; `side` holds one of the texts `buy` or `sell` for who began it, anything else is nobody."""

    price: ColumnName
    size: ColumnName
    side: ColumnName | None = None
    buy: list[str] = Field(default=["buy"])
    sell: list[str] = Field(default=["sell"])


class BarColumns(Settings):
    """Columns of a bar; its time is that of its `start` or its `end`."""

    open: ColumnName
    high: ColumnName
    low: ColumnName
    close: ColumnName
    volume: ColumnName
    buy_volume: ColumnName | None = None
    sell_volume: ColumnName | None = None
    interval_s: Positive
    time_is: Literal["start", "end"] = "start"


class TableMapping(Settings):
    """What a CSV file means. Exactly one of `book`, `trade` and `bar` says what a row is."""

    instrument: InstrumentFacts
    delimiter: Literal[",", ";", "\t", "|"] = ","
    time: TimeColumn
    receive_time: TimeColumn | None = None
    book: BookColumns | None = None
    trade: TradeColumns | None = None
    bar: BarColumns | None = None

    @model_validator(mode="after")
    def _rows_are_one_thing(self) -> Self:
        count = sum(one is not None for one in (self.book, self.trade, self.bar))
        if count != 1:
            raise conflict("book, trade, bar", f"{count} of them", "exactly one")
        return self
