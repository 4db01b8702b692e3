"""From a snapshot to a picture: one pure function, for wide, narrow and tiny terminals."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Final

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from framework.logs import foreign
from framework.model import Side
from framework.operations.dashboard.snapshot import DashboardSnapshot, Ladder
from framework.operations.status import (
    Status,
    StrategyStatus,
    market_time,
    money,
    pnl_text,
    position_text,
    prediction_text,
    speed_text,
    state_text,
)

WIDE: Final = 130
NARROW: Final = 60
LADDER_WIDTH: Final = 41
SHOWN_LEVELS: Final = 10


def render(snapshot: DashboardSnapshot, width: int = 120, height: int = 40) -> RenderableType:
    """Return the picture of `snapshot` for a terminal of `width` columns and `height` rows. Knows nothing of time or terminals."""
    if width < NARROW or height < 20:
        return _tiny(snapshot, width, height)
    levels = _levels(height)
    picture = Layout()
    picture.split_column(
        Layout(_head(snapshot.status), size=1),
        Layout(name="body", size=2 * levels + 3),
        Layout(_log(snapshot.log_tail, width, height), minimum_size=3),
    )
    ladders = snapshot.ladders[: 2 if width >= WIDE + LADDER_WIDTH else 1]
    beside = Group(_machine(snapshot.status), _strategies(snapshot.status.strategies, width - LADDER_WIDTH * len(ladders)))
    pictures = [
        Layout(_ladder(ladder, _own_orders(snapshot.status, ladder.instrument_id), levels), size=LADDER_WIDTH) for ladder in ladders
    ]
    picture["body"].split_row(*pictures, Layout(beside))
    return picture


def _levels(height: int) -> int:
    """Return how many levels a side leave room for a few log lines."""
    return min(SHOWN_LEVELS, (height - 11) // 2)


def _head(status: Status) -> RenderableType:
    progress = "" if status.progress is None else f"  {status.progress:.0%}"
    left = Text.assemble(("Tidebook", "bold"), f"  {market_time(status.market_time_ns)} UTC  {speed_text(status.speed)}{progress}")
    trading = state_text(status.trading_state)
    if status.trading_reason:
        trading.append(f" {foreign(status.trading_reason, 60)}", style="dim")
    grid = Table.grid(expand=True)
    grid.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, justify="right", no_wrap=True, overflow="ellipsis")
    grid.add_row(left, trading)
    return grid


# --- the ladder --------------------------------------------------------------------------------------------------------


def _own_orders(status: Status, instrument_id: str) -> Counter[tuple[Side, int]]:
    """Return our resting lots by side and price in ticks."""
    resting: Counter[tuple[Side, int]] = Counter()
    for strategy in status.strategies:
        if strategy.instrument_id == instrument_id:
            for order in strategy.open_orders:
                if order.limit_ticks is not None:
                    resting[order.side, order.limit_ticks] += order.open_quantity
    return resting


def _ladder(ladder: Ladder, own: Counter[tuple[Side, int]], levels: int) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", width=4, no_wrap=True)
    table.add_column(justify="right", width=6, no_wrap=True)
    table.add_column(justify="center", no_wrap=True)
    table.add_column(justify="left", width=6, no_wrap=True)
    table.add_column(justify="left", width=4, no_wrap=True)
    for ticks, size in reversed(list(zip(ladder.ask_ticks[:levels], ladder.ask_sizes[:levels], strict=False))):
        table.add_row("", "", _price(ladder, ticks, "red"), f"{size:,}", _own(own[Side.SELL, ticks]))
    table.add_row("", "", _middle(ladder), "", "")
    for ticks, size in zip(ladder.bid_ticks[:levels], ladder.bid_sizes[:levels], strict=False):
        table.add_row(_own(own[Side.BUY, ticks]), f"{size:,}", _price(ladder, ticks, "green"), "", "")
    title = Text(foreign(ladder.instrument_id, 30), style="bold")
    if not ladder.is_sound:
        title.append(" book refused", style="red")
    return Panel(table, title=title, width=LADDER_WIDTH)


def _own(lots: int) -> Text:
    return Text(f"[{lots}]" if lots else "", style="bold yellow")


def _price(ladder: Ladder, ticks: int, style: str) -> Text:
    return Text(f"{ladder.tick_size * ticks:f}", style=f"bold {style} reverse" if ticks == ladder.last_trade_ticks else style)


def _middle(ladder: Ladder) -> Text:
    if not (ladder.bid_ticks and ladder.ask_ticks):
        return Text("one-sided" if ladder.bid_ticks or ladder.ask_ticks else "no book yet", style="dim")
    spread = ladder.ask_ticks[0] - ladder.bid_ticks[0]
    return Text(f"spread {spread} tick{'' if spread == 1 else 's'}", style="dim")


# --- strategies, the machine, the log ------------------------------------------------------------------------------------


def _strategies(strategies: tuple[StrategyStatus, ...], width: int) -> RenderableType:
    if not strategies:
        return Panel(Text("none deployed", style="dim"), title="Strategies")
    return Group(*(_strategy(strategy, width) for strategy in strategies[:4]), *_more(len(strategies) - 4))


def _more(count: int) -> list[RenderableType]:
    return [Text(f"  and {count} more (main.py strategies)", style="dim")] if count > 0 else []


def _strategy(strategy: StrategyStatus, width: int) -> RenderableType:
    rows = Table.grid(padding=(0, 1))
    rows.add_column(no_wrap=True, style="dim", min_width=8)
    rows.add_column(overflow="ellipsis", no_wrap=True)
    rows.add_row("position", position_text(strategy))
    rows.add_row("PnL", pnl_text(strategy).append(" fees"))
    rows.add_row("orders", _orders(strategy))
    rows.add_row("predicts", Text(prediction_text(strategy.last_prediction)))
    for earlier in strategy.earlier_predictions:
        rows.add_row("", Text(prediction_text(earlier), style="dim"))
    if strategy.reason:
        rows.add_row("reason", Text(foreign(strategy.reason, max(20, width - 16)), style="red"))
    title = Text.assemble(foreign(strategy.name, 40), " ", state_text(strategy.state))
    return Panel(rows, title=title, title_align="left")


def _orders(strategy: StrategyStatus) -> Text:
    if not strategy.open_orders:
        return Text("none")
    words = [f"{order.side} {order.open_quantity} {_limit(order.limit_price)} {order.status}" for order in strategy.open_orders[:3]]
    more = f" +{len(strategy.open_orders) - 3}" if len(strategy.open_orders) > 3 else ""
    return Text("; ".join(words) + more)


def _limit(price: Decimal | None) -> str:
    return "market" if price is None else f"{price:f}"


def _machine(status: Status) -> RenderableType:
    rows = Table.grid(padding=(0, 1))
    rows.add_column(no_wrap=True, style="dim", min_width=8)
    rows.add_column(overflow="ellipsis", no_wrap=True)
    ml, feedback = status.ml, status.feedback
    training = "" if ml.training_progress is None else f" {ml.training_progress:.0%} {foreign(ml.training_stage, 40)}"
    rows.add_row("ML", Text.assemble(state_text(ml.state), training))
    restarts = f", restarts {ml.restarts}" if ml.restarts else ""
    rows.add_row("model", Text((foreign(ml.model_version, 60) if ml.model_version else "none") + restarts))
    lost = f", dropped {feedback.dropped}" if feedback.dropped else ""
    rows.add_row("feedback", f"{feedback.recorded}, acked {feedback.acknowledged}, pending {feedback.pending}{lost}")
    rows.add_row("loop lag", f"p50 {status.loop_lag.p50_ms:.2f} ms, p99 {status.loop_lag.p99_ms:.2f} ms")
    return Panel(rows, title="Machine", title_align="left")


def _log(lines: tuple[str, ...], width: int, height: int) -> RenderableType:
    rows = max(1, height - 2 * _levels(height) - 6)
    shown = [Text(foreign(line, max(10, width - 4)), no_wrap=True, overflow="ellipsis") for line in lines[-rows:]]
    return Panel(Group(*(shown or [Text("no log yet", style="dim")])), title="Log", title_align="left")


def _tiny(snapshot: DashboardSnapshot, width: int, height: int) -> RenderableType:
    """Return as many lines as fit, the most important first."""
    status = snapshot.status
    lines = [Text.assemble(market_time(status.market_time_ns), " ", state_text(status.trading_state), " ML ", state_text(status.ml.state))]
    for ladder in snapshot.ladders:
        best = f"{_best(ladder, ladder.bid_ticks)} / {_best(ladder, ladder.ask_ticks)}"
        lines.append(Text(f"{foreign(ladder.instrument_id, 30)} {best}"))
    for strategy in status.strategies:
        lines.append(Text.assemble(f"{foreign(strategy.name, 30)} {strategy.position_lots:+d} ", money(strategy.realized_pnl)))
    lines += [Text(foreign(line, max(10, width))) for line in snapshot.log_tail[-max(0, height - len(lines)) :]]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines[: max(1, height)])


def _best(ladder: Ladder, side: tuple[int, ...]) -> str:
    return f"{ladder.tick_size * side[0]:f}" if side else "-"
