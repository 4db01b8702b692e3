"""What rows and version tell: recomputed exactly, completely parted, and honest about what is gone."""

from __future__ import annotations

import shutil
from typing import Any

import msgspec
import numpy as np
import pytest

from framework.errors import IntegrityError
from ml_actor.explanation.account import explain
from ml_actor.explanation.rows import NotFound, find_rows
from ml_actor.preparation import window_at
from ml_actor.registry import Registry

HORIZON = 10
SEALED = 7_000


@pytest.mark.parametrize("row", [5_000, SEALED - 5, SEALED + 200])
def test_a_prediction_is_computed_again_to_the_last_bit(made: Any, row: int) -> None:
    explained = explain(made.job(row))

    assert explained["missing"] == []
    assert explained["probabilities"]["largest_difference"] == 0.0
    features = {one["name"]: one["value"] for one in explained["features"]}
    bundle = Registry(made.state_dir / "models").load(made.version)
    expected = bundle.engine.transform(window_at(made.recording, row, 100))
    for name, value in zip(bundle.engine.names, expected, strict=True):
        assert features[name] == (None if np.isnan(value) else pytest.approx(value))


def test_contributions_leave_nothing_over(made: Any) -> None:
    parts = explain(made.job(5_000))["contributions"]

    # Linear terms and trees are exact; what a net adds is an integral in steps.
    assert parts["left_over"] == pytest.approx(0.0, abs=5e-3)
    assert parts["base"] + sum(item["total"] for item in parts["items"]) + parts["left_over"] == pytest.approx(parts["log_odds"])
    sizes = [abs(item["total"]) for item in parts["items"]]
    assert sizes == sorted(sizes, reverse=True)
    assert {"linear", "trees"} <= set(parts["how"])


def test_the_planted_signal_is_what_contributes_most(made: Any) -> None:
    top = [item["name"] for item in explain(made.job(5_000))["contributions"]["items"][:10]]

    sided = ("imbalance", "size_ratio", "weighted_mid", "up_probability", "micro", "slope", "drain")
    assert any(name.startswith(sided) for name in top)


@pytest.mark.parametrize("row", [5_000, SEALED - 5, SEALED + 200])
def test_what_happened_next_is_what_the_rows_say(made: Any, row: int) -> None:
    after = explain(made.job(row))["next"]

    assert after["move_ticks"] == made.mid(row + HORIZON) - made.mid(row)
    assert after["happened"] == ("down", "flat", "up")[int(np.sign(after["move_ticks"])) + 1]
    assert len(after["path_ticks"]) == 10
    times = made.recording.rows.ts_event
    decided_ns = int(times[row]) + 5_000_000
    at_5_s = int(np.searchsorted(times, decided_ns + 5_000_000_000, side="right")) - 1
    assert after["markouts_ticks"]["5"] == made.mid(at_5_s) - made.mid(row)


def test_what_happened_is_told_of_each_horizon_and_what_it_said_is_computed_again(made: Any) -> None:
    explained = explain(made.job(5_000))
    (said,) = made.prediction(1, 5_000).horizons
    (after,), (again,) = explained["next"]["horizons"], explained["horizons"]

    assert (after["horizon_rows"], after["move_ticks"]) == (30, made.mid(5_030) - made.mid(5_000))
    chances = {"down": said.p_down, "flat": said.p_flat, "up": said.p_up}
    assert after["probability_of_what_happened"] == chances[after["happened"]]
    assert again == {"horizon_rows": 30, "largest_difference": 0.0}


def test_a_horizon_that_the_version_does_not_know_or_says_otherwise_is_told(made: Any) -> None:
    (said,) = made.prediction(1, 5_000).horizons
    other = msgspec.structs.replace(said, p_down=said.p_down + 0.125, p_flat=said.p_flat - 0.125)
    unknown = msgspec.structs.replace(said, horizon_rows=31)
    found = explain(made.job(5_000, horizons=(other, unknown)))["horizons"]

    assert [one["largest_difference"] for one in found] == [pytest.approx(0.125), None]


def test_the_end_of_the_rows_says_that_the_future_is_not_there_yet(made: Any) -> None:
    after = explain(made.job(len(made.recording.rows) - 3))["next"]

    assert "not there yet" in after["unknown"]
    assert after["markouts_ticks"] == {}


def test_the_end_of_a_session_says_so(made: Any) -> None:
    last = int(np.flatnonzero(np.diff(made.recording.rows.segment))[0])

    after = explain(made.job(last - 2))["next"]

    assert "session ended" in after["unknown"]


def test_the_window_is_summed_up_in_its_own_numbers(made: Any) -> None:
    window = explain(made.job(5_000))["window"]
    rows = window_at(made.recording, 5_000, 100).rows

    assert window["rows"] == len(rows)
    assert window["mid_ticks"] == made.mid(5_000)
    assert window["bought_lots"] == rows.flow[:, 0].sum()
    assert window["bid_sizes"] == rows.bid_sizes[-1].tolist()


# --- what is gone -------------------------------------------------------------------------------------------------------------


def test_without_a_dataset_the_version_is_still_named(own: Any) -> None:
    shutil.rmtree(own.state_dir / "training_data.parquet")

    explained = explain(own.job(5_000))

    assert explained["model"]["calibration"]
    assert "window" not in explained
    assert "there is no dataset" in explained["missing"][0]


def test_without_the_version_window_and_future_are_still_told(own: Any) -> None:
    job = own.job(5_000)
    shutil.rmtree(own.state_dir / "models" / own.version)

    explained = explain(job)

    assert explained["window"]["mid_ticks"] == own.mid(5_000)
    assert explained["next"]["move_ticks"] == own.mid(5_000 + HORIZON) - own.mid(5_000)
    assert "no version" in explained["missing"][0]


def test_a_damaged_version_is_not_used_and_said_so(own: Any) -> None:
    job = own.job(5_000)
    path = own.state_dir / "models" / own.version / "linear.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    explained = explain(job)

    assert "contributions" not in explained
    assert "manifest signed" in explained["missing"][0]


def test_a_damaged_part_is_not_used_and_the_rows_beside_it_are(own: Any) -> None:
    parts = sorted((own.state_dir / "training_data.parquet").glob("part-*.parquet"))
    content = bytearray(parts[0].read_bytes())
    content[len(content) // 2] ^= 1
    parts[0].write_bytes(content)

    lost = explain(own.job(100))
    kept = explain(own.job(5_000))

    assert "damaged parts may have held it" in lost["missing"][0]
    assert kept["probabilities"]["largest_difference"] == 0.0


def test_a_damaged_manifest_is_an_integrity_error(own: Any) -> None:
    manifest = own.state_dir / "training_data.parquet" / "_manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])

    with pytest.raises(IntegrityError, match="not a manifest"):
        explain(own.job(5_000))


def test_rows_of_another_instrument_are_named(made: Any) -> None:
    explained = explain(made.job(5_000, instrument_id="ES.CME"))

    assert "no rows of ES.CME; it has BOOK.TEST" in explained["missing"][0]


def test_a_row_that_never_was_is_not_found(made: Any) -> None:
    with pytest.raises(NotFound, match=r"row 99 of BOOK\.TEST is not in the dataset"):
        find_rows(made.state_dir / "training_data.parquet", "BOOK.TEST", ts_event=5, sequence=99, before=10, after=10)


def test_rows_that_are_sealed_and_rows_in_the_tail_join_without_a_gap(made: Any) -> None:
    rows = made.recording.rows

    found = find_rows(
        made.state_dir / "training_data.parquet",
        "BOOK.TEST",
        ts_event=int(rows.ts_event[SEALED]),
        sequence=int(rows.sequence[SEALED]),
        before=300,
        after=300,
    )

    assert found.row == 300
    assert np.array_equal(found.recording.rows.sequence, rows.sequence[SEALED - 300 : SEALED + 301])
