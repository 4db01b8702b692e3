"""A log that several share: what a power loss cut is dropped, and what is not ours is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from framework.errors import IntegrityError, StorageError
from framework.research.line_log import LineLog


class Count(msgspec.Struct):
    """A line for these tests."""

    number: int


def add(log: LineLog[Count]) -> list[int]:
    return [line.number for line in log.append(lambda lines: Count(len(lines) + 1))]


def test_two_that_share_it_see_each_other_s_lines(tmp_path: Path) -> None:
    first, second = (LineLog(tmp_path / "log.jsonl", Count) for _ in range(2))

    assert [add(first), add(second), add(first)] == [[1], [1, 2], [1, 2, 3]]


def test_a_line_that_was_cut_is_dropped(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "log.jsonl", Count)
    add(log)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"num')

    assert add(log) == [1, 2]


def test_something_else_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("a diary\n")

    with pytest.raises(IntegrityError, match="not one of ours"):
        add(LineLog(tmp_path / "log.jsonl", Count))
    with pytest.raises(StorageError, match="cannot be recorded"):
        add(LineLog(tmp_path / "nowhere" / "log.jsonl", Count))
