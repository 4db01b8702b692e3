"""The report of a backtest as one PNG: its figures, a reviewer's words, and every plot of the page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from framework.backtest.painting import Canvas, size_of
from framework.backtest.report import page, totals
from framework.backtest.research import Backtest
from framework.dataset.parts import replace_file
from framework.market.catalogue.png import png_of

MARGIN: Final = 20
COLUMN: Final = 480
LINE: Final = 13
LETTER: Final = 6
_PLOT: Final = re.compile(r"<svg.*?</svg>", re.DOTALL)
_WARNING: Final = "#9a6700"
_TITLE: Final = "#1f2328"


def write_picture(path: Path, found: Backtest, curve: Sequence[dict[str, Any]]) -> None:
    """Write the picture whole or not at all. Raises `StorageError`."""
    replace_file(path, picture(found, curve))


def picture(found: Backtest, curve: Sequence[dict[str, Any]]) -> bytes:
    """Return the PNG; `curve` as for `page`."""
    plots = _PLOT.findall(page(found, curve))
    words, rows = _warnings(found.warnings), totals(found.facts)
    head = 50 + LINE * (len(words) + 1 + (len(rows) + 1) // 2)
    rows_of_plots = [plots[number : number + 2] for number in range(0, len(plots), 2)]
    heights = [max(size_of(plot)[1] for plot in pair) + MARGIN for pair in rows_of_plots]
    canvas = Canvas(2 * COLUMN + MARGIN, head + sum(heights) + MARGIN)
    _head(canvas, found, words, rows)
    top = float(head)
    for pair, height in zip(rows_of_plots, heights, strict=True):
        for place, plot in enumerate(pair):
            canvas.plot(plot, MARGIN + place * COLUMN, top)
        top += height
    return png_of(canvas.pixels())


def _head(canvas: Canvas, found: Backtest, words: Sequence[str], rows: Sequence[tuple[str, str]]) -> None:
    facts = found.facts
    canvas.text(f"Backtest of {facts['strategy']} on {facts['instrument_id']}", (MARGIN, 34), size=2, colour=_TITLE)
    y = 50 + LINE
    for line in words:
        canvas.text(line, (MARGIN, y), colour=_WARNING)
        y += LINE
    half = (len(rows) + 1) // 2
    for number, (name, value) in enumerate(rows):
        column, place = divmod(number, half)
        at = y + LINE * place
        canvas.text(name, (MARGIN + column * COLUMN, at))
        canvas.text(value, (MARGIN + column * COLUMN + COLUMN - 2 * MARGIN, at), anchor="end", colour=_TITLE)


def _warnings(warnings: Sequence[str]) -> list[str]:
    wide = (2 * COLUMN - MARGIN) // LETTER
    return [line for words in warnings for line in textwrap.wrap(f"! {words}", wide, subsequent_indent="  ")]
