"""The report of a backtest: one HTML page that needs no network, no script and no font."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

import polars as pl

from framework.backtest.research import Backtest
from framework.dataset.parts import replace_file
from framework.model import NS_PER_S
from framework.plots import COLOURS, GREY, Axes, Series, bar_chart, line_chart

MAX_TRADES_SHOWN: Final = 500
STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2328;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d0d7de}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #eaeef2}
td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1rem}
.warning{background:#fff8c5;border-left:4px solid #d4a72c;padding:.3rem .8rem;margin:.3rem 0}.note{color:#656d76}
svg{width:28rem;max-width:100%;height:auto;font:11px system-ui,sans-serif}svg .grid{stroke:#eaeef2}svg .zero{stroke:#8b949e}
.scroll{max-height:28rem;overflow:auto}
"""


def write_report(path: Path, found: Backtest, curve: Sequence[dict[str, Any]]) -> None:
    """Write the page whole or not at all. Raises `StorageError`."""
    replace_file(path, page(found, curve).encode())


def page(found: Backtest, curve: Sequence[dict[str, Any]]) -> str:
    """Return the page. `curve` is what each latency earned (`over_latencies`), or nothing."""
    facts = found.facts
    title = f"Backtest of {escape(facts['strategy'])} on {escape(facts['instrument_id'])}"
    parts = (
        f"<h1>{title}</h1>",
        "".join(f'<p class="warning">{escape(words)}</p>' for words in found.warnings),
        _section("Result", _table(("", ""), totals(facts))),
        _section("Account", _plots(_equity(found.account), _drawdown(found.account), _position(found.account))),
        _section("Predictions", _predictions(found, curve)),
        _section("Fills", _plots(_markouts(facts), _fills_on_the_book(found)) + _fill_table(found)),
        _section("Capacity", _capacity(facts)),
        _section("By hour of the day (UTC)", _hours(found)),
        _section("By regime", _regimes(found)),
        _section("Trades", _trades(found.trades)),
        _section("How it was run", _method(facts)),
    )
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _plots(*plots: str) -> str:
    return f'<div class="plots">{"".join(plots)}</div>'


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return '<p class="note">nothing to show</p>'
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><tr>{top}</tr>{body}</table>"


def _text(value: Any, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")


def totals(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the figures of a run with their names."""
    sharpe, money = facts["deflated_sharpe"], facts["currency"]
    return (
        (f"net ({money})", _text(facts["net"])),
        (f"before fees ({money})", _text(facts["gross"])),
        (f"fees ({money})", _text(facts["fees"])),
        (f"largest drawdown ({money})", _text(facts["max_drawdown"])),
        ("trades from flat to flat", _text(facts["trades"])),
        ("share won", _text(facts["win_rate"])),
        (f"mean trade ({money})", _text(facts["mean_trade"])),
        ("mean time in a trade (s)", _text(facts["mean_duration_s"])),
        ("lots traded", _text(facts["lots_traded"])),
        (f"turnover ({money})", _text(facts["turnover"], 0)),
        ("net, of the turnover (bp)", _text(facts["net_bp"], 3)),
        ("share of maker fills", _text(facts["maker_share"])),
        ("slippage from the mid (ticks a fill)", _text(facts["slippage_ticks"], 3)),
        ("share of time in the market", _text(facts["exposure"])),
        ("Sharpe ratio of minutes, not annualised", _text(sharpe["sharpe"], 4)),
        (f"what luck shows at best in {facts['trials']} tries", _text(sharpe["luck"], 4)),
        ("probability of skill after deflation", _text(sharpe["probability"])),
    )


def _hours_since_start(account: pl.DataFrame) -> list[float]:
    return [] if not len(account) else ((account["ts_event"] - account["ts_event"][0]) / (3_600 * NS_PER_S)).to_list()


def _equity(account: pl.DataFrame) -> str:
    hours = _hours_since_start(account)
    series = (
        Series(name="after fees", x=hours, y=account["equity"].to_list(), has_dots=False),
        Series(name="before fees", x=hours, y=account["gross"].to_list(), has_dots=False, colour=GREY, is_dashed=True),
    )
    return line_chart(Axes(x="hours from the start", y="account", has_zero=True), series)


def _drawdown(account: pl.DataFrame) -> str:
    under = Series(
        name="below the peak", x=_hours_since_start(account), y=(-account["drawdown"]).to_list(), has_dots=False, colour=COLOURS[1]
    )
    return line_chart(Axes(x="hours from the start", y="drawdown", has_zero=True), [under])


def _position(account: pl.DataFrame) -> str:
    lots = Series(
        name="lots", x=_hours_since_start(account), y=[float(one) for one in account["position"]], has_dots=False, colour=COLOURS[2]
    )
    return line_chart(Axes(x="hours from the start", y="exposure", has_zero=True), [lots])


def _predictions(found: Backtest, curve: Sequence[dict[str, Any]]) -> str:
    bins = found.facts["calibration"]
    if not bins:
        return '<p class="note">no prediction that claims a direction and whose horizon has passed</p>'
    confidence = [one["confidence"] for one in bins]
    diagonal = Series(name="as sure as right", x=[0.5, 1.0], y=[0.5, 1.0], colour=GREY, is_dashed=True, has_dots=False)
    known = [(one["confidence"], one["hit_rate"]) for one in bins if one["hit_rate"] is not None]
    hits = Series(name="right, of those that moved", x=[x for x, _ in known], y=[y for _, y in known])
    moves = (
        Series(name="from the book asked about", x=confidence, y=[one["move_ticks"] for one in bins]),
        Series(name="left when it arrived", x=confidence, y=[one["late_move_ticks"] for one in bins], colour=COLOURS[1]),
    )
    return _plots(
        line_chart(Axes(x="confidence", y="hit rate"), [diagonal, hits]),
        line_chart(Axes(x="confidence", y="mean move its way, ticks", has_zero=True), moves),
        _latency_curve(curve),
    )


def _latency_curve(curve: Sequence[dict[str, Any]]) -> str:
    if not curve:
        return ""
    places = [f"{one['latency_ms']:g}" for one in curve]
    x = [float(number) for number in range(len(curve))]
    series = (
        Series(name="after fees", x=x, y=[one["net"] for one in curve]),
        Series(name="before fees", x=x, y=[one["gross"] for one in curve], colour=GREY, is_dashed=True),
    )
    return line_chart(Axes(x="latency of a prediction, ms", y="earned", places=places, has_zero=True), series)


def _markouts(facts: dict[str, Any]) -> str:
    series = []
    for colour, (liquidity, values) in zip(COLOURS, facts["markouts_ticks"].items(), strict=False):
        known = [(number, value) for number, value in enumerate(values.values()) if value is not None]
        series.append(Series(name=liquidity.lower(), x=[x for x, _ in known], y=[y for _, y in known], colour=colour))
    places = list(next(iter(facts["markouts_ticks"].values()), {}))
    return line_chart(Axes(x="seconds after the fill", y="markout, ticks", places=places, has_zero=True), series) if series else ""


def _fills_on_the_book(found: Backtest) -> str:
    """Draw the mid around the fills: the whole run, thinned, with buys and sells as dots."""
    name = found.facts["instrument_id"]
    touch, tick = found.raw.tape.touch(name), float(found.raw.instruments[name].tick_size)
    if not len(touch.ts_event):
        return ""
    step = max(1, len(touch.ts_event) // 2_000)
    start = int(touch.ts_event[0])
    mids = (touch.mid_ticks * tick)[::step]
    hours = ((touch.ts_event[::step] - start) / (3_600 * NS_PER_S)).tolist()
    lines = [Series(name="mid", x=hours, y=mids.tolist(), has_dots=False, colour=GREY)]
    for side, colour in (("BUY", COLOURS[2]), ("SELL", COLOURS[4])):
        some = found.fills.filter((pl.col("side") == side) & (pl.col("instrument_id") == name))
        some = some.gather_every(max(1, len(some) // 400))
        when = ((some["ts_event"] - start) / (3_600 * NS_PER_S)).to_list()
        lines.append(Series(name=side.lower(), x=when, y=some["price"].to_list(), colour=colour, has_line=False))
    return line_chart(Axes(x="hours from the start", y="price"), lines)


def _fill_table(found: Backtest) -> str:
    kinds = found.fills.group_by("liquidity", maintain_order=True).agg(
        pl.len().alias("fills"), pl.col("quantity").sum(), pl.col("fee").sum(), pl.col("slippage_ticks").mean(), pl.col("book_age_s").max()
    )
    lines = [[_text(cell, 3) for cell in line] for line in kinds.rows()]
    return _table(("", "fills", "lots", "fees", "slippage, ticks", "oldest book, s"), lines)


def _capacity(facts: dict[str, Any]) -> str:
    """Show what multiples of every order would have earned; nothing where it was not reckoned."""
    found = facts.get("capacity")
    if found is None:
        return '<p class="note">not reckoned</p>'
    places = [f"{one['multiple']}" for one in found["sizes"]]
    each = [one["net"] / one["multiple"] for one in found["sizes"]]
    nets = Series(name="net by size", x=[float(number) for number in range(len(places))], y=each)
    lines = [
        [f"{one['multiple']} x", _text(one["net"]), _text(one["volume_share"], 4), _text(one["beyond_share"], 4)] for one in found["sizes"]
    ]
    chart = line_chart(Axes(x="every order so many times as large", y="earned, by the size", places=places, has_zero=True), [nets])
    best = (
        f"most is earned with {found['multiple']} times the orders"
        if found["multiple"]
        else "there is nothing to scale: it loses at every size"
    )
    note = f'<p class="note">{best}. A bound from above: displayed sizes only, whole again at the next fill; maker fills as they are.</p>'
    return note + _plots(chart, _table(("orders", "net", "share of the market's volume", "taken beyond what was shown"), lines))


def _hours(found: Backtest) -> str:
    hour = (pl.from_epoch(pl.col("exit_ns"), time_unit="ns").dt.hour()).alias("hour")
    by_hour = (
        found.trades.group_by(hour).agg(pl.len().alias("trades"), (pl.col("net") > 0).mean().alias("won"), pl.col("net").sum()).sort("hour")
    )
    bars = [(f"{line['hour']:02d}", float(line["net"])) for line in by_hour.to_dicts()]
    lines = [[f"{line['hour']:02d}", _text(line["trades"]), _text(line["won"]), _text(line["net"])] for line in by_hour.to_dicts()]
    return _plots(bar_chart("net by hour", bars) if bars else "", _table(("hour", "trades", "won", "net"), lines))


def _regimes(found: Backtest) -> str:
    claimed = found.predictions.filter((pl.col("direction") != 0) & pl.col("move_ticks").is_not_null())
    moved = pl.col("direction") * pl.col("move_ticks")
    table = claimed.group_by("regime").agg(
        pl.len().alias("predictions"), ((moved > 0).sum() / (moved != 0).sum()).alias("right"), moved.mean().alias("move")
    )
    words = {-1: "not known", 0: "calm", 1: "usual", 2: "volatile"}
    lines = [[words.get(line["regime"], str(line["regime"])), _text(line["predictions"]), _text(line["right"]), _text(line["move"], 3)]
             for line in table.sort("regime").to_dicts()]  # fmt: skip
    return _table(("regime", "predictions that claim a direction", "right, of those that moved", "mean move its way, ticks"), lines)


def _trades(trades: pl.DataFrame) -> str:
    shown = trades.head(MAX_TRADES_SHOWN)
    lines = [
        [_time(one["entry_ns"]), one["side"], _text(one["lots"]), _text(one["duration_s"], 1), _text(one["gross"]), _text(one["fees"]),
         _text(one["net"])] for one in shown.to_dicts()
    ]  # fmt: skip
    note = f'<p class="note">the first {MAX_TRADES_SHOWN} of {len(trades):,}</p>' if len(trades) > MAX_TRADES_SHOWN else ""
    head = ("entry (UTC)", "side", "lots", "seconds", "before fees", "fees", "net")
    return f'{note}<div class="scroll">{_table(head, lines)}</div>'


def _method(facts: dict[str, Any]) -> str:
    rows = (
        ("strategy", f"{facts['strategy_class']} ({facts['strategy_digest']})"),
        ("recordings", ", ".join(Path(name).name for name in facts["data"])),
        ("from, to (UTC)", f"{_time(facts['start_ns'])}, {_time(facts['end_ns'])}"),
        ("market events", _text(facts["events"])),
        ("predictions from", f"{facts['ml']} {facts['model_version'] or ''}"),
        ("latency of a prediction, ms", facts["latency"]),
        ("predictions, failed", f"{_text(facts['predictions'])}, {_text(facts['predictions_failed'])}"),
        ("orders, decisions", f"{_text(facts['orders'])}, {_text(facts['decisions'])}"),
        ("seed", str(facts["seed"])),
    )
    return _table(("", ""), rows)
