from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from ml_actor import openmp

ROOT = Path(__file__).resolve().parents[2]


def test_a_machine_with_openmp_needs_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_system_openmp", lambda: True)

    assert openmp.openmp_environment(tmp_path / "lib") == {}


def test_a_bare_machine_gets_the_wheels_copy_under_the_name_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_system_openmp", lambda: False)

    environment = openmp.openmp_environment(tmp_path / "lib")

    assert environment == {"LD_LIBRARY_PATH": str(tmp_path / "lib")}
    assert ctypes.CDLL(str(tmp_path / "lib" / "libgomp.so.1")).omp_get_max_threads() >= 1


def test_a_process_that_runs_can_load_the_copy_under_the_name_that_is_asked_for() -> None:
    script = """
import ctypes
from ml_actor import openmp
openmp.has_system_openmp = lambda: False
assert openmp.preload()
loaded = [line for line in open("/proc/self/maps") if "libgomp.so.1" in line]
assert loaded and all("openmp-" in line for line in loaded), loaded
# The loader gives what it has under this name, and looks for no file.
assert ctypes.CDLL("libgomp.so.1").omp_get_max_threads() >= 1
assert not [line for line in open("/proc/self/maps") if "libgomp.so.1" in line and "openmp-" not in line]
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_machine_with_openmp_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_system_openmp", lambda: True)

    assert not openmp.preload()
