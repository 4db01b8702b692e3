"""A slice of the soak: some virtual minutes with every fault, and that what grows is seen."""

from __future__ import annotations

import pytest

from tests.faults.held import MIB, Found, Sample, growth
from tests.faults.soak_virtual import run


def test_some_minutes_with_a_fault_every_ten_seconds_end_well() -> None:
    found = run(3, 240.0, book_interval_ms=250.0)

    assert found.violations == []
    assert found.faults.total() == 20
    assert found.predictions > 200
    assert found.orders > 50
    assert {one.descriptors for one in found.samples} == {found.samples[0].descriptors}


def _samples(rss: float = 0.0, descriptors: float = 0.0, tasks: float = 0.0) -> list[Sample]:
    """A run of a hundred minutes that settles in the first quarter, and then grows by so much a minute."""
    grown = [max(0, minute - 25) for minute in range(100)]
    return [
        Sample(60.0 * minute, 200 * MIB + round(rss * more), 12 + round(descriptors * more), 4 + round(tasks * more), 5 + minute % 3)
        for minute, more in enumerate(grown)
    ]


@pytest.mark.parametrize("grows", [{"rss": 0.2 * MIB}, {"descriptors": 0.1}, {"tasks": 0.05}])
def test_what_grows_slowly_is_seen(grows: dict[str, float]) -> None:
    found = Found("grows", samples=_samples(**grows))

    found.judge()

    assert [text.split()[0] for text in found.violations] == list(grows)


def test_what_only_goes_up_and_down_is_flat() -> None:
    found = Found("flat", samples=_samples())

    found.judge()

    assert found.violations == []
    assert growth(found.samples, "descriptors") == (12.0, 0.0)


def test_too_few_samples_are_not_called_flat() -> None:
    found = Found("short", samples=_samples()[:1])

    found.judge()

    assert len(found.violations) == 4
