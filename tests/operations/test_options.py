"""What `start` is asked for and says at the end."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from framework.config import MainConfig
from framework.operations.options import StartOptions, Summary, summary_table


@pytest.mark.parametrize(("market", "is_simulated"), [(("simulated",), True), (("a.parquet",), False), (("simulated", "a"), False)])
def test_a_market_is_simulated_or_files(market: tuple[str, ...], is_simulated: bool) -> None:
    options = StartOptions(config=MainConfig(), config_path=None, state_dir=Path("s"), market=market)

    assert options.is_simulated == is_simulated


def test_a_summary_is_one_line_of_json_with_exact_money() -> None:
    text = Summary(events=3, realized_pnl=Decimal("0.10"), fees=Decimal("1.70"), counters={"x": 1}).to_json()

    assert "\n" not in text
    assert {"events": 3, "realized_pnl": "0.10", "fees": "1.70", "model_version": None, "counters": {"x": 1}}.items() <= json.loads(
        text
    ).items()


def test_a_summary_table_has_every_number() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(
        summary_table(Summary(events=1_234_567, position=-3, realized_pnl=Decimal("-1234.50"), loop_lag_ms_p99=1.234, restarts=2))
    )
    text = console.file.getvalue()  # type: ignore[attr-defined]

    for part in ("1,234,567", "-3", "-1,234.50", "1.23", "none", "restarts of the ML process"):
        assert part in text


def test_an_amount_of_nothing_is_shown_as_a_number_and_not_as_a_power_of_ten() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table(Summary(realized_pnl=Decimal("0E-7"))))

    assert "E-7" not in console.file.getvalue()  # type: ignore[attr-defined]
