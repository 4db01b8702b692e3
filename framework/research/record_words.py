"""Journal records in words, one line each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from framework.logs import foreign
from framework.messages import (
    CancelOrder,
    DecisionClosed,
    DecisionMade,
    ExecutionReport,
    Message,
    OrderUpdated,
    PredictionFailed,
    PredictionReceived,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import NS_PER_MS, NS_PER_S
from framework.trading.journal import Record
from framework.trading.records import RunStarted

LONGEST: Final = 300
KIND_WIDTH: Final = 18


def record_line(record: Record) -> str:
    """Return a record as one line: number, market time (where it has one), kind, and what it says."""
    message = record.message
    when_ns = message.prediction.received_ns if isinstance(message, PredictionReceived) else record.ts_event
    when = clock(when_ns) if when_ns else f"{'':26}"
    return f"{record.seq:>8}  {when}  {record.kind:<{KIND_WIDTH}}  {words_of(record.message)}"


def words_of(message: Message) -> str:
    """Return what a record says; of a kind without words of its own, its fields."""
    words = _WORDS.get(type(message), _fields)
    return foreign(words(message), LONGEST)


def report_words(report: ExecutionReport) -> str:
    """Return what the venue says beside the kind of a report."""
    if report.kind is ReportKind.FILLED:
        return f"{report.last_quantity} at {report.last_ticks}, {report.liquidity}, fee {report.fee}"
    words = [f"limit {report.limit_ticks}"] if report.limit_ticks is not None else []
    words += [f"{report.queue_ahead:g} lots ahead at its price"] if report.queue_ahead is not None else []
    words += [foreign(report.reason, 200)] if report.reason else []
    if report.seen is not None:
        words.append(f"quotes {report.seen.bid_ticks} / {report.seen.ask_ticks}")
    return ", ".join(words)


def change_words(change: ReplaceOrder) -> str:
    """Return which terms are asked for."""
    wanted = {"quantity": change.quantity, "limit": change.limit_ticks, "stop": change.stop_ticks}
    return ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)


def clock(ns: int) -> str:
    """Return a time for people, UTC, to the microsecond."""
    try:
        return f"{datetime.fromtimestamp(ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S}.{ns % NS_PER_S // 1_000:06d}"
    except (ValueError, OverflowError, OSError):
        return f"{ns:>23} ns"


def _order(one: SubmitOrder) -> str:
    price = f" limit {one.limit_ticks}" if one.limit_ticks is not None else ""
    stop = f" stop {one.stop_ticks}" if one.stop_ticks is not None else ""
    decision = f", decision {one.decision_id}" if one.decision_id else ""
    return f"{one.client_order_id}: {one.side} {one.quantity} {one.instrument_id} {one.order_type}{price}{stop}{decision}"


def _decision(one: DecisionMade) -> str:
    prediction = f", prediction {one.prediction_id}" if one.prediction_id else ""
    orders = f", orders {' '.join(one.client_order_ids)}" if one.client_order_ids else ""
    return f"{one.decision_id}: {one.action} ({one.reason}), position {one.position_lots:+d}{prediction}{orders}"


def _prediction(one: PredictionReceived) -> str:
    said = one.prediction
    after_ms = (said.received_ns - said.as_of_ns) / NS_PER_MS
    return f"{said.prediction_id} for {one.strategy_id}: {said.flow_type} with confidence {said.confidence:.3f}, after {after_ms:.1f} ms"


def _closed(one: DecisionClosed) -> str:
    pnl = f", PnL {one.pnl:.2f}" if one.pnl is not None else ""
    moves = ", ".join(f"{ticks:+g} after {name} s" for name, ticks in (one.markouts_ticks or {}).items())
    return f"{one.decision_id}: {one.trade_outcome or 'no trade'}{pnl}" + (f", the mid moved {moves}" if moves else "")


def _run(one: RunStarted) -> str:
    speed = "max" if one.speed is None else f"{one.speed:g}"
    return f"run {one.run} on {', '.join(one.market)} at speed {speed}, strategies {', '.join(one.strategy_digests) or 'of its own'}"


def _fields(message: Message) -> str:
    plain = msgspec.to_builtins(message)
    return " ".join(f"{name}={value}" for name, value in plain.items() if name != "ts_event" and value not in (None, ""))


_WORDS: Final[dict[type[Message], Callable[[Any], str]]] = {
    RunStarted: _run,
    SubmitOrder: _order,
    ReplaceOrder: lambda one: f"{one.client_order_id}: {change_words(one)}",
    CancelOrder: lambda one: str(one.client_order_id),
    ExecutionReport: lambda one: f"{one.client_order_id}: {one.kind} {report_words(one)}".rstrip(),
    OrderUpdated: lambda one: f"{one.client_order_id}: {one.status} {one.reason}".rstrip(),
    DecisionMade: _decision,
    DecisionClosed: _closed,
    PredictionReceived: _prediction,
    PredictionFailed: lambda one: f"{one.prediction_id} for {one.strategy_id}: {one.reason} {one.detail}".rstrip(),
    TradingStateChanged: lambda one: f"{one.state}: {one.reason}",
}
