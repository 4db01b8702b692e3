"""The depth heatmap: resting size by price and time as colour, the best prices as lines, trades as dots (or bars as candles).

One pass over the events, memory bounded by the picture: each column of pixels shows the last book of its slice of time.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from framework.errors import ConfigError
from framework.market.catalogue.png import Pixels, png_of
from framework.market.feed import arrival_ns
from framework.messages import Bar, BookSnapshot, MarketEvent, TradeTick
from framework.model import NS_PER_S, Instrument, Side

COLUMNS: Final = 1_200
ROWS: Final = 480
MAX_DOTS: Final = 4_000
MARGIN: Final = 70

_STOPS: Final = np.array([(13, 17, 32), (25, 56, 112), (24, 120, 152), (72, 190, 132), (240, 220, 90), (255, 250, 220)], np.float64)
"""From no size to the most, dark to bright, rising in lightness so that it reads without colour too."""
_BUY: Final = (90, 210, 250)
_SELL: Final = (255, 120, 90)
_UNKNOWN: Final = (200, 200, 200)

FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class Sheet:
    """What one pass over the events collected, in ticks and columns."""

    instrument: Instrument
    begin_ns: int
    end_ns: int
    books: dict[int, BookSnapshot] = field(default_factory=dict)
    trades: dict[tuple[int, int, Side | None], int] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    events: int = 0

    def column_of(self, ts: int) -> int:
        """Return the column of an instant."""
        return min(COLUMNS - 1, (ts - self.begin_ns) * COLUMNS // max(1, self.end_ns - self.begin_ns + 1))

    def add(self, event: MarketEvent) -> None:
        """Count one event in."""
        column = self.column_of(arrival_ns(event))
        self.events += 1
        if type(event) is BookSnapshot:
            self.books[column] = event
        elif type(event) is TradeTick:
            key = (column, event.price_ticks, event.aggressor)
            self.trades[key] = self.trades.get(key, 0) + event.size
        elif type(event) is Bar:
            self.bars.append(event)


def collect(events: Iterable[MarketEvent], instrument: Instrument, begin_ns: int, end_ns: int) -> Sheet:
    """Return what is drawn of the events from `begin_ns` to `end_ns`. Raises `ConfigError` if nothing lies there."""
    sheet = Sheet(instrument, begin_ns, end_ns)
    for event in events:
        if event.instrument_id == instrument.instrument_id and begin_ns <= arrival_ns(event) <= end_ns:
            sheet.add(event)
    if not sheet.events:
        raise ConfigError(f"{instrument.instrument_id}: no events from {_utc(begin_ns)} to {_utc(end_ns)}; choose another span")
    return sheet


def draw_png(sheet: Sheet) -> bytes:
    """Return the picture as a PNG file, trades as dots of the side that began them."""
    pixels, low, high = _picture(sheet)
    scale = _scale(low, high)
    largest = _largest(sheet)
    most = max((lots for _, lots in largest), default=1)
    for (column, ticks, side), lots in largest:
        row = ROWS - 1 - int((ticks - low + 0.5) * scale)
        colour = {Side.BUY: _BUY, Side.SELL: _SELL}.get(side, _UNKNOWN) if side else _UNKNOWN
        reach = 1 + round(3 * (lots / most) ** 0.5)
        pixels[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = colour
    return png_of(pixels)


def draw_html(sheet: Sheet, title: str) -> str:
    """Return the picture as one HTML page that needs nothing else: the heatmap, axes, and trades with their facts under the pointer."""
    pixels, low, high = _picture(sheet)
    image = base64.b64encode(png_of(pixels)).decode()
    width, height = COLUMNS + 2 * MARGIN, ROWS + MARGIN
    body = "".join((*_price_axis(sheet, low, high), *_time_axis(sheet), *_dots(sheet, low, high)))
    name = html.escape(title)
    facts = html.escape(f"{_utc(sheet.begin_ns)} to {_utc(sheet.end_ns)} UTC, {sheet.events:,} events")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body{{margin:24px;background:#0b0f1a;color:#d8deea;font:14px/1.4 system-ui,sans-serif}}
svg{{width:100%;height:auto;max-width:{width}px}} text{{fill:#aab4c8;font-size:12px}}
.b{{fill:rgb{_BUY}}} .s{{fill:rgb{_SELL}}} .u{{fill:rgb{_UNKNOWN}}}
circle{{fill-opacity:.75}} line{{stroke:#2b3550}}
</style></head><body><h1>{name}</h1><p>{facts}. Bright: much rests there. Dots: trades, <b style="color:rgb{_BUY}">buyers</b> and
<b style="color:rgb{_SELL}">sellers</b> began them; their area is their size.</p>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">
<image x="{MARGIN}" y="0" width="{COLUMNS}" height="{ROWS}" preserveAspectRatio="none" href="data:image/png;base64,{image}"/>
{body}</svg></body></html>
"""


def _picture(sheet: Sheet) -> tuple[Pixels, int, int]:
    low, high = _price_range(sheet)
    sizes = _sizes(sheet, low, high)
    place = _brightness(sizes) * (len(_STOPS) - 1)
    lower = np.minimum(place.astype(int), len(_STOPS) - 2)
    mix = (place - lower)[..., None]
    colours = _STOPS[lower] * (1 - mix) + _STOPS[lower + 1] * mix
    pixels = colours.astype(np.uint8)
    _draw_best(sheet, pixels, low, high)
    _draw_bars(sheet, pixels, low, high)
    return pixels, low, high


def _brightness(sizes: FloatArray) -> FloatArray:
    """Return 0 for no size, some for little, 1 for as much as the largest hundredth has; in between by the square root."""
    there = sizes[sizes > 0]
    if not len(there):
        return sizes
    least, most = np.sqrt(np.quantile(there, (0.02, 0.99)))
    share = np.clip((np.sqrt(sizes) - least) / max(most - least, 1e-9), 0, 1)
    return np.where(sizes > 0, 0.12 + 0.88 * share, 0.0)


def _price_range(sheet: Sheet) -> tuple[int, int]:
    """Return the lowest and highest tick that is drawn: all best prices, trades and bars, and some levels around them."""
    seen = [tick for book in sheet.books.values() for side in (book.bid_ticks, book.ask_ticks) for tick in side[:1]]
    seen += [ticks for _, ticks, _ in sheet.trades]
    seen += [tick for bar in sheet.bars for tick in (bar.low_ticks, bar.high_ticks)]
    if not seen:
        raise ConfigError(f"{sheet.instrument.instrument_id}: only empty books from {_utc(sheet.begin_ns)} to {_utc(sheet.end_ns)}")
    deep = [abs(side[-1] - side[0]) for book in sheet.books.values() for side in (book.bid_ticks, book.ask_ticks) if side]
    around = 1 + int(np.median(deep)) if deep else 1
    return min(seen) - around, max(seen) + around


def _scale(low: int, high: int) -> float:
    return ROWS / (high - low + 1)


def _sizes(sheet: Sheet, low: int, high: int) -> FloatArray:
    """Return the resting size per pixel; a column without a book of its own goes on with the one before, within a session."""
    scale = _scale(low, high)
    sizes = np.zeros((ROWS, COLUMNS))
    gap = max(1, sheet.column_of(sheet.begin_ns + round(sheet.instrument.session_gap_s * NS_PER_S)))
    columns = sorted(sheet.books)
    for column, following in pairwise([*columns, COLUMNS]):
        book = sheet.books[column]
        for ticks, lots in zip(book.bid_ticks + book.ask_ticks, book.bid_sizes + book.ask_sizes, strict=True):
            if low <= ticks <= high:
                first = int((ticks - low) * scale)
                last = max(first + 1, int((ticks + 1 - low) * scale))
                block = sizes[ROWS - last : ROWS - first, column : min(following, column + gap)]
                np.maximum(block, lots, out=block)
    return sizes


def _draw_best(sheet: Sheet, pixels: Pixels, low: int, high: int) -> None:
    scale = _scale(low, high)
    for column, book in sheet.books.items():
        for side, colour in ((book.bid_ticks, _BUY), (book.ask_ticks, _SELL)):
            if side:
                pixels[ROWS - 1 - int((side[0] - low + 0.5) * scale), column] = colour


def _draw_bars(sheet: Sheet, pixels: Pixels, low: int, high: int) -> None:
    scale = _scale(low, high)
    for bar in sheet.bars:
        column = sheet.column_of(bar.ts_event)
        colour = _BUY if bar.close_ticks >= bar.open_ticks else _SELL
        top, bottom = (ROWS - 1 - int((ticks - low) * scale) for ticks in (bar.high_ticks, bar.low_ticks))
        pixels[top : bottom + 1, column] = colour


def _largest(sheet: Sheet) -> list[tuple[tuple[int, int, Side | None], int]]:
    return sorted(sheet.trades.items(), key=lambda one: -one[1])[:MAX_DOTS]


def _dots(sheet: Sheet, low: int, high: int) -> Iterable[str]:
    largest = _largest(sheet)
    scale, most = _scale(low, high), max((lots for _, lots in largest), default=1)
    for (column, ticks, side), lots in largest:
        x, y = MARGIN + column + 0.5, ROWS - (ticks - low + 0.5) * scale
        kind = {Side.BUY: "b", Side.SELL: "s"}.get(side, "u") if side else "u"
        price, size = sheet.instrument.price(ticks), sheet.instrument.lot_size * lots
        tip = f"{_utc(_instant(sheet, column))} {side.value if side else 'trade'} {size} at {price}"
        radius = 1 + 7 * (lots / most) ** 0.5
        yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{html.escape(tip)}</title></circle>'


def _price_axis(sheet: Sheet, low: int, high: int) -> Iterable[str]:
    for share in np.linspace(0, 1, 9):
        ticks = round(low + share * (high - low))
        y = ROWS - (ticks - low + 0.5) * _scale(low, high)
        yield f'<text x="{MARGIN - 6}" y="{y + 4:.0f}" text-anchor="end">{sheet.instrument.price(ticks):f}</text>'


def _time_axis(sheet: Sheet) -> Iterable[str]:
    for column in np.linspace(0, COLUMNS, 9).astype(int).tolist():
        x = MARGIN + column
        yield f'<line x1="{x}" x2="{x}" y1="{ROWS}" y2="{ROWS + 6}"/>'
        yield f'<text x="{x}" y="{ROWS + 22}" text-anchor="middle">{_utc(_instant(sheet, column))[11:19]}</text>'


def _instant(sheet: Sheet, column: int) -> int:
    return sheet.begin_ns + column * (sheet.end_ns - sheet.begin_ns) // COLUMNS


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
