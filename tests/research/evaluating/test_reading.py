"""From a recording to rows: every book keeps its number, sessions end at gaps, and fees become ticks."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from framework.dataset.schema import from_table
from framework.errors import ConfigError
from framework.market.formats import open_source
from framework.model import Instrument
from framework.research.evaluating.options import EvaluationOptions, Fee
from framework.research.evaluating.reading import Opened, ReadFile, fee_ticks, in_order, read_recording
from framework.window import Rows

ES = Instrument(instrument_id="ESM4.CME", tick_size=Decimal("0.25"), multiplier=Decimal(50))


def shfe(path: Path, seconds: list[float], bids: list[int]) -> Path:
    """Write a recording in the SHFE layout: a spread of one tick, but crossed where the bid is above 3,010."""
    count = len(seconds)
    bid = np.array(bids, float)
    columns: dict[str, Any] = {"epochTime": [1_750_000_000_000_000 + int(1e6 * second) for second in seconds]}
    columns |= {"volume_chg": [1.0] * count, "avgprice": bid}
    for level in range(5):
        columns[f"bid{level + 1}"] = bid - level
        columns[f"ask{level + 1}"] = np.minimum(bid, 3_010) + 1 + level
        columns[f"bidSize{level + 1}"] = columns[f"askSize{level + 1}"] = np.full(count, 10.0 + level)
    pl.DataFrame(columns | {"instrumentID": ["rb2510"] * count, "exchangeID": ["SHFE"] * count}).write_parquet(path)
    return path


def read(path: Path, target: Path, **options: Any) -> tuple[ReadFile, Rows]:
    given = EvaluationOptions(horizons=(10,), state_dir=target.parent, **options)
    found = read_recording(Opened(path=path, role="test", source=open_source(path)), None, target, given, lambda share: None)
    return found, from_table(pq.read_table(found.rows_file))


def test_every_book_is_a_row_and_a_gap_ends_a_session(tmp_path: Path) -> None:
    found, rows = read(shfe(tmp_path / "a", [0, 0.5, 5.5, 10.6, 11], [3_000, 3_001, 3_002, 3_003, 3_004]), tmp_path / "rows")

    assert found.rows == len(rows) == 5
    assert rows.bid_ticks[:, 0].tolist() == [3_000, 3_001, 3_002, 3_003, 3_004]
    assert (np.diff(rows.segment) != 0).tolist() == [False, False, True, False]


def test_a_crossed_book_keeps_its_number_and_its_session_but_has_no_mid(tmp_path: Path) -> None:
    _, rows = read(shfe(tmp_path / "a", [0, 0.5, 1, 1.5], [3_000, 3_001, 3_015, 3_002]), tmp_path / "rows")

    assert rows.bid_sizes[:, 0].tolist() == [10, 10, 0, 10]
    assert rows.ask_sizes[:, 0].tolist() == [10, 10, 0, 10]
    assert len(set(rows.segment.tolist())) == 1


def test_only_the_best_levels_are_seen_where_that_is_asked(tmp_path: Path) -> None:
    _, rows = read(shfe(tmp_path / "a", [0, 0.5], [3_000, 3_001]), tmp_path / "rows", levels=2)

    assert (rows.bid_sizes > 0).sum(axis=1).tolist() == [2, 2]
    assert (rows.ask_sizes > 0).sum(axis=1).tolist() == [2, 2]


def test_the_same_books_have_the_same_digest_whatever_the_file_is_called(tmp_path: Path) -> None:
    first, _ = read(shfe(tmp_path / "a", [0, 0.5], [3_000, 3_001]), tmp_path / "r1")
    again, _ = read(shfe(tmp_path / "b", [0, 0.5], [3_000, 3_001]), tmp_path / "r2")
    other, _ = read(shfe(tmp_path / "c", [0, 0.5], [3_000, 3_002]), tmp_path / "r3")

    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("fee", "ticks"),
    [(Fee(amount=Decimal("1.25")), 0.1), (Fee(amount=Decimal(2), is_basis_points=True), 4.0), (Fee(amount=Decimal("-1.25")), -0.1)],
)
def test_a_fee_is_money_a_lot_or_a_share_of_the_price(fee: Fee, ticks: float) -> None:
    assert fee_ticks(fee, ES, 20_000) == pytest.approx(ticks)


def test_a_file_of_several_instruments_is_refused(tmp_path: Path) -> None:
    source: Any = SimpleNamespace(path=tmp_path / "both", instruments=(ES, Instrument(instrument_id="NQM4.CME", tick_size=Decimal("0.25"))))
    options = EvaluationOptions(horizons=(10,), state_dir=tmp_path)

    with pytest.raises(ConfigError, match=r"both: holds 2 instruments \(ESM4.CME, NQM4.CME\); rows are numbered per file: allowed one"):
        read_recording(Opened(path=tmp_path / "both", role="test", source=source), None, tmp_path / "rows", options, lambda share: None)


def test_files_are_read_in_time_order_each_after_the_one_of_its_instruments() -> None:
    def opened(name: str, start_ns: int, instrument: Instrument) -> Opened:
        source: Any = SimpleNamespace(name=name, start_ns=start_ns, instruments=(instrument,))
        return Opened(path=Path(name), role="test", source=source)

    other = Instrument(instrument_id="NQM4.CME", tick_size=Decimal("0.25"))
    given = [opened("c", 3, ES), opened("a", 1, ES), opened("b", 2, other)]

    order = [(one.path.name, before.name if before else None) for one, before in in_order(given)]  # type: ignore[attr-defined]

    assert order == [("a", None), ("b", None), ("c", "a")]
