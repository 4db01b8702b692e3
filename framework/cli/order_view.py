"""The story of an order for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.logs import foreign
from framework.research.record_words import clock

Facts = Mapping[str, Any]
MAX_EVENTS = 60
LEVELS_SHOWN = 3


def order_view(found: Facts) -> RenderableType:
    """Return the story of an order as text and tables."""
    lines = [*_head(found), *_run(found), *_decision(found), *_prediction(found), *_gate(found)]
    parts: list[RenderableType] = [Text(line) for line in lines]
    if found["gate"].get("numbers"):
        parts.append(_numbers(found["gate"]))
    parts.append(_events(found["events"]))
    if found["fills"]:
        parts.append(_fills(found["fills"]))
    parts += [Text(line) for line in (*_result(found), *_afterwards(found), *_legs(found))]
    parts += [Text(f"missing: {foreign(str(one), 1_000)}", "yellow") for one in found["missing"]]
    return Group(*parts)


def _head(found: Facts) -> list[str]:
    order = found["order"]
    price = "at market" if order["limit_ticks"] is None else f"limit {order['limit_ticks']}"
    if order["order_type"] == "MARKET" and order["limit_ticks"] is not None:
        price = f"at market (sent as a limit at the collar's edge, {order['limit_ticks']})"
    if order["stop_ticks"] is not None:
        price = f"stop {order['stop_ticks']}, {price}"
    marks = [name.replace("_", "-") for name in ("reduce_only", "post_only") if order.get(name)]
    words = [
        foreign(f"{order['side']} {order['quantity']} {order['instrument_id']}", 120),
        order["order_type"],
        price,
        order["time_in_force"],
    ]
    first = f"order {foreign(found['order_id'], 128)}: {', '.join([*words, *marks])}"
    sender = order.get("sent_by", "its strategy")
    return [first, f"  sent at {clock(order['sent_ns'])} by {sender}, {foreign(str(order['strategy_id']), 80)}"]


def _run(found: Facts) -> list[str]:
    strategy, run = found["strategy"], found.get("run")
    digest = f"digest {strategy['digest'][:16]}" if strategy["digest"] else "no digest recorded"
    lines = [f"strategy {foreign(strategy['name'], 80)}: {digest}, {strategy['now']}"]
    if run:
        market = foreign(", ".join(run["market"]), 200)
        speed = "max" if run["speed"] is None else f"{run['speed']:g}"
        lines.append(f"  run {run['run']} on {market} at speed {speed}, code {run['version'][:12]}; {run['ended']}")
    return lines


def _decision(found: Facts) -> list[str]:
    decision = found["decision"]
    if not decision:
        return []
    name = foreign(str(decision["decision_id"]), 128)
    if "reason" not in decision:
        return [f"decision {name}"]
    book = decision["book"]
    reason = foreign(decision["reason"], 100)
    line = f"decision {name}: {decision['action']} ({reason}), position {decision['position_lots']:+d}"
    if not decision["is_its_order"]:
        line += "; the order came out of it, the decision did not name it"
    bids = [f"{lots}x{ticks}" for ticks, lots in zip(book["bid_ticks"][:LEVELS_SHOWN], book["bid_sizes"], strict=False)]
    asks = [f"{lots}x{ticks}" for ticks, lots in zip(book["ask_ticks"][:LEVELS_SHOWN], book["ask_sizes"], strict=False)]
    return [line, f"  on book {book['sequence']} of {clock(book['ts_event'])}: {' '.join(reversed(bids))} | {' '.join(asks)}"]


def _prediction(found: Facts) -> list[str]:
    one = found["prediction"]
    if not one:
        return ["prediction: none was used"] if found["decision"] and "reason" in found["decision"] else []
    name = foreign(one["prediction_id"], 128)
    if "failed" in one:
        return [f"prediction {name} failed: {one['failed']} {one['detail']}".rstrip()]
    if "flow_type" not in one:
        return [f"prediction {name}"]
    chances = f"down {one['p_down']:.3f}, flat {one['p_flat']:.3f}, up {one['p_up']:.3f}"
    used = "" if one["is_used"] else "; not used: the default behaviour decided"
    return [
        f"prediction {name}: {one['flow_type']} with confidence {one['confidence']:.3f} ({chances}){used}",
        f"  version {foreign(one['model_version'], 80)}, arrived {one['latency_ms']:.1f} ms after the last row that it saw, "
        f"{one['age_when_sent_s'] * 1e3:.1f} ms old when the order was sent; more: {one['more']}",
    ]


def _gate(found: Facts) -> list[str]:
    gate = found["gate"]
    if gate["verdict"] == "DENIED":
        return [f"gate: DENIED, {gate['code']} {foreign(gate['detail'], 300)}"]
    seen = gate["seen"]
    if seen is None:
        return ["gate: passed"]
    quotes = f"{seen['bid_lots']}x{seen['bid_ticks']} | {seen['ask_lots']}x{seen['ask_ticks']}" if seen["book_ns"] else "no sound book"
    position = f"position {seen['position_lots']:+d}, {seen['open_lots']} open on this side"
    return [f"gate: passed on book {seen['book_sequence']}: {quotes}; {position}"]


def _numbers(gate: Facts) -> Table:
    title = "what the gate looked at" if gate["has_limits"] else "what the gate looked at (the run did not write its limits down)"
    table = Table(title=title, title_justify="left")
    for name in ("code", "what", "value", "limit"):
        table.add_column(name, justify="right" if name in ("value", "limit") else "left")
    for one in gate["numbers"]:
        limit = "not known" if one["limit"] is None else f"{one['limit']:g}" if one["limit"] else "none"
        table.add_row(one["code"], one["what"], f"{one['value']:g}", limit)
    return table


def _events(events: list[Facts]) -> Table:
    more = f" (in market time; the first {MAX_EVENTS} of {len(events):,})" if len(events) > MAX_EVENTS else " (in market time)"
    table = Table(title=f"what happened{more}", title_justify="left")
    for name in ("time (UTC)", "ms after", "what", ""):
        table.add_column(name, justify="right" if name.startswith("ms") else "left", overflow="fold")
    for one in events[:MAX_EVENTS]:
        table.add_row(clock(one["ts_event"])[11:], f"{one['after_ms']:+.3f}", one["what"], foreign(one["detail"], 300))
    return table


def _fills(fills: list[Facts]) -> Table:
    table = Table(title="fills", title_justify="left")
    for name in ("time (UTC)", "ms after", "lots", "ticks", "liquidity", "fee", "ticks beyond the mid"):
        table.add_column(name, justify="left" if name in ("time (UTC)", "liquidity") else "right")
    for one in fills[:MAX_EVENTS]:
        slippage = "not known" if one["slippage_ticks"] is None else f"{one['slippage_ticks']:+g}"
        row = (f"{one['lots']}", f"{one['ticks']}", str(one["liquidity"]), one["fee"], slippage)
        table.add_row(clock(one["ts_event"])[11:], f"{one['after_ms']:+.3f}", *row)
    return table


def _result(found: Facts) -> list[str]:
    result = found["result"]
    if result["status"] == "DENIED":
        return ["result: it never left"]
    average = "" if result["average_ticks"] is None else f" at {result['average_ticks']:.2f} ticks, fees {result['fees']}"
    queue = "" if result["queue_ahead"] is None else f"; {result['queue_ahead']:g} lots stood ahead when it arrived"
    return [f"result: {result['status']}, filled {result['filled_lots']} of {result['quantity']}{average}{queue}"]


def _afterwards(found: Facts) -> list[str]:
    outcome = found["outcome"]
    if not outcome:
        return []
    ended = outcome.get("trade_outcome") or ("no trade" if outcome["state"] == "closed" else "")
    pnl = f", PnL {Decimal(outcome['pnl']):.2f}" if outcome.get("pnl") is not None else ""
    lines = [f"the decision: {outcome['state']}{', ' + ended if ended else ''}{pnl}"]
    markouts = outcome.get("for_the_order_ticks")
    if markouts:
        moves = ", ".join(f"{ticks:+g} after {name} s" for name, ticks in markouts.items())
        lines.append(f"  the mid moved for the order (ticks): {moves}; feedback: {outcome['feedback']}")
    return lines


def _legs(found: Facts) -> list[str]:
    order = found["order"]
    lines = [f"it waited for {foreign(order['parent_id'], 128)} to fill"] if order.get("parent_id") else []
    legs = [f"{foreign(one['order_id'], 128)} ({one['side']} {one['order_type']})" for one in found.get("legs", ())]
    return lines + ([f"belongs together with: {', '.join(legs[:20])}"] if legs else [])
