"""A quick way to run the whole trading process in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.harness import Run, record_market, strategy


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A run in a fresh state directory, with the ML strategy and the plain one unless the test says otherwise."""
    numbers = itertools.count(1)

    def make(**options: Any) -> Run:
        options.setdefault("state_dir", tmp_path / f"state-{next(numbers)}")
        options.setdefault("strategies", [strategy("ml_futures"), strategy("book_imbalance")])
        return Run(**options)

    return make


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of a market, recorded."""
    return record_market(tmp_path_factory.mktemp("recorded") / "market", duration_s=40.0)
