"""A picture shows what the page shows: every stroke at its place and in its colour, letters upright, and nothing needs to be installed."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.backtest.capacity import MULTIPLES
from framework.backtest.engine import Plan, Source
from framework.backtest.letters import bitmap
from framework.backtest.painting import SCALE, Canvas, size_of
from framework.backtest.picture import picture, write_picture
from framework.backtest.report import page
from framework.backtest.research import Backtest, measured, with_capacity
from framework.cli.backtest import backtest
from framework.errors import ConfigError, StorageError
from framework.market.catalogue.png import Pixels
from framework.plots import COLOURS, Axes, Series, bar_chart, line_chart
from tests.backtest.conftest import STRATEGIES
from tests.backtest.test_engine import go

BLUE = (0x1F, 0x6F, 0xEB)
WHITE = (255, 255, 255)


def painted(svg: str) -> Pixels:
    canvas = Canvas(*size_of(svg))
    canvas.plot(svg, 0, 0)
    return canvas.pixels()


def colour_at(pixels: Pixels, x: float, y: float) -> tuple[int, ...]:
    return tuple(int(one) for one in pixels[round(y * SCALE), round(x * SCALE)])


def test_a_line_is_where_its_points_are() -> None:
    canvas = Canvas(100, 50)
    canvas.stroke((10, 10), (90, 40), 2, COLOURS[0])
    pixels = canvas.pixels()

    assert pixels.shape == (100, 200, 3)
    assert {colour_at(pixels, 10 + 80 * share, 10 + 30 * share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)} == {BLUE}
    assert colour_at(pixels, 50, 30) == colour_at(pixels, 50, 20) == WHITE


def test_a_dashed_line_has_gaps_and_its_dashes_go_on_around_corners() -> None:
    whole, dashed = (
        painted(line_chart(Axes(x="", y=""), [Series(name="", x=[0, 1, 2], y=[0, 1, 0], has_dots=False, is_dashed=is_dashed)]))
        for is_dashed in (False, True)
    )
    blues = [int((pixels == BLUE).all(axis=2).sum()) for pixels in (whole, dashed)]

    assert 0.4 < blues[1] / blues[0] < 0.7
    assert ((dashed == BLUE).all(axis=2) <= (whole != WHITE).any(axis=2)).all()


def test_bars_and_dots_are_filled() -> None:
    bars = painted(bar_chart("net", [("up", 2.0), ("down", -2.0)]))
    dots = painted(line_chart(Axes(x="", y=""), [Series(name="", x=[0.0, 1.0], y=[0.0, 1.0], has_line=False)]))

    blue = (bars == BLUE).all(axis=2)
    assert blue[: bars.shape[0] // 2].sum() > 1_000 < blue[bars.shape[0] // 4 :].sum()
    assert 20 < (dots == BLUE).all(axis=2).sum() < 300


def test_letters_stand_where_they_are_anchored_and_turned_ones_read_upwards() -> None:
    sheets = []
    for anchor in ("start", "middle", "end"):
        canvas = Canvas(60, 60)
        canvas.text("LL", (30, 30), anchor=anchor)
        sheets.append(np.argwhere((canvas.pixels() != WHITE).any(axis=2)) / SCALE)
    canvas = Canvas(60, 60)
    canvas.text("LL", (30, 30), is_turned=True)
    turned = np.argwhere((canvas.pixels() != WHITE).any(axis=2)) / SCALE

    assert [float(sheet[:, 1].min()) for sheet in sheets] == [30, 24, 18]
    assert [(float(sheet[:, 0].min()), float(sheet[:, 0].max())) for sheet in sheets] == [(23, 29.5)] * 3
    assert (float(turned[:, 1].min()), float(turned[:, 1].max())) == (23, 29.5)
    assert turned[:, 0].max() < 30


def test_what_is_no_letter_here_is_a_question_mark_and_no_words_are_no_dots() -> None:
    assert (bitmap("é") == bitmap("?")).all()
    assert bitmap("").shape == (7, 0)
    assert len({bitmap(chr(number)).tobytes() for number in range(32, 127)}) == 95


@pytest.fixture
def found(plan: Callable[..., Plan], answered: Callable[[], Source]) -> Backtest:
    return with_capacity(measured(go(plan("ml_futures"), answered()), trials=1))


def test_the_picture_of_a_report_is_a_png_with_every_plot_of_the_page(found: Backtest, tmp_path: Path) -> None:
    curve = [{"latency_ms": 0.0, "net": 1.0, "gross": 2.0}, {"latency_ms": 5.0, "net": 0.5, "gross": 1.5}]

    write_picture(tmp_path / "out.png", found, curve)
    content = (tmp_path / "out.png").read_bytes()

    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG")
    assert (width, content) == (980 * SCALE, picture(found, curve))
    assert height > (page(found, curve).count("<svg") // 2) * 250 * SCALE
    length = struct.unpack(">I", content[33:37])[0]
    rows = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(height, 1 + 3 * width)[:, 1:]
    drawn = rows.reshape(height, width, 3)
    for colour in COLOURS[:3]:
        assert (drawn == [int(colour[place : place + 2], 16) for place in (1, 3, 5)]).all(axis=2).sum() > 100, colour


def test_a_report_says_what_the_orders_moved_and_what_multiples_earn(found: Backtest) -> None:
    text = page(found, [])

    assert "turnover (USD)" in text
    assert f"{MULTIPLES[-1]} x" in text
    assert "A bound from above" in text
    assert found.facts["net_bp"] == pytest.approx(found.facts["net"] / found.facts["turnover"] * 1e4, abs=1e-5)


def test_a_folder_that_is_not_there_is_a_storage_error(found: Backtest, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_picture(tmp_path / "nowhere" / "out.png", found, [])


def test_the_verb_writes_the_picture_and_refuses_a_folder_that_is_not_there_before_it_runs(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"strategy": STRATEGIES / "book_imbalance.yaml", "data": [recording], "ml": "off", "state_dir": tmp_path / "s"}

    assert backtest(**given, png=tmp_path / "out.png", is_json=True) == 0
    facts = json.loads(capsys.readouterr().out)

    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert [one["multiple"] for one in facts["capacity"]["sizes"]] == list(MULTIPLES)
    with pytest.raises(ConfigError, match=r"--png .*there is no folder"):
        backtest(**given, png=tmp_path / "nowhere" / "out.png")
