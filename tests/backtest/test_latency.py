"""Latencies: what the user may write, and that the same seed draws the same ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from framework.backtest.engine import Plan, Source, execute
from framework.backtest.latency import Constant, Lognormal, Profile, drawn_by, read_latency
from framework.backtest.profiling import record_profile
from framework.errors import ConfigError


def test_a_number_is_a_constant_in_milliseconds() -> None:
    draw = drawn_by(read_latency("2.5"), seed=1)

    assert [draw() for _ in range(3)] == [2_500_000] * 3


def test_the_same_seed_draws_the_same_latencies_and_another_one_others() -> None:
    draws = [drawn_by(Lognormal(5.0, 0.5), seed) for seed in (3, 3, 4)]
    first, again, other = ([draw() for _ in range(5_000)] for draw in draws)

    assert first == again != other
    assert np.median(first) == pytest.approx(5_000_000, rel=0.05)
    assert np.std(np.log(first)) == pytest.approx(0.5, rel=0.05)


def test_a_profile_draws_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(msgspec.json.encode(Profile([1.0, 7.0], source="run 3")))

    latency = read_latency(str(path))
    draw = drawn_by(latency, seed=1)

    assert latency.name == str(path)
    assert {draw() for _ in range(100)} == {1_000_000, 7_000_000}


def test_names_are_what_the_user_writes() -> None:
    assert [latency.name for latency in (Constant(5.0), Lognormal(5.0, 0.5))] == ["5", "lognormal:5,0.5"]
    assert read_latency("lognormal:5,0.5") == Lognormal(5.0, 0.5)


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "1e9", "fast", "lognormal:", "lognormal:0,1", "lognormal:5", "lognormal:5,-1", "lognormal:5,99"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--latency: found .*allowed milliseconds"):
        read_latency(text)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"round_trips_ms": []}', b'{"round_trips_ms": [-1]}', b"\x00\xff"])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)

    with pytest.raises(ConfigError, match=r"bad\.json"):
        read_latency(str(tmp_path / "bad.json"))


def test_a_profile_is_recorded_from_the_predictions_of_a_run(
    plan: Callable[..., Plan], answered: Callable[[], Source], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    execute(replace(plan("ml_futures"), latency=Lognormal(20.0, 0.3), keep=kept), answered(), lambda _stage, _share: None)

    profile = record_profile(kept, tmp_path / "latency.json")

    assert read_latency(str(tmp_path / "latency.json")) == msgspec.structs.replace(profile, path=str(tmp_path / "latency.json"))
    assert len(profile.round_trips_ms) > 50
    assert profile.quantiles_ms()["p50"] == pytest.approx(20.0, rel=0.2)


def test_a_run_without_predictions_gives_no_profile(plan: Callable[..., Plan], tmp_path: Path) -> None:
    execute(replace(plan(), keep=tmp_path / "kept"), Source(kind="off"), lambda _stage, _share: None)

    with pytest.raises(ConfigError, match="no prediction was received"):
        record_profile(tmp_path / "kept", tmp_path / "latency.json")
