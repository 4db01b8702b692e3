from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ml_actor import openmp


def test_a_machine_with_openmp_needs_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_system_openmp", lambda: True)

    assert openmp.openmp_environment(tmp_path / "lib") == {}


def test_a_bare_machine_gets_the_wheels_copy_under_the_name_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "has_system_openmp", lambda: False)

    environment = openmp.openmp_environment(tmp_path / "lib")

    assert environment == {"LD_LIBRARY_PATH": str(tmp_path / "lib")}
    assert ctypes.CDLL(str(tmp_path / "lib" / "libgomp.so.1")).omp_get_max_threads() >= 1
