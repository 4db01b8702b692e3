"""The report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SCORES: Final = {
    "log_loss": "log-loss",
    "brier": "Brier",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "balanced_accuracy": "bal. acc.",
    "auc_up_down": "AUC up/down",
    "ece": "ECE",
}
LATENCIES: Final = {"0": "0 ms", "5": "5 ms", "50": "50 ms", "250": "250 ms", "next_row": "next row"}


def report_view(report: Mapping[str, Any]) -> RenderableType:
    """Return what a person wants to know first: scores beside the baselines, what the surest calls met, and what to doubt."""
    horizons = report["horizons"]
    parts: list[RenderableType] = [Text(_headline(report)), _scores(report), _coverage(horizons), _deflated(horizons)]
    parts += [Text(f"Doubtful: {alarm}") for alarm in report["alarms"]]
    return Group(*parts)


def _headline(report: Mapping[str, Any]) -> str:
    folds = report["folds"]
    tested = ", ".join(dict.fromkeys(part["file"] for fold in folds for part in fold["test"]))
    trained = ", ".join(dict.fromkeys(part["file"] for part in folds[-1]["train"]))
    how = "fixed split" if len(folds) == 1 else f"walk-forward, {len(folds)} folds"
    return f"{report['model']}, label {report['label']}, {how}\ntrained on {trained}\ntested on  {tested}"


def _scores(report: Mapping[str, Any]) -> Table:
    table = Table(title="Scores (95 % block-bootstrap interval under the model's)", title_justify="left")
    table.add_column("h", justify="right")
    table.add_column("rows", justify="right")
    table.add_column("who")
    for label in SCORES.values():
        table.add_column(label, justify="right")
    for horizon, scored in report["horizons"].items():
        for number, (who, values) in enumerate(scored["scores"].items()):
            first = (horizon, f"{scored['rows']:,}") if number == 0 else ("", "")
            name = report["model"] if who == "model" else who
            table.add_row(*first, name, *(_number(values[score]["value"]) for score in SCORES))
            if who == "model":
                table.add_row("", "", "", *(_interval(values[score]["interval"]) for score in SCORES), style="dim")
        table.add_section()
    return table


def _coverage(horizons: Mapping[str, Any]) -> Table:
    table = Table(
        title="The surest calls: mean move of the mid, and what a taker keeps after spread and fees (ticks)", title_justify="left"
    )
    for label in ("h", "coverage", "calls", "precision", "move", *(f"net {label}" for label in LATENCIES.values())):
        table.add_column(label, justify="right")
    for horizon, scored in horizons.items():
        for number, (coverage, row) in enumerate(scored["coverage"].items()):
            nets = [_number(row["by_latency"][latency]["net_ticks"]["value"], 2) for latency in LATENCIES]
            move = _number(row["by_latency"]["0"]["move_ticks"]["value"], 2)
            first = horizon if number == 0 else ""
            table.add_row(first, f"{float(coverage):.0%}", f"{row['calls']:,}", _number(row["precision"]["value"]), move, *nets)
        table.add_section()
    return table


def _deflated(horizons: Mapping[str, Any]) -> Table:
    table = Table(title="Skill against the best baseline, deflated by the number of tries", title_justify="left")
    for label in ("h", "baseline", "log-loss saved", "95 % interval", "tries", "probability of skill", "of a taker's profit at 5 %"):
        table.add_column(label, justify="right")
    for horizon, scored in horizons.items():
        gain, deflated = scored["gain"], scored["deflated"]
        saved = gain["log_loss"]
        chances = (_number(deflated[which]["probability"]) for which in ("gain", "net"))
        interval = _interval(saved["interval"])
        table.add_row(horizon, gain["over"], _number(saved["value"], 4), interval, str(deflated["gain"]["trials"]), *chances)
    return table


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(bounds: list[float | None]) -> str:
    return f"{_number(bounds[0])}..{_number(bounds[1])}"
