"""The status document: one value, as JSON for scripts and as tables for people."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from framework.operations.status import Status, learning_texts, market_time, speed_text, status_view


def shown(status: Status, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(status_view(status))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_status_survives_the_control_socket(status: Status) -> None:
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(status)), Status, strict=False) == status


@pytest.mark.parametrize(
    "part",
    [
        "4711, up 12 s, .tidebook",
        "simulated, 2024-01-15 10:30:15 UTC, max, 40%",
        "HALTED (operator\\x1b[31m)",
        "TRAINING, model v0003-1a2b3c4d, restarts 1, training 30% fit",
        "recorded 120, acknowledged 97, pending 20, dropped 3",
        "p50 0.10 ms, p99 2.30 ms, max 4.00 ms",
        "18500.25",
        "-12.50 + 0.00 - 0.00",
        "STRONG_BUY 0.73, 0.4 s old, v0003-1a2b3c4d",
        "ZeroDivisionError: division by zero",
        "12,345",
    ],
)
def test_the_tables_show(status: Status, part: str) -> None:
    assert part in shown(status)


def test_without_strategies_it_says_how_to_get_one(status: Status) -> None:
    assert "main.py deploy-strategy --config" in shown(msgspec.structs.replace(status, strategies=()))


@pytest.mark.parametrize("width", [1, 20, 80])
def test_any_width_can_be_printed(status: Status, width: int) -> None:
    assert shown(status, width)


@pytest.mark.parametrize(("speed", "text"), [(None, "max"), (1.0, "1x"), (0.5, "0.5x"), (100.0, "100x")])
def test_a_speed_is_spelled_as_on_the_command_line(speed: float | None, text: str) -> None:
    assert speed_text(speed) == text


@pytest.mark.parametrize("ns", [-(2**63), 2**63 - 1, 10**30])
def test_a_time_that_no_calendar_has_is_no_fault(ns: int) -> None:
    assert market_time(ns)


def test_trials_and_drift_are_told_in_words() -> None:
    trial = {"challenger": "v0002-b", "champion": "v0001-a", "e_better": 3.5, "e_worse": 0.2, "blocks": 41}
    learning = {"trials": [trial], "drift": {"alarms": {"outcome": "worse than the frequencies"}}}

    assert learning_texts(learning) == [
        ("trial", "v0002-b against v0001-a: e-value 3.5 for better, 0.2 for worse, 41 blocks"),
        ("drift", "outcome: worse than the frequencies"),
    ]
    assert learning_texts({}) == []
