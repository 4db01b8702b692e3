"""SIGKILL at every write of a save, a promotion and a clean-up; a flipped bit in every class of byte of an artifact."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.errors import IntegrityError
from ml_actor.artifacts import FILES
from ml_actor.registry import Pinned, Registry
from ml_actor.registry.standing import StandingFile

SCRIPT = Path(__file__).with_name("killed_at.py")
ROOT = Path(__file__).resolve().parents[2]


def files_of(registry: Registry, version: str) -> dict[str, bytes]:
    return {name: (registry.directory / version / name).read_bytes() for name in FILES}


def test_killed_at_any_write_there_is_a_sound_champion_and_nothing_half_written(
    models_copy: Registry, trained: Any, tmp_path: Path
) -> None:
    version = trained.result.version
    files = files_of(models_copy, version)
    for number in range(2):  # something for the clean-up to delete
        models_copy.save(files, window_rows=100, horizon_rows=10, facts={"reason": str(number)})
    models_copy.promote(version)
    listed = tmp_path / "files.json"
    listed.write_text(json.dumps({name: base64.b64encode(content).decode() for name, content in files.items()}))
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(models_copy.directory), str(listed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2_000:]
    points = [json.loads(line) for line in ran.stdout.splitlines()]

    assert len(points) >= 60
    new = points[-1]["champion"]
    assert not points[-1]["was_killed"]
    assert new not in (None, version)
    assert all(point["was_killed"] for point in points[:-1])
    for point in points:
        assert point["champion"] in (version, new), point
        assert point["refused"] == [], point
        assert point["damaged"] == [], point
        assert point["decisions"] == list(range(1, len(point["decisions"]) + 1)), point
        assert point["after"], point
        assert point["left_over"] == [], point
    # Once the new one serves it never goes back, and no number is given twice.
    champions = [point["champion"] for point in points]
    assert champions == sorted(champions, key=lambda name: name == new)
    assert {point["number"] for point in points} <= {4, 5}


# --- bits ----------------------------------------------------------------------------------------------------------------


def byte_classes(content: bytes) -> dict[str, list[int]]:
    """Return offsets of every class of byte in an npz: member headers, array headers, data, directory, end, all over the file."""
    found: dict[str, list[int]] = {"spread": [int(at) for at in np.linspace(0, len(content) - 1, 24)]}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            start = member.header_offset
            data = start + 30 + len(member.filename) + int.from_bytes(content[start + 28 : start + 30], "little")
            found.setdefault("member header", []).extend((start, start + 8, start + 14, start + 30))
            found.setdefault("array header", []).extend((data, data + 7, data + 20))
            found.setdefault("data", []).append(data + member.compress_size - 1)
        found["directory"] = [archive.start_dir, archive.start_dir + 24, archive.start_dir + 42]
    found["end"] = [len(content) - 22, len(content) - 1]
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_class_of_byte_is_refused_before_anything_is_deserialised(
    models_copy: Registry, trained: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = trained.result.version
    path = models_copy.directory / version / name
    sound = path.read_bytes()
    monkeypatch.setattr("ml_actor.registry.unpack", lambda *_: pytest.fail("deserialised"))
    for offsets in byte_classes(sound).values():
        for at, bit in ((at, bit) for at in offsets for bit in (0, 7)):
            broken = bytearray(sound)
            broken[at] ^= 1 << bit
            path.write_bytes(broken)
            with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
                models_copy.load(version)


def test_the_bytes_that_were_hashed_are_the_bytes_that_are_loaded(
    models_copy: Registry, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, bytes] = {}
    version = trained.result.version
    sound = files_of(models_copy, version)

    def swap_the_files_and_look(files: dict[str, bytes], name: str) -> str:
        seen.update(files)
        return name

    def checked_then_swapped(name: str, file: str, facts: Any) -> bytes:
        content = real(name, file, facts)
        (models_copy.directory / name / file).write_bytes(b"swapped behind the check")
        return bytes(content)

    real = models_copy._checked
    monkeypatch.setattr(models_copy, "_checked", checked_then_swapped)
    monkeypatch.setattr("ml_actor.registry.unpack", swap_the_files_and_look)

    models_copy.load(version)
    assert seen == sound


# --- the pointer and the log -----------------------------------------------------------------------------------------------


def test_a_decision_that_a_crash_kept_from_the_log_is_seen_and_written_by_the_next(models_copy: Registry, trained: Any) -> None:
    version = trained.result.version
    models_copy.promote(version, reason="first")
    log = models_copy.directory / "decisions.jsonl"
    log.unlink()
    assert [one.reason for one in models_copy.decisions()] == ["first"]

    models_copy.pin(version, reason="second")
    assert [json.loads(line)["reason"] for line in log.read_text().splitlines()] == ["first", "second"]


def test_a_line_that_a_crash_cut_off_is_left_out_and_the_next_one_is_whole(models_copy: Registry, trained: Any) -> None:
    version = trained.result.version
    models_copy.promote(version, reason="first")
    models_copy.pin(version, reason="second")
    log = models_copy.directory / "decisions.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    models_copy.unpin(version, reason="third")

    assert [one.reason for one in models_copy.decisions()] == ["first", "second", "third"]


def test_what_serves_is_tried_or_is_pinned_is_never_deleted(models_copy: Registry, trained: Any) -> None:
    files = files_of(models_copy, trained.result.version)
    names = [trained.result.version]
    names += [models_copy.save(files, window_rows=100, horizon_rows=10, facts={"n": number}) for number in range(9)]
    models_copy.promote(names[1])
    models_copy.promote(names[3])
    models_copy.challenge(names[4], by="gate")
    models_copy.pin(names[5])

    assert sorted(models_copy.collect(2)) == [names[0], names[2], names[6], names[7]]
    kept = {entry["version"] for entry in models_copy.versions()}
    assert kept == {names[1], names[3], names[4], names[5], names[8], names[9]}
    models_copy.refuse(names[4], by="trial", reason="worse")
    assert models_copy.collect(2) == (names[4],)


def test_no_number_is_given_twice_even_if_the_newest_version_was_deleted_by_hand(models_copy: Registry, trained: Any) -> None:
    files = files_of(models_copy, trained.result.version)
    second = models_copy.save(files, window_rows=100, horizon_rows=10, facts={})
    models_copy.refuse(second, by="gate", reason="no skill")
    for path in (models_copy.directory / second).iterdir():
        path.unlink()
    (models_copy.directory / second).rmdir()

    assert models_copy.save(files, window_rows=100, horizon_rows=10, facts={}).startswith("v0003-")


def test_a_pinned_champion_is_replaced_by_an_operator_only(models_copy: Registry, trained: Any) -> None:
    files = files_of(models_copy, trained.result.version)
    second = models_copy.save(files, window_rows=100, horizon_rows=10, facts={})
    models_copy.promote(trained.result.version)
    models_copy.pin(trained.result.version)

    with pytest.raises(Pinned, match="is pinned"):
        models_copy.promote(second, by="trial")
    models_copy.promote(second, by="operator")
    assert models_copy.champion() == second


def test_a_link_planted_where_a_file_is_written_is_not_followed(models_copy: Registry, trained: Any, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    (models_copy.directory / ".new-champion.json").symlink_to(target)

    with pytest.raises(OSError, match=r"symbolic link|Too many levels"):
        models_copy.promote(trained.result.version)
    assert target.read_text() == "mine"
    assert StandingFile(models_copy.directory).read().champion == ""
