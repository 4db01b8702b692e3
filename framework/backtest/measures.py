"""What a run earned and how sure that is: totals, drawdown, Sharpe ratios deflated by the number of tries, and a reviewer's warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from framework.backtest.capacity import turnover
from framework.backtest.engine import MODEL, Run, market_seconds
from framework.model import NS_PER_S
from framework.multiplicity import deflated

PERIOD_S: Final = 60.0
FEW_TRADES: Final = 30
MANY_PARAMETERS: Final = 10
STALE_S: Final = 5.0
Facts = dict[str, Any]


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a run (`frames`)."""

    fills: pl.DataFrame
    trades: pl.DataFrame
    account: pl.DataFrame
    predictions: pl.DataFrame


def measure(run: Run, tables: Tables, *, trials: int, earlier_sharpes: Sequence[float]) -> Facts:
    """Return the figures of a run, as plain values. Money is in the instrument's currency; `sharpe` is per minute, not annualised."""
    account, fills, trades = tables.account, tables.fills, tables.trades
    returns = minutes(account)
    net = float(account["equity"][-1]) if len(account) else 0.0
    return {
        "net": round(net, 6),
        "gross": round(float(account["gross"][-1]) if len(account) else 0.0, 6),
        "fees": round(float(fills["fee"].sum()), 6),
        "max_drawdown": round(float(account["drawdown"].max() or 0.0), 6) if len(account) else 0.0,  # type: ignore[arg-type]
        "trades": len(trades),
        "win_rate": _mean(trades["net"] > 0) if len(trades) else None,
        "mean_trade": _mean(trades["net"]) if len(trades) else None,
        "mean_duration_s": _mean(trades["duration_s"]) if len(trades) else None,
        "fills": len(fills),
        "maker_share": _mean(fills["liquidity"] == "MAKER") if len(fills) else None,
        "lots_traded": int(fills["quantity"].sum()),
        "turnover": round(turnover(run), 6),
        "net_bp": _basis_points(net, turnover(run)),
        "slippage_ticks": _mean(fills["slippage_ticks"]) if len(fills) else None,
        "exposure": _mean(account["position"] != 0) if len(account) else 0.0,
        "market_s": round(market_seconds(run), 3),
        "minutes": len(returns),
        "deflated_sharpe": _plain(deflated(returns, trials, earlier_sharpes)),
        "trials": trials,
        "markouts_ticks": _markouts(fills),
        "orders": run.summary.orders,
        "decisions": run.summary.decisions,
        "predictions": run.summary.predictions,
        "predictions_failed": run.summary.predictions_failed,
        "calibration": calibration(tables.predictions),
    }


def _basis_points(net: float, moved: float) -> float | None:
    return round(net / moved * 1e4, 6) if moved else None


def minutes(account: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what the account earned in each minute of market time that has books."""
    if not len(account):
        return np.zeros(0)
    minute = (account["ts_event"] // round(PERIOD_S * NS_PER_S)).alias("minute")
    ends = account.select(minute, "equity").group_by("minute", maintain_order=True).last()["equity"].to_numpy()
    return np.diff(ends, prepend=0.0)


def calibration(predictions: pl.DataFrame, bins: int = 10) -> list[Facts]:
    """Return, by confidence of the predictions that claim a direction: how many, how sure, how often right, the mean move their way."""
    claimed = predictions.filter((pl.col("direction") != 0) & pl.col("move_ticks").is_not_null()).sort("confidence")
    if not len(claimed):
        return []
    number = (pl.int_range(pl.len()) * bins // pl.len()).alias("bin")
    moved = pl.col("direction") * pl.col("move_ticks")
    table = claimed.with_columns(number).group_by("bin", maintain_order=True)
    lines = table.agg(
        pl.len().alias("count"),
        pl.col("confidence").mean(),
        ((moved > 0).sum() / (moved != 0).sum()).alias("hit_rate"),
        moved.mean().alias("move_ticks"),
        (pl.col("direction") * pl.col("late_move_ticks")).mean().alias("late_move_ticks"),
    )
    return [_plain(line) for line in lines.drop("bin").to_dicts()]


def warnings(run: Run, tables: Tables, facts: Facts, parameters: int) -> list[str]:
    """Return what a careful reviewer would say about the run, worst first."""
    checks = (
        _look_ahead(run),
        _unanswered(run),
        _bookless(tables),
        _in_bars(run),
        _few(facts),
        _one_day(tables),
        _stale(tables),
        _fees(facts),
        _parameters(facts, parameters),
    )
    return [words for words in (*checks, _luck(facts), _open_end(tables)) if words]


def _look_ahead(run: Run) -> str:
    about = run.source.about
    if run.source.kind != MODEL or about is None or not about.trained_to_ns or about.trained_to_ns <= run.start_ns:
        return ""
    covered = (min(about.trained_to_ns, run.end_ns) - max(about.trained_from_ns, run.start_ns)) / max(run.end_ns - run.start_ns, 1)
    when = datetime.fromtimestamp(about.trained_to_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M")
    if covered <= 0:
        return f"look-ahead: model {about.version} learned from data until {when}, after the end of this backtest"
    return f"look-ahead: model {about.version} learned from data until {when}, which covers {covered:.0%} of this backtest"


def _unanswered(run: Run) -> str:
    misses = run.source.answers.misses if run.source.answers is not None else 0
    if misses <= len(run.instruments):  # the last request of a run is cut off by its end, so no recording has its answer
        return ""
    return f"{misses} requests had no recorded answer: the strategy asked at other books than the run that was recorded"


def _bookless(tables: Tables) -> str:
    return "no books in the recordings: orders are matched against books, so none could be filled" if not len(tables.account) else ""


def _in_bars(run: Run) -> str:
    if not run.in_bars:
        return ""
    names = ", ".join(sorted(run.in_bars))
    return (
        f"filled on bars ({names}): nobody knows the way between their four prices; fills assume the worse one "
        f"and {run.plan.settings.paper.bar_slippage_ticks} ticks of slippage, and know no queue"
    )


def _few(facts: Facts) -> str:
    return f"too few trades: {facts['trades']}, at least {FEW_TRADES} say something" if facts["trades"] < FEW_TRADES else ""


def _one_day(tables: Tables) -> str:
    account = tables.account
    day = (account["ts_event"] // (86_400 * NS_PER_S)).alias("day")
    ends = account.select(day, "equity").group_by("day", maintain_order=True).last()["equity"].to_numpy()
    if len(ends) < 2:
        return "one day only: nothing says that the next one is like it"
    days = np.diff(ends, prepend=0.0)
    total = float(ends[-1])
    if total > 0 and days.max() > total / 2:
        return f"one day makes the result: {days.max() / total:.0%} of it"
    return ""


def _stale(tables: Tables) -> str:
    stale = tables.fills.filter(pl.col("book_age_s") > STALE_S)
    return f"{len(stale)} fills at prices of a book older than {STALE_S:g} s" if len(stale) else ""


def _fees(facts: Facts) -> str:
    return "it earns before fees and loses after them" if facts["gross"] > 0 >= facts["net"] else ""


def _parameters(facts: Facts, parameters: int) -> str:
    each = facts["trades"] / parameters if parameters else math.inf
    return f"{parameters} parameters and {facts['trades']} trades: {each:.1f} trades for each" if each < MANY_PARAMETERS else ""


def _luck(facts: Facts) -> str:
    probability = facts["deflated_sharpe"]["probability"]
    if facts["net"] <= 0 or probability is None or probability >= 0.95:
        return ""
    return f"luck: {facts['trials']} tries on these recordings; the probability of skill after deflation is {probability:.0%}"


def _open_end(tables: Tables) -> str:
    held = int(tables.account["position"][-1]) if len(tables.account) else 0
    return f"the run ends with {held:+d} lots, valued at the last mid" if held else ""


def _markouts(fills: pl.DataFrame) -> dict[str, Facts]:
    return {
        str(liquidity): {
            column.removeprefix("markout_"): _mean(fills.filter(pl.col("liquidity") == liquidity)[column])
            for column in fills.columns
            if column.startswith("markout_")
        }
        for liquidity in sorted(fills["liquidity"].unique())
    }


def _mean(series: pl.Series) -> float | None:
    mean = series.cast(pl.Float64).mean()
    return None if mean is None else round(float(mean), 6)  # type: ignore[arg-type]


def _plain(facts: Facts) -> Facts:
    """Return the values with NaN as None and floats of six places."""
    return {name: (None if math.isnan(value) else round(value, 6)) if isinstance(value, float) else value for name, value in facts.items()}
