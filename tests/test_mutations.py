"""A slice of the planted bugs: all of them still fit the source, and two are caught."""

from __future__ import annotations

import pytest

from tests.mutations import BUGS, ROOT, run


def test_there_are_enough_planted_bugs_and_each_fits_the_source_in_one_place() -> None:
    assert len(BUGS) >= 30
    assert [bug.name for bug in BUGS if (ROOT / bug.path).read_text().count(bug.old) != 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["used ids are used again", "UNKNOWN orders count for nothing"])
def test_a_planted_bug_is_caught(name: str) -> None:
    assert run([next(number for number, bug in enumerate(BUGS) if bug.name == name)]) == 0
