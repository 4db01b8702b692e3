"""Walk-forward: no row teaches and is tested, no training label reaches a test, and time runs one way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from framework.errors import IntegrityError
from framework.evaluation_job import TEST, TRAIN, EvaluatedFile
from framework.window import Rows
from ml_actor.evaluate.folds import Fold, Part, folds, refuse_overlap, walk_forward
from ml_actor.preparation import Recording


def part(name: str, rows: Rows) -> Part:
    return Part(
        file=name, first_row=0, fee_ticks=0.0, recording=Recording(instrument_id="A.SIM", tick_size=1.0, has_trades=True, rows=rows)
    )


def spans(parts: tuple[Part, ...]) -> list[tuple[str, int, int]]:
    return [(one.file, one.first_row, one.first_row + len(one.recording.rows)) for one in parts]


def walk(parts: list[Part], count: int, embargo_rows: int = 100) -> list[Fold]:
    found = walk_forward(parts, count, embargo_rows=embargo_rows)
    assert isinstance(found, list)
    return found


def test_with_sessions_cuts_lie_between_them(make_market: Callable[..., Rows]) -> None:
    made = walk([part("a", make_market(10_000, segments=10))], 3)

    assert [spans(fold.test) for fold in made] == [[("a", 4_000, 6_000)], [("a", 6_000, 8_000)], [("a", 8_000, 10_000)]]
    assert [spans(fold.train) for fold in made] == [[("a", 0, 4_000)], [("a", 0, 6_000)], [("a", 0, 8_000)]]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_inside_a_session_rows_before_the_test_are_left_out(make_market: Callable[..., Rows], count: int) -> None:
    made = walk([part("a", make_market(10_000, segments=1))], count, embargo_rows=150)

    assert len(made) == count
    for fold in made:
        assert spans(fold.train)[0][2] == spans(fold.test)[0][1] - 150
    assert np.concatenate([np.arange(start, end) for fold in made for _, start, end in spans(fold.test)]).tolist() == [
        *range(4_000, 10_000)
    ]


def test_files_are_walked_in_time_order_and_tests_may_span_them(make_market: Callable[..., Rows]) -> None:
    early, late = make_market(6_000, segments=3), make_market(6_000, segments=3)
    late.ts_event[:] += int(early.ts_event[-1])

    made = walk([part("early", early), part("late", late)], 2)

    assert spans(made[0].train) == [("early", 0, 4_000)]
    assert spans(made[-1].train)[0] == ("early", 0, 6_000)
    assert spans(made[-1].test)[-1] == ("late", spans(made[-1].test)[-1][1], 6_000)
    last = [fold.train[-1].recording.rows.ts_event[-1] for fold in made]
    first = [fold.test[0].recording.rows.ts_event[0] for fold in made]
    assert all(before < after for before, after in zip(last, first, strict=True))


def test_a_fold_that_tests_what_it_was_taught_is_refused(make_market: Callable[..., Rows]) -> None:
    whole = part("a", make_market(1_000, segments=1))

    refuse_overlap(Fold(number=1, train=(whole.between(0, 500),), test=(whole.between(500, 1_000),)))
    with pytest.raises(IntegrityError, match="rows 499 to 499 of a are in its training and in its test"):
        refuse_overlap(Fold(number=1, train=(whole.between(0, 500),), test=(whole.between(499, 1_000),)))


def test_the_parts_of_a_fixed_split_are_in_time_order(make_market: Callable[..., Rows]) -> None:
    early, late = make_market(200, segments=1), make_market(200, segments=1)
    late.ts_event[:] += int(early.ts_event[-1])
    parts = [part("late", late), part("early", early), part("test", late)]
    files = [
        EvaluatedFile(
            name=one.file, role=role, rows_file="", instrument_id="A.SIM", tick_size=1.0, has_trades=True, fee_ticks=0.0, rows=200
        )
        for one, role in zip(parts, (TRAIN, TRAIN, TEST), strict=True)
    ]

    found = folds(files, parts, [10], 5)

    assert isinstance(found, list)
    assert [one.file for one in found[0].train] == ["early", "late"]
    assert [one.file for one in found[0].test] == ["test"]


def test_of_several_instruments_none_teaches_what_another_does_later(make_market: Callable[..., Rows]) -> None:
    one, other = part("one", make_market(6_000, segments=1)), part("other", make_market(6_000, seed=2, segments=1))

    for fold in walk([one, other], 3):
        assert {piece.file for piece in fold.train} == {piece.file for piece in fold.test} == {"one", "other"}
        last = max(int(piece.recording.rows.ts_event[-1]) for piece in fold.train)
        first = min(int(piece.recording.rows.ts_event[0]) for piece in fold.test)
        assert last < first


def test_too_few_rows_to_walk_are_said(make_market: Callable[..., Rows]) -> None:
    assert walk_forward([part("a", make_market(1, segments=1))], 5, embargo_rows=100) == (
        "1 rows in 1 sessions are too few to walk forward in 5 folds"
    )
