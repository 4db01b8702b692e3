"""Small plots as inline SVG: lines with error bars, and bars. No script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 460
HEIGHT: Final = 280
LEFT: Final = 62
RIGHT: Final = 14
TOP: Final = 30
BOTTOM: Final = 46
COLOURS: Final = ("#1f6feb", "#d1761a", "#2da44e", "#a371f7", "#bf3989")
GREY: Final = "#8b949e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: points in order of x; `bars` are (low, high) per point, or nothing."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    bars: Sequence[tuple[float, float] | None] = ()
    colour: str = COLOURS[0]
    is_dashed: bool = False
    has_dots: bool = True
    has_line: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Names of the axes and, where x is not a number, the texts under its places 0, 1, 2, ..."""

    x: str
    y: str
    places: Sequence[str] = ()
    has_zero: bool = False


class _Scale:
    """From a value to a pixel, and the values where a tick belongs."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if not high > low:
            low, high = low - 0.5, high + 0.5
        step = nice_step((high - low) / 5)
        self.low, self.high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self.step = step
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + number * self.step for number in range(count + 1)]


def nice_step(rough: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is not below `rough`."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def line_chart(axes: Axes, series: Sequence[Series]) -> str:
    """Return an SVG of the lines; a series without points is left out, a chart without any says so."""
    shown = [one for one in series if len(one.x)]
    if not shown:
        return '<p class="note">nothing to show</p>'
    xs = [value for one in shown for value in one.x]
    ys = [value for one in shown for value in one.y] + [end for one in shown for bar in one.bars if bar for end in bar]
    ys += [0.0] if axes.has_zero else []
    across = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT) if not axes.places else _places(len(axes.places))
    up = _Scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [_grid(axes, across, up), *(_line(one, across, up) for one in shown), _legend(shown)]
    return _svg(parts, f"{axes.y} against {axes.x}")


def _places(count: int) -> _Scale:
    scale = _Scale(-0.5, count - 0.5, LEFT, WIDTH - RIGHT)
    scale.low, scale.high = -0.5, count - 0.5
    return scale


def bar_chart(label: str, bars: Sequence[tuple[str, float]]) -> str:
    """Return an SVG of horizontal bars with their names and values, in the order given."""
    if not bars:
        return '<p class="note">nothing to show</p>'
    height = 20 * len(bars) + 30
    low, high = min(0.0, *(value for _, value in bars)), max(0.0, *(value for _, value in bars))
    span = (high - low) or 1.0
    left, right = 190, WIDTH - 60
    zero = left + (0 - low) / span * (right - left)
    parts = []
    for number, (name, value) in enumerate(bars):
        y, end = 20 * number + 6, left + (value - low) / span * (right - left)
        parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{min(zero, end):.1f}" y="{y}" width="{abs(end - zero):.1f}" height="13" fill="{COLOURS[0]}"/>')
        parts.append(f'<text x="{max(zero, end) + 5:.1f}" y="{y + 11}">{number_text(value)}</text>')
    parts.append(f'<text x="{(left + right) / 2:.0f}" y="{height - 6}" text-anchor="middle">{escape(label)}</text>')
    return _svg(parts, label, height)


def number_text(value: float) -> str:
    """Return a number with three significant digits, from 1,000 on without decimals, and never with an exponent that a reader must undo."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _svg(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>{inside}</svg>'


def _grid(axes: Axes, across: _Scale, up: _Scale) -> str:
    parts = []
    for value in up.ticks():
        y = up.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number_text(0.0 if abs(value) < up.step / 1e6 else value)}</text>'
        )
    places = list(enumerate(axes.places)) if axes.places else [(value, number_text(value)) for value in across.ticks()]
    for place, text in places:
        x = across.at(place)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(axes.x)}</text>')
    half = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text transform="translate(14,{half}) rotate(-90)" text-anchor="middle">{escape(axes.y)}</text>')
    if axes.has_zero:
        parts.append(f'<line class="zero" x1="{LEFT}" y1="{up.at(0)}" x2="{WIDTH - RIGHT}" y2="{up.at(0)}"/>')
    return "".join(parts)


def _line(one: Series, across: _Scale, up: _Scale) -> str:
    points = [(across.at(x), up.at(y)) for x, y in zip(one.x, one.y, strict=True)]
    dash = ' stroke-dasharray="5 4"' if one.is_dashed else ""
    path = " ".join(f"{x},{y}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="1.8"{dash}/>'] if one.has_line else []
    parts += [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{one.colour}"/>' for x, y in points] if one.has_dots else []
    for (x, _), bar in zip(points, one.bars, strict=False):
        if bar:
            parts.append(f'<line x1="{x}" y1="{up.at(bar[0])}" x2="{x}" y2="{up.at(bar[1])}" stroke="{one.colour}" stroke-width="1"/>')
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    """Return the names of the lines, side by side above the plot."""
    named = [one for one in series if one.name]
    parts = []
    for place, one in enumerate(named):
        x = LEFT + place * (WIDTH - LEFT - RIGHT) / len(named)
        dash = ' stroke-dasharray="5 4"' if one.is_dashed else ""
        parts.append(f'<line x1="{x:.0f}" y1="14" x2="{x + 18:.0f}" y2="14" stroke="{one.colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{x + 23:.0f}" y="18">{escape(one.name)}</text>')
    return "".join(parts)
