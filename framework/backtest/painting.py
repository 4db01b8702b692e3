"""The plots of `framework.plots` as pixels, with NumPy alone: no browser, no font and no graphics library has to be installed.

Knows what those plots are made of and nothing else: `line`, `polyline`, `circle`, `rect`, `text`. Drawn at twice the size and averaged,
which smooths the edges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from html import unescape
from itertools import pairwise
from typing import Final

import numpy as np

from framework.backtest.letters import HEIGHT as LETTER_HEIGHT
from framework.backtest.letters import bitmap
from framework.market.catalogue.png import Pixels

SCALE: Final = 2
"""Pixels a unit."""
_FINE: Final = 2
_EACH: Final = SCALE * _FINE
_CLASSES: Final = {"grid": "#eaeef2", "zero": "#8b949e"}
_TEXT: Final = "#424a53"
_VIEW: Final = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_ELEMENT: Final = re.compile(r"<(line|polyline|circle|rect|text)\b([^>]*?)/?>(?:([^<]*)</text>)?")
_ATTRIBUTE: Final = re.compile(r'([\w-]+)="([^"]*)"')
_TURNED: Final = re.compile(r"translate\(([\d.]+),([\d.]+)\) rotate\(-90\)")
Attributes = dict[str, str]
Point = tuple[float, float]


class Canvas:
    """A white sheet of so many units; everything on it is in units from its left upper corner."""

    def __init__(self, width: float, height: float) -> None:
        self._fine = np.full((math.ceil(height) * _EACH, math.ceil(width) * _EACH, 3), 255, np.uint8)

    def pixels(self) -> Pixels:
        """Return what was painted, `SCALE` pixels a unit."""
        height, width, _ = self._fine.shape
        blocks = self._fine.reshape(height // _FINE, _FINE, width // _FINE, _FINE, 3)
        return np.asarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))

    def rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle."""
        rows, columns = slice(_at(y), max(_at(y) + 1, _at(y + height))), slice(_at(x), max(_at(x) + 1, _at(x + width)))
        self._fine[rows, columns] = _rgb(colour)

    def stroke(self, start: Point, end: Point, width: float, colour: str) -> None:
        """Draw a line with round ends; both ends alike are a dot."""
        half = width / 2
        left, top = (min(start[axis], end[axis]) - half for axis in (0, 1))
        right, bottom = (max(start[axis], end[axis]) + half for axis in (0, 1))
        rows, columns = slice(max(0, _at(top)), _at(bottom) + 1), slice(max(0, _at(left)), _at(right) + 1)
        part = self._fine[rows, columns]
        ys = (np.arange(part.shape[0])[:, None] + rows.start + 0.5) / _EACH - start[1]
        xs = (np.arange(part.shape[1])[None, :] + columns.start + 0.5) / _EACH - start[0]
        along_x, along_y = end[0] - start[0], end[1] - start[1]
        length = along_x**2 + along_y**2
        share = np.clip((xs * along_x + ys * along_y) / length, 0, 1) if length else np.zeros((1, 1))
        part[(xs - share * along_x) ** 2 + (ys - share * along_y) ** 2 <= half**2] = _rgb(colour)

    def text(self, words: str, at: Point, *, anchor: str = "start", size: int = 1, colour: str = _TEXT, is_turned: bool = False) -> None:
        """Write letters of seven units times `size` above `at`, or upwards to the left of it."""
        letters = np.kron(bitmap(words), np.ones((size * _EACH, size * _EACH), bool))
        long = letters.shape[1]
        back = {"start": 0, "middle": long // 2, "end": long}[anchor]
        x, y = _at(at[0]), _at(at[1])
        high = LETTER_HEIGHT * size * _EACH
        top, left = (y - (long - back), x - high) if is_turned else (y - high, x - back)
        self._stamp(np.rot90(letters) if is_turned else letters, top, left, colour)

    def _stamp(self, shape: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], top: int, left: int, colour: str) -> None:
        shape = shape[max(0, -top) :, max(0, -left) :]
        part = self._fine[max(0, top) :, max(0, left) :][: shape.shape[0], : shape.shape[1]]
        part[shape[: part.shape[0], : part.shape[1]]] = _rgb(colour)

    def plot(self, svg: str, left: float, top: float) -> None:
        """Paint one plot of `framework.plots` there."""
        for name, attributes, words in _ELEMENT.findall(svg):
            _PAINT[name](self, dict(_ATTRIBUTE.findall(attributes)), unescape(words), (left, top))


def size_of(svg: str) -> tuple[float, float]:
    """Return width and height of a plot, units."""
    found = _VIEW.search(svg)
    return (float(found[1]), float(found[2])) if found is not None else (0.0, 0.0)


def _line(canvas: Canvas, facts: Attributes, _words: str, corner: Point) -> None:
    start, end = ((float(facts[f"x{one}"]) + corner[0], float(facts[f"y{one}"]) + corner[1]) for one in (1, 2))
    for begin, stop in _dashed([start, end], facts):
        canvas.stroke(begin, stop, float(facts.get("stroke-width", 1)), _colour(facts, "stroke"))


def _polyline(canvas: Canvas, facts: Attributes, _words: str, corner: Point) -> None:
    places = [tuple(float(value) for value in pair.split(",")) for pair in facts["points"].split()]
    points = [(x + corner[0], y + corner[1]) for x, y in places]
    for begin, stop in _dashed(points, facts):
        canvas.stroke(begin, stop, float(facts["stroke-width"]), _colour(facts, "stroke"))


def _circle(canvas: Canvas, facts: Attributes, _words: str, corner: Point) -> None:
    at = (float(facts["cx"]) + corner[0], float(facts["cy"]) + corner[1])
    canvas.stroke(at, at, 2 * float(facts["r"]), _colour(facts, "fill"))


def _rect(canvas: Canvas, facts: Attributes, _words: str, corner: Point) -> None:
    x, y, width, height = (float(facts[name]) for name in ("x", "y", "width", "height"))
    canvas.rect(x + corner[0], y + corner[1], width, height, _colour(facts, "fill"))


def _text(canvas: Canvas, facts: Attributes, words: str, corner: Point) -> None:
    turned = _TURNED.match(facts.get("transform", ""))
    x, y = (float(turned[1]), float(turned[2])) if turned is not None else (float(facts["x"]), float(facts["y"]))
    anchor = facts.get("text-anchor", "start")
    canvas.text(words, (x + corner[0], y + corner[1]), anchor=anchor, is_turned=turned is not None)


_PAINT: Final[dict[str, Callable[[Canvas, Attributes, str, Point], None]]] = {
    "line": _line,
    "polyline": _polyline,
    "circle": _circle,
    "rect": _rect,
    "text": _text,
}


def _dashed(points: list[Point], facts: Attributes) -> Iterator[tuple[Point, Point]]:
    """Yield the strokes of a line: each of its parts, or the dashes."""
    if "stroke-dasharray" not in facts:
        yield from pairwise(points)
        return
    on, off = (float(value) for value in facts["stroke-dasharray"].split())
    gone = 0.0
    for start, end in pairwise(points):
        length = math.dist(start, end)
        first = gone - gone % (on + off)
        while first < gone + length:
            pieces = (max(first, gone), min(first + on, gone + length))
            if pieces[0] < pieces[1]:
                yield _between(start, end, (pieces[0] - gone) / length), _between(start, end, (pieces[1] - gone) / length)
            first += on + off
        gone += length


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _colour(facts: Attributes, name: str) -> str:
    return facts.get(name) or _CLASSES[facts["class"]]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _at(unit: float) -> int:
    return round(unit * _EACH)
