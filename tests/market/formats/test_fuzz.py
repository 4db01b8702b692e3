"""A slice of `fuzz.py`: files broken at random end in events or in a clear error, in every format."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("databento_dbn")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_broken_files_end_in_events_or_in_a_clear_error(tmp_path: Path) -> None:
    fuzz = load()

    outcomes = Counter(fuzz.run(tmp_path, 1_500, 11))

    assert {name for name, _ in outcomes} == set(fuzz.samples(tmp_path))
    assert {outcome for _, outcome in outcomes} == {"events", "ConfigError", "IntegrityError"}
