"""Files that are elsewhere, through fsspec; local paths stay what they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from framework.cli.door import enter
from framework.errors import ConfigError
from framework.operations.options import Summary
from framework.remote_files import fetched, remote_name, shown_name
from tests.shfe import shfe_day


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("s3://bucket/day.parquet", "s3://bucket/day.parquet"),
        ("memory://days/d1.parquet", "memory://days/d1.parquet"),
        ("file:///data/d1.parquet", "file:///data/d1.parquet"),
        ("day.parquet", None),
        ("/data/day.parquet", None),
        ("c:/day.parquet", None),
    ],
)
def test_a_name_with_a_scheme_is_elsewhere_and_every_other_is_a_path(written: str, name: str | None) -> None:
    assert remote_name(Path(written)) == name
    assert shown_name(Path(written)) == (name or written)


def test_a_file_here_of_such_a_name_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:").mkdir()
    Path("s3:/day").write_text("here")

    assert fetched(Path("s3://day"), tmp_path) == Path("s3:/day")


def test_a_file_in_memory_is_copied_under_its_own_name(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/days/d1.bin", b"books")

    copy = fetched(Path("memory://days/d1.bin"), tmp_path, 3)

    assert (copy, copy.read_bytes()) == (tmp_path / "fetched-3" / "d1.bin", b"books")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memory://nowhere.bin", "memory://nowhere.bin: there is no such file"),
        ("fog://nowhere.bin", "fog://nowhere.bin: cannot be opened: Protocol not known: fog"),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(tmp_path: Path, name: str, message: str) -> None:
    pytest.importorskip("fsspec")

    with pytest.raises(ConfigError, match=message):
        fetched(Path(name), tmp_path)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(ConfigError, match="s3://bucket/day: files elsewhere need the remote extra: pip install 'tidebook\\[remote\\]'"):
        fetched(Path("s3://bucket/day"), tmp_path)


def test_evaluate_reads_recordings_from_elsewhere_and_names_them_as_they_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    train, test = (str(shfe_day(tmp_path / f"d{seed}.parquet", 3_000, seed=seed, start_s=1_750_000_000 + 86_400 * seed)) for seed in (1, 2))
    fsspec.filesystem("memory").pipe("/days/d1.parquet", Path(train).read_bytes())
    asked = ("--horizons", "10", "--model", "majority", "--state-dir", "state", "--json")

    def scores(*named: str) -> tuple[list[str], dict[str, float]]:
        assert enter(["evaluate", "--train", named[0], "--test", named[1], *asked], lambda options: Summary()) == 0
        found = json.loads(capsys.readouterr().out)
        (fold,) = found["folds"]
        return [part["file"] for part in (*fold["train"], *fold["test"])], found["horizons"]["10"]["scores"]

    elsewhere = scores("memory://days/d1.parquet", f"file://{test}")
    here = scores(train, test)

    assert elsewhere[0] == ["memory://days/d1.parquet", f"file://{test}"]
    assert here == ([train, test], elsewhere[1])
