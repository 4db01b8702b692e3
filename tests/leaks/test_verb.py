"""The verb check-leaks: what it says, with which exit code, and what it does with garbage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.cli.door import enter, spread_market
from framework.dataset import read_dataset
from framework.leak_job import Finding, LeakJob, Verdict
from framework.research.leaks import has_leak
from framework.research.leaks.rows import read_market, write_rows
from framework.research.learning_child import ChildFailed, run_job
from ml_actor.leaks import causality
from ml_actor.leaks.columns import shipped_features
from ml_actor.preparation import Recording


def never_runs(_: Any) -> Any:
    raise AssertionError("nothing is started here")


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = enter(["check-leaks", *arguments], never_runs)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_leak_is_named_and_the_exit_code_is_6(verb: Callable[..., tuple[int, str, str]]) -> None:
    # It prints, too, what could be taken for lines of ours.
    code, out, _ = verb("--function", "tests.leaks.planted:chatty_row_number", "--seeds", "1", "--rows", "4000", "--json")

    found = json.loads(out)
    assert code == 6
    assert found["leak"]
    leaks = [one for one in found["findings"] if one["verdict"] == "leak"]
    assert [(one["check"], one["names"]) for one in leaks] == [("begin later", ["row_number"])]
    assert found["job"]["seeds"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--function", "nonsense"), "allowed module:name"),
        (("--function", "tests.leaks.planted:broken", "--rows", "4000"), "raises ZeroDivisionError"),
        (("--features", "--function", "a:b"), "one of both"),
        (("--label", "x y"), "allowed module:name"),
        (("--model", "../../etc"), "allowed"),
        (("--seeds", "0"), "--seeds"),
        (("--rows", "10"), "--rows"),
        (("--strategy", "no_such_file.yaml"), "no_such_file.yaml"),
        (("--features", "--data", "no_such_file.parquet"), "does not exist"),
    ],
)
def test_garbage_is_one_line_and_exit_2(verb: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], words: str) -> None:
    code, out, err = verb(*arguments)

    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1


def test_an_unknown_version_is_refused_with_what_is_allowed(verb: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = verb("--model", "v0042-00000000", "--state-dir", str(tmp_path))

    assert code == 2
    assert "no version 'v0042-00000000'" in err
    assert "champion" in err


def test_a_damaged_recording_is_exit_6(verb: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1" + b"\0" * 100)

    code, _, err = verb("--features", "--data", str(tmp_path / "cut.parquet"))

    assert code == 6
    assert "cut.parquet" in err


def test_several_recordings_may_follow_data() -> None:
    assert spread_market(["check-leaks", "--data", "a", "b", "--json"]) == ["check-leaks", "--data", "a", "--data", "b", "--json"]


def test_a_recording_becomes_the_rows_that_live_has(tmp_path: Path, recordings: Path) -> None:
    market = read_market([recordings / "shfe_rb_l2" / "rb_20250605.parquet"], max_events=9_000)

    total = write_rows(market, tmp_path / "rows", lambda _: None)

    books = sum(type(event).__name__ == "BookSnapshot" for event in market.events)
    assert 0.9 * books < total <= books


def test_the_features_do_not_know_the_future_of_a_real_morning(tmp_path: Path, recordings: Path) -> None:
    market = read_market([recordings / "shfe_rb_l2" / "rb_20250605.parquet"], max_events=3_000)
    write_rows(market, tmp_path / "rows", lambda _: None)
    read = read_dataset(tmp_path / "rows", max_rows=1_000)
    part = next(iter(read.instruments.values()))
    recording = Recording(instrument_id=part.instrument_id, tick_size=part.tick_size, has_trades=part.has_trades, rows=part.rows)
    subject = shipped_features(100)
    full = subject.compute(recording)

    found = [*causality.check_future(subject, recording, full, seed=1), causality.check_dates(subject, recording, full)]

    assert [one.verdict for one in found] == [Verdict.OK] * 3


def test_what_failed_counts_like_a_leak_and_what_was_skipped_does_not() -> None:
    def one(verdict: Verdict) -> Finding:
        return Finding(subject="s", check="c", verdict=verdict, detail="")

    assert has_leak([one(Verdict.FAILED)])
    assert has_leak([one(Verdict.OK), one(Verdict.LEAK)])
    assert not has_leak([one(Verdict.OK), one(Verdict.SKIPPED)])


# --- the child ----------------------------------------------------------------------------------------------------------------


def test_a_child_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="No module named"):
        run_job("no_such_module_of_ours", LeakJob(), tmp_path, lambda _: None)


def test_code_that_ends_its_process_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no result"):
        run_job("ml_actor.leaks", LeakJob(features="tests.leaks.planted:quitting"), tmp_path, lambda _: None)


def test_the_door_stands_in_the_help(verb: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = verb("--help")

    assert code == 0
    assert "exit 6" in out
