"""The state directory: private, and owned by one process at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from framework.errors import ConfigError, StartRefused
from framework.operations.state_dir import StateDir

OWNER = """
import sys
from pathlib import Path
from framework.operations.state_dir import StateDir
with StateDir(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def owner_process(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_new_directory_is_closed_to_others(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "a" / "state").create()

    assert state.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(ConfigError) as caught:
        StateDir(path).create()

    assert str(caught.value) == f"state directory {path}: mode {mode:04o} lets others write; allowed 0700 (chmod 700 {path})"


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("")

    with pytest.raises(ConfigError, match="no directory"):
        StateDir(path).create()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, 12_345, 12_345)

    with pytest.raises(ConfigError, match="belongs to user 12345, not to user 0"):
        StateDir(path).create()


@pytest.mark.parametrize("name", ["journal.sqlite", "lock", "models", "control.sock", "training_data.parquet"])
def test_a_link_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    (path / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match=f"{name} is a symbolic link"):
        StateDir(path).create()


@pytest.mark.parametrize("path", ["bad\0name", "x" * 300])
def test_a_path_that_cannot_exist_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be created"):
        StateDir(tmp_path / path).create()


def test_control_characters_of_the_path_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[31m\nname"
    path.write_text("")

    with pytest.raises(ConfigError) as caught:
        StateDir(path).create()

    assert "evil\\x1b[31m\\nname" in str(caught.value)


def test_a_second_owner_is_refused_and_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with owner_process(tmp_path / "state") as owner:
        second = StateDir(tmp_path / "state").create()

        with pytest.raises(StartRefused) as caught:
            second.lock()

        assert f"in use by process {owner.pid};" in str(caught.value)
        assert caught.value.exit_code == 3
        assert second.is_locked()
        assert owner.stdin is not None
        owner.stdin.close()


def test_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    with owner_process(tmp_path / "state") as owner:
        owner.kill()
    state = StateDir(tmp_path / "state").create()

    assert state.last_owner() == owner.pid
    assert not state.is_locked()
    state.lock()
    assert state.last_owner() == os.getpid()
    state.unlock()


def test_unlock_gives_the_directory_free(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state") as first:
        assert first.is_locked()
        first.lock()

    assert not first.is_locked()
    assert first.last_owner() is None
    with StateDir(tmp_path / "state") as second:
        assert second.last_owner() == os.getpid()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state"):
        child = subprocess.Popen(["sleep", "30"])
    try:
        assert not StateDir(tmp_path / "state").is_locked()
    finally:
        child.kill()
        child.wait()


def test_one_who_only_looks_does_not_keep_a_start_from_working(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state").create()
    state.lock()
    state.unlock()
    looking = os.open(state.lock_file, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    leaving = threading.Timer(0.02, os.close, [looking])
    leaving.start()

    state.lock()

    leaving.join()
    assert state.last_owner() == os.getpid()
    state.unlock()
