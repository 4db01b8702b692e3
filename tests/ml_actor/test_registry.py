from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.errors import IntegrityError
from ml_actor import registry as registry_module
from ml_actor.artifacts import FILES, _npz, pack
from ml_actor.registry import Registry, UnknownVersion


class DiskGone(OSError):
    """What a test lets the disk say."""


@pytest.fixture
def version(trained: Any) -> str:
    return str(trained.result.version)


@pytest.fixture
def files(trained: Any, version: str) -> dict[str, bytes]:
    return {name: (trained.registry.directory / version / name).read_bytes() for name in FILES}


def save_again(registry: Registry, files: dict[str, bytes], **facts: Any) -> str:
    return registry.save(files, window_rows=100, horizon_rows=10, facts={"reason": "again", "data": {"end_ns": 0}} | facts)


def flip_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 0x10
    path.write_bytes(content)


def test_a_version_is_named_by_a_rising_number_and_the_digest_of_its_files(
    models_copy: Registry, files: dict[str, bytes], version: str
) -> None:
    again = save_again(models_copy, files)

    assert version.startswith("v0001-")
    assert again == version.replace("v0001", "v0002")
    assert [entry["version"] for entry in models_copy.versions()] == [again, version]


def test_an_empty_registry_has_no_champion_and_no_versions(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "nothing here")

    assert registry.load_champion() is None
    assert registry.champion() is None
    assert registry.versions() == ()
    assert not (tmp_path / "nothing here").exists()


def test_the_champion_is_what_was_promoted_and_its_bundle_says_what_it_is(models_copy: Registry, version: str) -> None:
    models_copy.promote(version)

    bundle = Registry(models_copy.directory).load_champion()
    assert bundle is not None
    assert (bundle.version, bundle.window_rows, bundle.horizon_rows, bundle.is_calibrated) == (version, 100, 10, True)
    assert models_copy.versions()[0]["is_champion"]


def test_rolling_back_returns_to_the_champion_before(models_copy: Registry, files: dict[str, bytes], version: str) -> None:
    models_copy.promote(version)
    later = save_again(models_copy, files)
    models_copy.promote(later)

    assert models_copy.rollback() == version
    assert models_copy.champion() == version
    with pytest.raises(UnknownVersion, match="no earlier champion"):
        models_copy.rollback()


def test_rolling_back_passes_over_a_damaged_version(models_copy: Registry, files: dict[str, bytes], version: str) -> None:
    damaged, third = save_again(models_copy, files), save_again(models_copy, files)
    for name in (version, damaged, third):
        models_copy.promote(name)
    flip_bit(models_copy.directory / damaged / "trees.npz", 77)

    assert models_copy.rollback() == version


def test_promoting_the_champion_again_changes_nothing(models_copy: Registry, version: str) -> None:
    models_copy.promote(version)
    before = (models_copy.directory / "champion.json").read_bytes()
    models_copy.promote(version)

    assert (models_copy.directory / "champion.json").read_bytes() == before


@pytest.mark.parametrize("name", ["v0009-00000000", "../etc", "", ".key", "v0001-zzzzzzzz", "v0001-aaaaaaaa/.."])
def test_a_name_that_is_no_version_is_unknown(models_copy: Registry, name: str) -> None:
    for act in (models_copy.load, models_copy.promote, models_copy.manifest):
        with pytest.raises(UnknownVersion):
            act(name)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_flipped_bit_in_any_file_is_refused_before_the_file_is_deserialised(
    models_copy: Registry, version: str, name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_bit(models_copy.directory / version / name, at)
    monkeypatch.setattr(registry_module, "unpack", lambda *_: pytest.fail("deserialised"))

    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        models_copy.load(version)


def test_any_flipped_bit_in_the_manifest_is_refused(models_copy: Registry, version: str) -> None:
    path = models_copy.directory / version / "manifest.json"
    sound = path.read_bytes()
    for at in range(0, len(sound), 37):
        flip_bit(path, at)
        if says_the_same(path.read_bytes(), sound):
            continue
        with pytest.raises(IntegrityError):
            models_copy.load(version)
        path.write_bytes(sound)


def says_the_same(left: bytes, right: bytes) -> bool:
    """Whether two documents say the same (a flipped bit may turn one blank into another)."""
    try:
        return bool(json.loads(left) == json.loads(right))
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_longer_or_missing_is_refused(models_copy: Registry, version: str, name: str) -> None:
    path = models_copy.directory / version / name
    sound = path.read_bytes()
    for content in (sound[:-1], sound + b"x", b""):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="not the bytes that the manifest signed"):
            models_copy.load(version)
    path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        models_copy.load(version)


def test_a_damaged_champion_falls_back_to_the_one_before_and_says_so(models_copy: Registry, files: dict[str, bytes], version: str) -> None:
    later = save_again(models_copy, files)
    models_copy.promote(version)
    models_copy.promote(later)
    flip_bit(models_copy.directory / later / "linear.npz", 300)

    bundle = models_copy.load_champion()
    assert bundle is not None
    assert bundle.version == version
    assert [refused.version for refused in models_copy.refused] == [later]
    assert "linear.npz" in models_copy.refused[0].reason


def test_without_any_sound_version_there_is_no_champion_and_every_reason_is_told(models_copy: Registry, version: str) -> None:
    models_copy.promote(version)
    flip_bit(models_copy.directory / version / "shock.npz", 1_000)

    assert models_copy.load_champion() is None
    assert [refused.version for refused in models_copy.refused] == [version]


def test_the_list_says_which_version_is_damaged_and_still_what_it_was(models_copy: Registry, files: dict[str, bytes], version: str) -> None:
    later = save_again(models_copy, files)
    flip_bit(models_copy.directory / version / "shock.npz", 1_000)
    sound, damaged = models_copy.versions()

    assert (sound["version"], damaged["version"]) == (later, version)
    assert "error" not in sound
    assert "shock.npz: not the bytes that the manifest signed" in damaged["error"]
    assert "metrics" in damaged

    flip_bit(models_copy.directory / version / "manifest.json", 40)
    assert "metrics" not in models_copy.versions()[1]


@pytest.mark.parametrize("content", [b"", b"{", b'{"champion": 3}', b"\xff\xfe"])
def test_a_damaged_pointer_falls_back_to_the_pointer_before(
    models_copy: Registry, files: dict[str, bytes], version: str, content: bytes
) -> None:
    models_copy.promote(version)
    models_copy.promote(save_again(models_copy, files))
    (models_copy.directory / "champion.json").write_bytes(content)

    bundle = models_copy.load_champion()
    assert bundle is not None
    assert bundle.version == version
    assert [refused.version for refused in models_copy.refused] == ["champion.json"]


def test_a_version_of_another_installation_is_refused(models_copy: Registry, version: str) -> None:
    key = models_copy.directory / ".key"
    key.chmod(0o600)
    key.write_bytes(bytes(32))

    with pytest.raises(IntegrityError, match="another installation"):
        models_copy.load(version)


def test_a_key_that_others_can_read_is_refused(models_copy: Registry, version: str) -> None:
    (models_copy.directory / ".key").chmod(0o644)

    with pytest.raises(IntegrityError, match="mode 0600"):
        models_copy.load(version)


def test_a_manifest_moved_to_another_version_is_refused(models_copy: Registry, files: dict[str, bytes], version: str) -> None:
    later = save_again(models_copy, files)
    (models_copy.directory / later / "manifest.json").write_bytes((models_copy.directory / version / "manifest.json").read_bytes())

    with pytest.raises(IntegrityError, match="names version"):
        models_copy.load(later)


def test_a_bundle_that_does_not_reproduce_its_golden_windows_is_refused(models_copy: Registry, trained: Any, version: str) -> None:
    bundle = trained.registry.load(version)
    golden = pack(bundle, [trained.window(row) for row in (500, 900)])["golden.npz"]
    files = {name: (models_copy.directory / version / name).read_bytes() for name in FILES}
    moved = files | {"golden.npz": golden, "linear.npz": shifted_linear(bundle)}

    with pytest.raises(IntegrityError, match="golden window 0"):
        models_copy.load(save_again(models_copy, moved))


def shifted_linear(bundle: Any) -> bytes:
    linear = bundle.traded.linear
    return _npz(offset=linear.offset, scale=linear.scale, weights=linear.weights, intercept=linear.intercept + np.array([0.001, 0, 0]))


def test_a_model_of_another_feature_schema_is_refused(models_copy: Registry, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "SCHEMA_HASH", "0" * 16)

    with pytest.raises(IntegrityError, match="made for features"):
        models_copy.load(version)


# --- crashes -----------------------------------------------------------------------------------------------------


def dies_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the `call`-th call of `os.<name>` fail; all that follow fail too, as after a power cut."""
    real, calls = getattr(os, name), [0]

    def call_or_die(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] >= call:
            raise DiskGone(f"{name} {call}")
        return real(*arguments, **more)

    monkeypatch.setattr(registry_module.os, name, call_or_die)


@pytest.mark.parametrize(("name", "calls"), [("fsync", 10), ("open", 10), ("rename", 1)])
def test_a_crash_at_any_step_of_saving_leaves_the_old_champion_and_no_half_version(
    models_copy: Registry, files: dict[str, bytes], version: str, name: str, calls: int
) -> None:
    models_copy.promote(version)
    for call in range(1, calls + 1):
        with pytest.MonkeyPatch.context() as patch:
            dies_at(patch, name, call)
            try:
                saved = save_again(models_copy, files)
            except DiskGone:
                saved = ""
        after = Registry(models_copy.directory)
        bundle = after.load_champion()
        assert bundle is not None
        assert bundle.version == version
        assert all("error" not in entry for entry in after.versions())
        assert not saved or after.load(saved).version == saved
    assert save_again(models_copy, files)
    assert not list(models_copy.directory.glob(".new-v*"))


@pytest.mark.parametrize(("name", "calls"), [("fsync", 4), ("open", 4), ("replace", 2)])
def test_a_crash_at_any_step_of_promoting_leaves_the_old_champion_or_the_new_one(
    models_copy: Registry, files: dict[str, bytes], version: str, name: str, calls: int
) -> None:
    later = save_again(models_copy, files)
    for call in range(1, calls + 1):
        models_copy.promote(version)
        with pytest.MonkeyPatch.context() as patch:
            dies_at(patch, name, call)
            with pytest.raises(DiskGone):
                models_copy.promote(later)
        bundle = Registry(models_copy.directory).load_champion()
        assert bundle is not None
        assert bundle.version in (version, later)


# --- house-keeping -----------------------------------------------------------------------------------------------


def test_collecting_keeps_the_newest_the_champion_and_the_one_before_it(
    models_copy: Registry, files: dict[str, bytes], version: str
) -> None:
    names = [version, *(save_again(models_copy, files, reason=str(number)) for number in range(5))]
    models_copy.promote(names[0])
    models_copy.promote(names[2])

    deleted = models_copy.collect(2)
    assert sorted(deleted) == [names[1], names[3]]
    assert {entry["version"] for entry in models_copy.versions()} == {names[0], names[2], names[4], names[5]}
    assert models_copy.rollback() == names[0]


def test_everything_is_readable_by_its_owner_only(models_copy: Registry, files: dict[str, bytes]) -> None:
    later = save_again(models_copy, files)
    models_copy.promote(later)

    written = [models_copy.directory / "champion.json", models_copy.directory / ".key", *(models_copy.directory / later).iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


def test_a_set_of_files_that_is_not_a_version_is_a_bug(models_copy: Registry) -> None:
    with pytest.raises(ValueError, match="a version has the files"):
        models_copy.save({"linear.npz": b""}, window_rows=100, horizon_rows=10, facts={})
