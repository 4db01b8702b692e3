"""The scratch directory goes however a run ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from framework.errors import StorageError
from framework.research.evaluating.scratch import PREFIX, scratch_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_ours_alone_and_goes_with_the_block(temporary: Path) -> None:
    with scratch_directory() as path:
        (path / "rows.parquet").touch()
        assert path.parent == temporary
        assert path.stat().st_mode & 0o777 == 0o700

    assert list(temporary.iterdir()) == []


def test_it_goes_with_an_error_too(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_directory():
        raise ZeroDivisionError

    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left = temporary / f"{PREFIX}{gone.pid}-abc"
    left.mkdir()
    (left / "rows.parquet").touch()
    others = [temporary / f"{PREFIX}{os.getpid()}-abc", temporary / f"{PREFIX}strange", temporary / "other"]
    for other in others:
        other.mkdir()

    with scratch_directory():
        assert not left.exists()

    assert sorted(temporary.iterdir()) == sorted(others)


def test_without_a_place_it_is_a_storage_error(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))

    with pytest.raises(StorageError, match="set TMPDIR to another one"), scratch_directory():
        pass
