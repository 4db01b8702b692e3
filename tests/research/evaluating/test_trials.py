"""Tries are counted by what they look at, and none is made that cannot be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from framework.errors import IntegrityError, StorageError
from framework.research.evaluating.trials import FILE_NAME, TrialLog


def found(**ratios: float) -> dict[str, Any]:
    return {"horizons": {horizon[1:]: {"deflated": {"gain": {"sharpe": ratio}}} for horizon, ratio in ratios.items()}}


def test_each_look_at_the_same_test_counts(tmp_path: Path) -> None:
    for number, ratio in enumerate((0.1, 0.2), start=1):
        log = TrialLog(tmp_path)
        assert log.begin(["a"], label="sign", model="m", now_ns=number) == number
        log.end(number, found(h10=ratio))

    log = TrialLog(tmp_path)
    third = log.begin(["a", "b"], label="sign", model="m", now_ns=3)

    assert log.before(third).number == 3
    assert log.before(third).sharpes == {"10": [0.1, 0.2]}


def test_other_recordings_and_labels_count_for_themselves(tmp_path: Path) -> None:
    for test, label in ((["a"], "sign"), (["b"], "sign"), (["a"], "tercile")):
        log = TrialLog(tmp_path)
        last = log.begin(test, label=label, model="m", now_ns=1)
        assert log.before(last).number == 1


def test_a_try_that_broke_off_counts_and_one_that_was_refused_does_not(tmp_path: Path) -> None:
    TrialLog(tmp_path).begin(["a"], label="sign", model="m", now_ns=1)
    refused = TrialLog(tmp_path)
    refused.void(refused.begin(["a"], label="sign", model="m", now_ns=2))

    log = TrialLog(tmp_path)
    last = log.begin(["a"], label="sign", model="m", now_ns=3)

    assert (last, log.before(last).number) == (3, 2)


def test_the_log_is_ours_alone_and_only_grows(tmp_path: Path) -> None:
    TrialLog(tmp_path / "state").begin(["a"], label="sign", model="m", now_ns=1)
    before = (tmp_path / "state" / FILE_NAME).read_bytes()
    TrialLog(tmp_path / "state").begin(["a"], label="sign", model="m", now_ns=2)

    path = tmp_path / "state" / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(before)


def test_a_log_that_is_none_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("tries: 3\n")

    with pytest.raises(IntegrityError, match="move the file away to count anew"):
        TrialLog(tmp_path).begin(["a"], label="sign", model="m", now_ns=1)


def test_a_log_that_takes_no_line_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError, match="every look at a test has to be counted"):
        TrialLog(tmp_path).begin(["a"], label="sign", model="m", now_ns=1)


def test_a_line_cut_by_a_power_loss_does_not_hide_the_others(tmp_path: Path) -> None:
    TrialLog(tmp_path).begin(["a"], label="sign", model="m", now_ns=1)
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'{"trial":2,"ts"')

    log = TrialLog(tmp_path)
    last = log.begin(["a"], label="sign", model="m", now_ns=3)

    assert log.before(last).number == 2
    again = TrialLog(tmp_path)
    assert again.begin(["a"], label="sign", model="m", now_ns=4) == last + 1
