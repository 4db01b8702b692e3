"""Fixtures that every room shares."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from ml_actor import openmp

# A machine without OpenMP: those that tests start find it by this path, and this process needs it before LightGBM is imported.
_LIBRARIES = tempfile.TemporaryDirectory(prefix="tests-openmp-")
os.environ.update(openmp.openmp_environment(Path(_LIBRARIES.name)))
openmp.preload()
# Else joblib warns where the machine does not tell its cores, as in a container.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count() or 1))

# A run of the tests says the same thing twice; to search for more, set HYPOTHESIS_PROFILE=search.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of real market recordings, or skip where it is absent (`TIDEBOOK_RECORDINGS` names it elsewhere)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TIDEBOOK_RECORDINGS", beside))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no market recordings at {folder}")
    return folder
