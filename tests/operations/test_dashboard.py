"""The live view: a pure picture for every size of terminal, drawn by a process that can never slow the run."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from rich.console import Console

from framework.messages import HorizonPrediction
from framework.model import FlowType, Instrument
from framework.operations.dashboard import Dashboard, DashboardSnapshot, Ladder, can_show, render
from framework.operations.status import LastPrediction, OpenOrder, Status, prediction_text

LADDER = Ladder(
    instrument_id="TIDE.SIM",
    tick_size=Decimal("0.25"),
    bid_ticks=tuple(range(74_000, 73_990, -1)),
    bid_sizes=tuple(range(10, 20)),
    ask_ticks=tuple(range(74_001, 74_011)),
    ask_sizes=tuple(range(10, 20)),
    last_trade_ticks=74_001,
)


@pytest.fixture(scope="session")
def snapshot(status: Status) -> DashboardSnapshot:
    lines = tuple(f"2024-01-15 10:30:{number:02d} | INFO | MLFuturesStrategy | line {number}" for number in range(30))
    return DashboardSnapshot(status=status, ladders=(LADDER,), log_tail=lines)


def picture(snapshot: DashboardSnapshot, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(render(snapshot, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# --- the picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(80, 40), (160, 50)])
@pytest.mark.parametrize(
    "part",
    [
        "2024-01-15 10:30:15 UTC",
        "max  40%",
        "HALTED",
        "18502.50    19",
        "19   18497.75",
        "[2]     11   18499.75",
        "spread 1 tick",
        "TRAINING 30% fit",
        "v0003-1a2b3c4d, restarts 1",
        "120, acked 97, pending 20",
        "p50 0.10 ms, p99 2.30 ms",
        "ml_futures RUNNING",
        "-2 at 18500.25",
        "-12.50 + 0.00 - 0.00 fees",
        "BUY 2 18499.75 PARTIALLY",
        "STRONG_BUY 0.73, 0.4 s old",
        "broken QUARANTINED",
        "ZeroDivisionError",
        "line 29",
    ],
)
def test_a_terminal_of_usual_size_shows(snapshot: DashboardSnapshot, width: int, height: int, part: str) -> None:
    assert part in "\n".join(picture(snapshot, width, height))


@pytest.mark.parametrize("height", [20, 24, 31, 50])
@pytest.mark.parametrize("width", [60, 80, 100, 160, 250])
def test_the_picture_fills_the_terminal_and_no_more(snapshot: DashboardSnapshot, width: int, height: int) -> None:
    lines = picture(snapshot, width, height)

    assert len(lines) == height
    assert max(len(line) for line in lines) <= width
    assert "line 29" in "\n".join(lines)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (10, 5), (40, 8), (59, 50), (200, 5)])
def test_a_small_terminal_gets_the_most_important_lines(snapshot: DashboardSnapshot, width: int, height: int) -> None:
    lines = picture(snapshot, width, height)

    assert 1 <= len(lines) <= height
    assert max(len(line) for line in lines) <= width
    assert lines[0].startswith("2024"[: width - 1])


def test_before_the_first_book_it_says_so(status: Status) -> None:
    instrument = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"))
    lines = picture(DashboardSnapshot(status=status, ladders=(Ladder.empty(instrument),)), 80, 24)

    assert any("no book yet" in line for line in lines)
    assert any("no log yet" in line for line in lines)


def test_a_book_that_was_refused_is_marked(status: Status) -> None:
    ladder = msgspec.structs.replace(LADDER, is_sound=False, bid_ticks=(), bid_sizes=())
    text = "\n".join(picture(DashboardSnapshot(status=status, ladders=(ladder,)), 80, 24))

    assert "book refused" in text
    assert "one-sided" in text


def test_a_wide_terminal_shows_two_instruments(status: Status) -> None:
    second = msgspec.structs.replace(LADDER, instrument_id="WAVE.SIM")

    assert "WAVE.SIM" in "\n".join(picture(DashboardSnapshot(status=status, ladders=(LADDER, second)), 180, 40))
    assert "WAVE.SIM" not in "\n".join(picture(DashboardSnapshot(status=status, ladders=(LADDER, second)), 80, 40))


def test_foreign_text_reaches_the_terminal_escaped(status: Status) -> None:
    evil = "x\x1b[2J\n[red]\u202e"
    strategy = msgspec.structs.replace(
        status.strategies[0],
        name=evil,
        reason=evil,
        last_prediction=LastPrediction(
            flow_type=status.strategies[0].last_prediction.flow_type, confidence=0.5, age_s=0, model_version=evil
        ),  # type: ignore[union-attr]
    )
    changed = msgspec.structs.replace(status, strategies=(strategy,), trading_reason=evil)
    ladder = msgspec.structs.replace(LADDER, instrument_id=evil)

    text = "\n".join(picture(DashboardSnapshot(status=changed, ladders=(ladder,), log_tail=(evil,)), 200, 40))

    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "x\\x1b[2J\\n[red]\\u202e" in text


def test_market_orders_and_many_orders_are_told_apart(status: Status) -> None:
    market = msgspec.structs.replace(status.strategies[0].open_orders[0], limit_ticks=None, limit_price=None)
    orders: tuple[OpenOrder, ...] = (market, *[status.strategies[0].open_orders[0]] * 4)
    changed = msgspec.structs.replace(status, strategies=(msgspec.structs.replace(status.strategies[0], open_orders=orders),))

    text = "\n".join(picture(DashboardSnapshot(status=changed, ladders=(LADDER,)), 160, 40))

    assert "BUY 2 market PARTIALLY_FILLED; " in text
    assert "+2" in text
    assert "[8]" in text


# --- the process that draws ----------------------------------------------------------------------------------------------


def test_frames_reach_a_terminal_and_the_terminal_is_given_back(snapshot: DashboardSnapshot) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "framework.operations.dashboard"],
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    frame = msgspec.json.encode(snapshot)
    child.communicate(frame + b"\nthis is no frame\n" + frame + b"\n", timeout=30)
    output = b""
    while part := _read(master):
        output += part
    os.close(master)

    assert child.returncode == 0
    assert b"\x1b[?1049h" in output
    assert output.count(b"STRONG_BUY") >= 2
    assert b"\x1b[?1049l" in output
    assert b"Traceback" not in output


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65_536)
    except OSError:
        return b""


def test_a_terminal_that_goes_away_ends_the_view_without_a_traceback(snapshot: DashboardSnapshot) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "framework.operations.dashboard"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, errors = child.communicate((msgspec.json.encode(snapshot) + b"\n") * 3, timeout=30)

    assert errors == b""


def test_showing_never_waits_and_counts_what_is_lost(snapshot: DashboardSnapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard = Dashboard()
    monkeypatch.setattr(sys, "executable", "/bin/sleep")  # a view that reads nothing
    monkeypatch.setattr(subprocess, "Popen", _sleeping_popen(subprocess.Popen))
    dashboard.start()
    started = time.perf_counter()

    shown = [dashboard.show(snapshot) for _ in range(500)]
    took_s = time.perf_counter() - started
    dashboard.stop(timeout_s=0.05)

    assert shown[0]
    assert not shown[-1]
    assert dashboard.dropped == shown.count(False) > 0
    assert took_s < 1.0
    assert not dashboard.is_alive


def _sleeping_popen(popen: type[subprocess.Popen[bytes]]) -> Callable[..., subprocess.Popen[bytes]]:
    def start(_argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        return popen(["/bin/sleep", "60"], **options)  # type: ignore[call-overload, no-any-return]

    return start


def test_a_view_that_died_costs_the_run_nothing(snapshot: DashboardSnapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard = Dashboard()
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _argv, **options: popen(["/bin/true"], **options))
    dashboard.start()

    assert eventually(lambda: not dashboard.show(snapshot) and not dashboard.is_alive)
    assert not dashboard.show(snapshot)
    dashboard.stop()


def test_without_a_view_nothing_is_shown(snapshot: DashboardSnapshot) -> None:
    dashboard = Dashboard()

    assert not dashboard.show(snapshot)
    dashboard.stop()


@pytest.mark.parametrize(
    ("rows", "columns", "term", "expected"),
    [(24, 80, "xterm", True), (24, 80, "dumb", False), (5, 80, "xterm", False), (24, 30, "xterm", False)],
)
def test_only_a_terminal_with_room_gets_the_view(
    rows: int, columns: int, term: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with open(slave, "w") as terminal:
        assert can_show(terminal) == expected
    os.close(master)


def test_a_pipe_a_closed_stream_and_no_stream_get_no_view() -> None:
    closed = io.StringIO()
    closed.close()

    assert not can_show(io.StringIO())
    assert not can_show(closed)
    assert not can_show(None)


def test_a_prediction_tells_its_further_horizons_too() -> None:
    further = (HorizonPrediction(10, 0.5, 0.25, 0.25, FlowType.SELL, 0.66),)
    one = LastPrediction(flow_type=FlowType.BUY, confidence=0.7, age_s=0.4, model_version="v1", horizons=further)

    assert prediction_text(one) == "BUY 0.70, over 10 rows SELL 0.66, 0.4 s old, v1"
