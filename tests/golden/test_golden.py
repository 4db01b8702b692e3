"""Every shipped strategy does on the golden recording what it did when that was last written down.

A difference is either a bug or a change that was meant: then `python -m tests.golden --write`, and the commit says why.
"""

from __future__ import annotations

import pytest

from framework.operations.lineup import HOME
from tests.golden.__main__ import read
from tests.golden.golden import STRATEGIES, Golden, runs


@pytest.fixture(scope="module")
def found() -> Golden:
    return runs()


@pytest.mark.parametrize("name", ["market", *STRATEGIES])
def test_the_run_is_the_golden_one(found: Golden, name: str) -> None:
    assert found[name] == read()[name]


def test_every_shipped_strategy_has_a_golden_run_that_trades() -> None:
    assert {path.stem for path in (HOME / "config" / "strategies").glob("*.yaml")} == set(STRATEGIES)
    assert all(read()[name]["orders"] > 3 for name in STRATEGIES)
