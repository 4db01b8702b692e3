"""Log lines: the mission's format, market time where there is one, and no way for foreign text to forge anything."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import logs
from framework.logs import LineFormatter, LogRing, escape, foreign, reset_logging, setup_logging

MARKET_NS = int(datetime(2024, 1, 15, 10, 30, 15, tzinfo=UTC).timestamp()) * 1_000_000_000 + 999_999_999


@pytest.fixture(autouse=True)
def _restored_root() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    reset_logging()
    logging.getLogger().setLevel(level)


def record(message: str, *arguments: object, name: str = "YourFuturesStrategy", level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, arguments, None)


def line(message: str, *arguments: object, name: str = "YourFuturesStrategy") -> str:
    return LineFormatter(lambda: MARKET_NS).format(record(message, *arguments, name=name))


def test_a_line_is_in_the_format_of_the_mission() -> None:
    stream = io.StringIO()
    setup_logging(level="INFO", stream=stream, now_ns=lambda: MARKET_NS)

    logging.getLogger("YourFuturesStrategy").info("ML prediction received: %s with confidence %.2f", "BUY", 0.75)

    assert stream.getvalue() == "2024-01-15 10:30:15 | INFO | YourFuturesStrategy | ML prediction received: BUY with confidence 0.75\n"


def test_the_time_follows_the_clock_that_was_handed_in() -> None:
    now = [MARKET_NS]
    formatter = LineFormatter(lambda: now[0])

    first = formatter.format(record("a"))
    now[0] += 1

    assert first.startswith("2024-01-15 10:30:15 | ")
    assert formatter.format(record("b")).startswith("2024-01-15 10:30:16 | ")


def test_without_a_clock_the_time_is_that_of_the_record_in_utc() -> None:
    entry = record("a")
    entry.created = 0.5

    assert LineFormatter().format(entry).startswith("1970-01-01 00:00:00 | INFO | ")


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_is_below_the_level_is_not_written(level: int) -> None:
    stream = io.StringIO()
    setup_logging(level=level, stream=stream)

    logging.getLogger("a").debug("detail")

    assert ("detail" in stream.getvalue()) == (level == logging.DEBUG)


def test_foreign_text_cannot_forge_a_line_or_move_the_cursor() -> None:
    found = line("venue said %s", "no\n2024-01-15 10:30:15 | INFO | Risk | all fine\x1b[2J\u202e")

    assert found == (
        "2024-01-15 10:30:15 | INFO | YourFuturesStrategy | venue said no\\n2024-01-15 10:30:15 | INFO | Risk | all fine\\x1b[2J\\u202e"
    )


def test_foreign_text_is_cut_with_the_number_of_missing_characters() -> None:
    assert line("said %s!", "x" * 5_000).endswith("said " + "x" * 200 + "... (4800 more)!")
    assert line("said %s", ValueError("y" * 300)).endswith("y" * 200 + "... (100 more)")
    assert line("%(text)s", {"text": "z" * 201}).endswith("z" * 200 + "... (1 more)")


def test_a_whole_line_is_cut_too() -> None:
    assert len(line("m" * 100_000)) < 4_200


def test_a_name_is_foreign_too() -> None:
    assert "| a\\nb |" in line("x", name="a\nb")


@pytest.mark.parametrize("arguments", [("a", "b"), (), ({"a": 1},), (None,)])
def test_arguments_that_do_not_fit_cost_the_message_nothing_but_its_numbers(arguments: tuple[object, ...]) -> None:
    assert "value %d of %s" in line("value %d of %s", *arguments)


def test_a_traceback_is_indented_and_escaped() -> None:
    formatter = LineFormatter(lambda: MARKET_NS)
    try:
        raise ValueError("bad\n2024-01-15 10:30:15 | INFO | forged\x07")
    except ValueError:
        entry = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())

    first, *rest = formatter.format(entry).split("\n")

    assert first == "2024-01-15 10:30:15 | ERROR | a | failed"
    assert all(part.startswith("    ") for part in rest)
    assert "\x07" not in "".join(rest)


def test_the_ring_keeps_the_newest_lines() -> None:
    ring = LogRing(size=3)
    setup_logging(level="INFO", stream=None, now_ns=lambda: MARKET_NS, ring=ring)

    for number in range(10):
        logging.getLogger("a").info("line %d", number)

    assert [text.rpartition(" | ")[2] for text in ring.tail(2)] == ["line 8", "line 9"]
    assert len(ring.tail(100)) == 3
    assert ring.tail(0) == ()


def test_with_a_view_the_lines_go_to_a_file_and_the_ring_but_not_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = LogRing()
    setup_logging(level="INFO", stream=None, file=tmp_path / "tidebook.log", now_ns=lambda: MARKET_NS, ring=ring)

    logging.getLogger("a").info("hello \u00e4 %s", "\ud800")
    reset_logging()

    assert (tmp_path / "tidebook.log").read_text(encoding="utf-8") == "2024-01-15 10:30:15 | INFO | a | hello \u00e4 \\ud800\n"
    assert ring.tail(5) == ("2024-01-15 10:30:15 | INFO | a | hello \u00e4 \\ud800",)
    assert capsys.readouterr() == ("", "")


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 1_000)
    setup_logging(level="INFO", stream=None, file=tmp_path / "t.log")

    for number in range(500):
        logging.getLogger("a").info("line %d", number)
    reset_logging()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.log", "t.log.1", "t.log.2", "t.log.3"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4_000


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup_logging(level="INFO", stream=first)
    setup_logging(level="INFO", stream=second)

    logging.getLogger("a").info("once")

    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_reader_that_went_away_costs_lines_and_no_traceback() -> None:
    script = (
        "import logging, sys, time\n"
        "from framework.logs import setup_logging\n"
        "setup_logging(level='INFO', stream=sys.stdout)\n"
        "sys.stdin.read()\n"
        "for n in range(1000): logging.getLogger('a').info('x' * 100)\n"
        "sys.stdout = None\n"
        "print('alive', file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate("", timeout=30)

    assert (process.returncode, errors.splitlines()[0]) == (0, "alive")
    assert "Traceback" not in errors.replace("Exception ignored", "")


def test_importing_sets_up_nothing() -> None:
    script = "import logging, framework.logs; print(logging.getLogger().handlers, logging.getLogger().level)"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[] 30\n"


@given(st.text())
def test_escaped_text_is_one_harmless_line(text: str) -> None:
    escaped = escape(text)

    assert b"?" not in escaped.replace("?", "").encode("utf-8", "replace")
    assert len(escaped.splitlines()) <= 1
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in escaped)


@given(st.text(max_size=400), st.integers(1, 300))
def test_cut_text_begins_with_the_text(text: str, limit: int) -> None:
    assert foreign(text, limit).startswith(escape(text[:limit]))


def test_the_level_of_before_is_back_after_a_verb_that_was_quiet() -> None:
    root = logging.getLogger()
    before = root.level

    setup_logging(level="ERROR", stream=io.StringIO())
    setup_logging(level="CRITICAL", stream=io.StringIO())
    reset_logging()

    assert root.level == before
