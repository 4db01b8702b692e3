"""The verb explain: why a prediction said what it said, or why an order was sent, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.cli.options import DEFAULT_STATE_DIR, ConfigOption, JsonOption, StateDirOption, read_config
from framework.cli.order_view import order_view
from framework.cli.output import say, say_json
from framework.logs import foreign
from framework.research.explaining import explain as explained

SHOWN: Final = 10
SCORES: Final = {
    "log_loss": "log-loss",
    "auc_up_down": "AUC up/down",
    "ece_flat": "calibration error of flat",
    "ece_direction": "of the direction",
}
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A prediction's or an order's id, as log, status and state tail show it.")]
TopOption = Annotated[int, typer.Option("--top", min=1, max=1_000, help="How many features to list.")]
Facts = Mapping[str, Any]


def explain(
    *,
    name: IdArgument,
    top: TopOption = SHOWN,
    config: ConfigOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Show why an order was sent and what became of it, or why a prediction said what it said (window, features, contributions)."""
    settings, _ = read_config(config)
    found = explained(state_dir, name, window_rows=settings.training.window_rows)
    if is_json:
        say_json(found)
    else:
        say(order_view(found) if "order_id" in found else view(found, top))
    return int(found.get("error_exit_code", 0))


def view(found: Facts, top: int = SHOWN) -> RenderableType:
    """Return an explanation as text and tables for a terminal."""
    parts: list[RenderableType] = [Text(line) for line in (*_prediction(found), *_model(found), *_window(found))]
    if "contributions" in found:
        parts += [_contributions(found, top), *(Text(line) for line in _probabilities(found))]
    parts += [Text(line) for line in (*_decision(found), *_orders(found), *_next(found))]
    parts += [Text(f"missing: {foreign(str(one), 1_000)}", "yellow") for one in found.get("missing", ())]
    return Group(*parts)


def _prediction(found: Facts) -> list[str]:
    failure = found.get("failure")
    if failure:
        return [f"prediction {found['prediction_id']} failed: {failure['reason']} {foreign(failure['detail'], 300)}"]
    one = found["prediction"]
    calibrated = "calibrated" if one["is_calibrated"] else "not calibrated"
    chances = f"down {one['p_down']:.3f}, flat {one['p_flat']:.3f}, up {one['p_up']:.3f}"
    return [
        f"prediction {one['prediction_id']} for {one['strategy_id']} on {one['instrument_id']}, book {one['as_of_sequence']}",
        f"  says {one['flow_type']} with confidence {one['confidence']:.3f}: {chances} over {one['horizon_rows']} rows ({calibrated})",
        *_horizons(one, found),
        f"  regime {one['regime']}, shock score {one['shock_score']:.3f}; took {one['round_trip_us'] / 1e3:.1f} ms of market time",
    ]


def _horizons(prediction: Facts, found: Facts) -> list[str]:
    """Return a line for each further horizon: what it said, whether the version says it again, and what happened."""
    again = {one["horizon_rows"]: one["largest_difference"] for one in found.get("horizons", ())}
    after = {one["horizon_rows"]: one for one in (found.get("next") or {}).get("horizons", ())}
    lines = []
    for horizon, down, flat, up, flow_type, confidence in prediction.get("horizons", ()):
        line = f"  over {horizon} rows {flow_type} with {confidence:.3f}: down {down:.3f}, flat {flat:.3f}, up {up:.3f}"
        known = after.get(horizon, {})
        if "happened" in known:
            gave = known["probability_of_what_happened"]
            line += f"; the mid moved {_signed(known['move_ticks'])} ticks: {known['happened']}, which it gave {gave:.3f}"
        lines.append(line + _verdict(again[horizon], "; ") if horizon in again else line)
    return lines


def _verdict(difference: float | None, before: str = "  ") -> str:
    """Return whether what was computed again is what was served."""
    if difference is None:
        return f"{before}the version does not say this"
    return f"{before}the same as was served" if difference < 1e-9 else f"{before}differs from what was served by {difference:.2g}"


def _model(found: Facts) -> list[str]:
    model = found.get("model", {})
    if not model:
        return []
    known = [f"{name} {foreign(str(model[name]), 200)}" for name in ("calibration", "reason") if name in model]
    lines = [f"version {model['version']}" + (f": {', '.join(known)}" if known else "")]
    scores = model.get("test_scores") or {}
    told = [f"{words} {scores[name]:.3f}" for name, words in SCORES.items() if isinstance(scores.get(name), float)]
    return lines + ([f"  on its test slice: {', '.join(told)}"] if told else [])


def _window(found: Facts) -> list[str]:
    window = found.get("window")
    if not window:
        return []
    sizes = " ".join(f"{size:g}" for size in reversed(window["bid_sizes"][:5]))
    asks = " ".join(f"{size:g}" for size in window["ask_sizes"][:5])
    flow = f"bought {window['bought_lots']:g}, sold {window['sold_lots']:g} lots, " if window["has_trades"] else "no trades in this feed, "
    return [
        f"window of {window['rows']} rows, {window['seconds']:.1f} s: mid {_plain(window['mid_ticks'])} ticks, "
        f"spread {window['spread_ticks']}, mid moved {_signed(window['mid_change_ticks'])}",
        f"  {flow}order-flow imbalance {window['order_flow_imbalance_lots']:+g} lots",
        f"  queues, best in the middle: {sizes} | {asks}",
    ]


def _contributions(found: Facts, top: int) -> RenderableType:
    parts = found["contributions"]
    values = {one["name"]: one for one in found["features"]}
    sources = list(parts["how"])
    table = Table(title=f"Contributions to the {parts['of']}", title_justify="left")
    for name in ("feature", "value", "unit", "above % of rows", *sources, "total"):
        table.add_column(name, justify="left" if name in ("feature", "unit") else "right")
    for item in parts["items"][:top]:
        feature = values.get(item["name"], {})
        rank = feature.get("rank")
        shown = (item["name"], _plain(feature.get("value")), str(feature.get("unit", "")), "-" if rank is None else f"{100 * rank:.0f}")
        table.add_row(*shown, *(f"{item[name]:+.3f}" for name in sources), f"{item['total']:+.3f}")
    rest = parts["items"][top:]
    if rest:
        sums = [sum(item[name] for item in rest) for name in (*sources, "total")]
        table.add_row(f"{len(rest)} more", "", "", "", *(f"{one:+.3f}" for one in sums))
    table.add_row("base (nothing known)", *[""] * (2 + len(sources)), "", f"{parts['base']:+.3f}")
    table.add_row("log-odds", *[""] * (2 + len(sources)), "", f"{parts['log_odds']:+.3f}")
    return Group(table, *(Text(f"  {name}: {how}") for name, how in parts["how"].items()))


def _probabilities(found: Facts) -> list[str]:
    all_of = found["probabilities"]
    lines = [f"  {name:<10} down {row['down']:.4f}, flat {row['flat']:.4f}, up {row['up']:.4f}" for name, row in _three(all_of)]
    return ["probabilities, computed again:", *lines, _verdict(all_of["largest_difference"])]


def _three(all_of: Facts) -> Sequence[tuple[str, Facts]]:
    return [(name, all_of[name]) for name in ("raw", "calibrated", "journal")]


def _decision(found: Facts) -> list[str]:
    decision = found.get("decision")
    if not decision:
        return ["decision: none is recorded with this prediction"]
    line = f"decision {decision['decision_id']}: {decision['action']} ({decision['reason']}), position {decision['position_lots']:+d}"
    if "age_s" not in decision:
        return [line]
    books = "on the same book" if decision["books_since"] == "none" else "on a newer book"
    return [
        line,
        f"  age at use {decision['age_s'] * 1e3:.1f} ms of market time, {books}: {decision['bid_ticks']} / {decision['ask_ticks']} ticks",
    ]


def _orders(found: Facts) -> list[str]:
    lines = []
    for order in found.get("orders", ()):
        what = f"{order['side']} {order['quantity']}" if "side" in order else order["note"]
        fills = f"filled {order['filled_lots']} at {order['average_ticks']:.2f} ticks" if "average_ticks" in order else "no fill"
        lines.append(f"  order {order['client_order_id']}: {what}, {fills}" + (f", {order['ended']}" if "ended" in order else ""))
    return lines


def _next(found: Facts) -> list[str]:
    lines = []
    after = found.get("next")
    if after and "move_ticks" in after:
        chance = after["probability_of_what_happened"]
        lines.append(
            f"next: after {after['horizon_rows']} rows ({after['after_s']:.1f} s) the mid had moved {_signed(after['move_ticks'])} ticks: "
            f"{after['happened']}, which it gave {chance:.3f}"
        )
    elif after:
        lines.append(f"next: {after['unknown']}")
    outcome = found.get("outcome") or {}
    markouts = outcome.get("markouts_ticks") or (after or {}).get("markouts_ticks")
    if markouts:
        lines.append("  markouts: " + ", ".join(f"{name} s {_signed(ticks)}" for name, ticks in markouts.items()) + " ticks")
    if outcome:
        ended = outcome.get("trade_outcome") or ("no trade" if outcome["state"] == "closed" else "")
        pnl = f", PnL {outcome['pnl']}" if outcome.get("pnl") is not None else ""
        lines.append(f"  outcome: {outcome['state']}{', ' + ended if ended else ''}{pnl}")
    return lines


def _plain(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}" if abs(value) < 1_000 else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+g}"
