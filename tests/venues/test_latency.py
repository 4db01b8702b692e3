from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import PaperConfig
from framework.errors import ConfigError
from framework.venues.latency import ConstantLatency, Line, LognormalLatency, RecordedLatency, latencies


def test_a_constant_latency_is_the_default() -> None:
    out, back = latencies(PaperConfig(order_latency_ms=2.0, response_latency_ms=0.5))

    assert (out(5), back(9)) == (2_000_000, 500_000)


def test_a_spread_draws_around_the_median_and_the_same_seed_draws_the_same() -> None:
    drawn = [latencies(PaperConfig(latency_spread=0.5, latency_seed=seed))[0] for seed in (1, 1, 2)]
    first, again, other = ([latency(0) for _ in range(2_001)] for latency in drawn)

    assert first == again != other
    assert sorted(first)[1_000] == pytest.approx(2_000_000, rel=0.05)
    assert min(first) > 0
    assert LognormalLatency(median_ns=7, sigma=0.0, seed=1)(0) == 7


def test_a_recorded_latency_is_interpolated_and_holds_outside_of_the_recording() -> None:
    latency = RecordedLatency([(100, 10), (200, 30), (300, 20)])

    assert [latency(now) for now in (0, 100, 150, 200, 250, 300, 999)] == [10, 10, 20, 30, 25, 20, 20]


def test_a_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.csv"
    path.write_text("ts_ns,order_ns,response_ns\n0,10,100\n10,20,200\n")
    out, back = latencies(PaperConfig(latency_profile=str(path)))

    assert (out(5), back(5)) == (15, 150)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ts_ns,order_ns\n0,1\n",
        "ts_ns,order_ns,response_ns\n0,1.5,1\n",
        "ts_ns,order_ns,response_ns\n5,1,1\n5,1,1\n",
        "ts_ns,order_ns,response_ns\n0,-1,1\n",
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.csv"
    path.write_text(text)

    with pytest.raises(ConfigError, match="a latency profile"):
        latencies(PaperConfig(latency_profile=str(path)))


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a latency profile"):
        latencies(PaperConfig(latency_profile=str(tmp_path / "none.csv")))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=30))
def test_nothing_overtakes_on_a_line(sends: list[tuple[int, int]]) -> None:
    taken = iter([latency for _, latency in sends])
    line, now, arrivals = Line(lambda _: next(taken)), 0, []
    for gap, latency in sends:
        now += gap
        arrivals.append(line.arrival_ns(now))
        assert arrivals[-1] >= now + latency

    assert arrivals == sorted(arrivals)
    assert ConstantLatency(3)(0) == 3
