"""The page: whole, without anything from elsewhere, and with nothing in it that a name could break out of."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from framework.plots import Axes, Series, bar_chart, line_chart, nice_step
from ml_actor.evaluate.html import table


def test_a_line_chart_is_well_formed_and_keeps_its_points_inside() -> None:
    svg = line_chart(
        Axes(x="x <&>", y="y", has_zero=True),
        [Series(name="a & b", x=[0, 1, 2], y=[-1.5, 0.25, 3.0], bars=[(-2.0, -1.0), None, (2.5, 3.5)]), Series(name="none", x=[], y=[])],
    )

    root = ElementTree.fromstring(svg)
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    assert len(dots) == 3
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    assert [dot[1] for dot in dots] == sorted((dot[1] for dot in dots), reverse=True)


def test_places_are_named_and_a_flat_line_still_has_a_scale() -> None:
    svg = line_chart(Axes(x="when", y="ticks", places=("now", "later")), [Series(name="", x=[0, 1], y=[1.0, 1.0])])

    assert re.findall(r">(now|later)<", svg) == ["now", "later"]
    ElementTree.fromstring(svg)


def test_a_chart_of_nothing_says_so() -> None:
    assert "nothing to show" in line_chart(Axes(x="x", y="y"), [])
    assert "nothing to show" in bar_chart("share", [])


def test_bars_are_well_formed_also_below_zero() -> None:
    root = ElementTree.fromstring(bar_chart("log-loss lost", [("a <b>", 0.2), ("c", -0.1)]))

    assert [round(float(bar.attrib["width"])) for bar in root.iter("rect")] == [140, 70]


def test_steps_of_a_scale_are_round() -> None:
    assert [nice_step(rough) for rough in (0.011, 0.2, 0.21, 3.0, 7.0)] == [0.02, 0.2, 0.5, 5, 10]


def test_cells_are_escaped() -> None:
    assert "<script>" not in table(("a",), [("<script>alert(1)</script>",)])
