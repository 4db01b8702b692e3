"""The status document: what runs and how it is, as one value that scripts read as JSON and people as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.logs import foreign
from framework.messages import HorizonPrediction
from framework.model import NS_PER_S, FlowType, OrderStatus, Side, TradingState


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One of our open orders; `limit_ticks` and `limit_price` are None for a market order."""

    client_order_id: str
    side: Side
    quantity: int
    filled_quantity: int
    limit_ticks: int | None
    limit_price: Decimal | None
    status: OrderStatus

    @property
    def open_quantity(self) -> int:
        """Return the lots that are still to be filled."""
        return self.quantity - self.filled_quantity


class LastPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """The newest prediction of a strategy; `age_s` counts from the last row that the model saw."""

    flow_type: FlowType
    confidence: float
    age_s: float
    model_version: str
    is_calibrated: bool = False
    round_trip_ms: float | None = None
    horizons: tuple[HorizonPrediction, ...] = ()


class StrategyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One deployed strategy. `state` is RUNNING, QUARANTINED or STOPPED; `reason` says why it does not run."""

    name: str
    strategy: str
    instrument_id: str
    state: str = "RUNNING"
    reason: str = ""
    position_lots: int = 0
    average_price: Decimal | None = None
    realized_pnl: Decimal = Decimal(0)
    unrealized_pnl: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    open_orders: tuple[OpenOrder, ...] = ()
    last_prediction: LastPrediction | None = None
    earlier_predictions: tuple[LastPrediction, ...] = ()
    counters: dict[str, int] = {}


class MLStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The ML process: UP, DOWN, NO_MODEL, TRAINING or OFF. `training_progress` is 0 to 1 while a training runs.

    `learning` is what the process itself says about trials and drift (docs/ml_service.md), empty while it does not answer.
    """

    state: str = "OFF"
    model_version: str | None = None
    restarts: int = 0
    training_progress: float | None = None
    training_stage: str = ""
    detail: str = ""
    learning: dict[str, Any] = {}


class FeedbackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many feedback records there are, and where."""

    recorded: int = 0
    acknowledged: int = 0
    pending: int = 0
    dropped: int = 0


class LoopLag(msgspec.Struct, frozen=True, kw_only=True):
    """How late the event loop is, ms."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `speed` None is as fast as possible; `progress` is 0 to 1, or None where nobody knows."""

    pid: int
    state_dir: str
    market: tuple[str, ...]
    market_time_ns: int
    uptime_s: float = 0.0
    speed: float | None = None
    progress: float | None = None
    trading_state: TradingState = TradingState.ACTIVE
    trading_reason: str = ""
    strategies: tuple[StrategyStatus, ...] = ()
    ml: MLStatus = MLStatus()
    feedback: FeedbackStatus = FeedbackStatus()
    loop_lag: LoopLag = LoopLag()
    counters: dict[str, int] = {}


STATE_STYLES: Final = {
    "RUNNING": "green",
    "ACTIVE": "green",
    "UP": "green",
    "MODEL": "green",
    "TRAINING": "cyan",
    "NO_MODEL": "yellow",
    "REDUCE_ONLY": "yellow",
    "STOPPED": "yellow",
    "DOWN": "red",
    "HALTED": "red",
    "QUARANTINED": "red",
}


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(foreign(state, 40), style=STATE_STYLES.get(state, ""))


def money(amount: Decimal) -> Text:
    """Return an amount with two digits, red below zero."""
    return Text(f"{amount:,.2f}", style="red" if amount < 0 else "")


def market_time(ns: int) -> str:
    """Return a market time as text, UTC; dashes for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "----------"


def speed_text(speed: float | None) -> str:
    """Return a speed as the CLI spells it."""
    return "max" if speed is None else f"{speed:g}x"


def status_view(status: Status) -> RenderableType:
    """Return the status as tables for a terminal."""
    return Group(_facts(status), strategies_view(status.strategies), *([_counters(status.counters)] if status.counters else []))


def strategies_view(strategies: tuple[StrategyStatus, ...]) -> RenderableType:
    """Return a block of lines per strategy, readable at any width."""
    if not strategies:
        return Text("No strategy is deployed; deploy one with: main.py deploy-strategy --config config/strategies/ml_futures.yaml")
    return Group(*(_strategy(strategy) for strategy in strategies))


def prediction_text(prediction: LastPrediction | None) -> str:
    """Return a prediction in a few words."""
    if prediction is None:
        return "none"
    further = "".join(f", over {one.horizon_rows} rows {one.flow_type} {one.confidence:.2f}" for one in prediction.horizons)
    age = f"{prediction.age_s:.1f} s old, {foreign(prediction.model_version, 40)}"
    return f"{prediction.flow_type} {prediction.confidence:.2f}{further}, {age}"


def position_text(strategy: StrategyStatus) -> str:
    """Return the position and its average price."""
    if not strategy.position_lots:
        return "flat"
    return f"{strategy.position_lots:+d}" + ("" if strategy.average_price is None else f" at {strategy.average_price:f}")


def pnl_text(strategy: StrategyStatus) -> Text:
    """Return realized PnL + open PnL - fees (which are in neither)."""
    return Text.assemble(money(strategy.realized_pnl), " + ", money(strategy.unrealized_pnl), " - ", money(strategy.fees))


def ml_text(ml: MLStatus) -> str:
    """Return the state of the ML process in one line, without its colour."""
    parts = [f"model {foreign(ml.model_version, 40) if ml.model_version else 'none'}", f"restarts {ml.restarts}"]
    if ml.training_progress is not None:
        parts.append(f"training {ml.training_progress:.0%} {foreign(ml.training_stage, 40)}".rstrip())
    return ", ".join(parts)


def feedback_text(feedback: FeedbackStatus) -> str:
    """Return the feedback counts in one line."""
    dropped = f", dropped {feedback.dropped}" if feedback.dropped else ""
    return f"recorded {feedback.recorded}, acknowledged {feedback.acknowledged}, pending {feedback.pending}{dropped}"


def _strategy(strategy: StrategyStatus) -> RenderableType:
    head = Text.assemble(
        (foreign(strategy.name, 64), "bold"), " ", state_text(strategy.state), f" on {foreign(strategy.instrument_id, 80)}"
    )
    rows = Table.grid(padding=(0, 2))
    rows.add_row("", "position", position_text(strategy))
    rows.add_row("", "realized + open - fees", pnl_text(strategy))
    rows.add_row("", "orders", str(len(strategy.open_orders)))
    rows.add_row("", "predicts", Text(prediction_text(strategy.last_prediction)))
    if strategy.reason:
        rows.add_row("", "reason", Text(foreign(strategy.reason), style="red"))
    return Group(head, rows)


def learning_texts(learning: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line per trial, and one for drift, in words."""
    trials = [
        f"{trial.get('challenger')} against {trial.get('champion')}: e-value {trial.get('e_better')} for better, "
        f"{trial.get('e_worse')} for worse, {trial.get('blocks')} blocks"
        for trial in learning.get("trials") or ()
    ]
    alarms = (learning.get("drift") or {}).get("alarms") or {}
    return [*(("trial", words) for words in trials), *(("drift", f"{name}: {words}") for name, words in sorted(alarms.items()))]


def _facts(status: Status) -> RenderableType:
    trading = state_text(status.trading_state)
    if status.trading_reason:
        trading.append(f" ({foreign(status.trading_reason)})")
    progress = "" if status.progress is None else f", {status.progress:.0%}"
    lag = status.loop_lag
    table = Table.grid(padding=(0, 2))
    table.add_row("process", f"{status.pid}, up {status.uptime_s:,.0f} s, {foreign(status.state_dir)}")
    table.add_row(
        "market",
        Text(f"{foreign(', '.join(status.market))}, {market_time(status.market_time_ns)} UTC, {speed_text(status.speed)}{progress}"),
    )
    table.add_row("trading", trading)
    table.add_row("ML", Text.assemble(state_text(status.ml.state), f", {ml_text(status.ml)}"))
    for name, words in learning_texts(status.ml.learning):
        table.add_row(name, Text(foreign(words, 400)))
    table.add_row("feedback", feedback_text(status.feedback))
    table.add_row("loop lag", f"p50 {lag.p50_ms:.2f} ms, p99 {lag.p99_ms:.2f} ms, max {lag.max_ms:.2f} ms")
    return table


def _counters(counters: dict[str, int]) -> RenderableType:
    table = Table(title="Counters", title_justify="left", show_header=False)
    for name in sorted(counters):
        table.add_row(Text(foreign(name, 80)), f"{counters[name]:,}")
    return table
