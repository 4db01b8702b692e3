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
    "mcc_largest": "MCC largest",
    "auc_up_down": "AUC",
    "ece": "ECE",
}
NARROW: Final = ("log_loss", "mcc", "mcc_largest", "auc_up_down", "ece")
"""The scores, without intervals, of a terminal that has no room for all."""
WIDE: Final = 130

LATENCIES: Final = {"0": "0 ms", "5": "5 ms", "50": "50 ms", "250": "250 ms", "next_row": "next row"}


def report_view(report: Mapping[str, Any], width: int) -> RenderableType:
    """Return what a person wants to know first: scores beside the baselines, what the surest calls met, and what to doubt.

    `width` is the terminal's, in characters.
    """
    horizons = report["horizons"]
    scores = _scores(report, is_wide=width >= WIDE)
    parts: list[RenderableType] = [Text(_headline(report)), scores, _coverage(horizons), _deflated(horizons)]
    parts += [Text(f"Doubtful: {alarm}") for alarm in report["alarms"]]
    return Group(*parts)


def _headline(report: Mapping[str, Any]) -> str:
    folds = report["folds"]
    tested = ", ".join(dict.fromkeys(part["file"] for fold in folds for part in fold["test"]))
    trained = ", ".join(dict.fromkeys(part["file"] for part in folds[-1]["train"]))
    how = "fixed split" if len(folds) == 1 else f"walk-forward, {len(folds)} folds"
    return f"{report['model']}, label {report['label']}, {how}\ntrained on {trained}\ntested on  {tested}"


def _scores(report: Mapping[str, Any], *, is_wide: bool) -> Table:
    shown = {score: label for score, label in SCORES.items() if is_wide or score in NARROW}
    table = Table(title="Scores" + (" (95 % block-bootstrap interval under the model's)" if is_wide else ""), title_justify="left")
    for label in ("h", "rows"):
        table.add_column(label, justify="right")
    table.add_column("who")
    for label in shown.values():
        table.add_column(label, justify="right")
    for horizon, scored in report["horizons"].items():
        for number, (who, values) in enumerate(scored["scores"].items()):
            first = (horizon, f"{scored['rows']:,}") if number == 0 else ("", "")
            name = report["model"] if who == "model" else who
            table.add_row(*first, name, *(_number(values[score]["value"]) for score in shown))
            if who == "model" and is_wide:
                table.add_row("", "", "", *(_interval(values[score]["interval"]) for score in shown), style="dim")
        table.add_section()
    return table


def _coverage(horizons: Mapping[str, Any]) -> Table:
    table = Table(title="The surest calls, in ticks: move of the mid, a taker's net", title_justify="left")
    for label in ("h", "share", "calls", "right", "move", *LATENCIES.values()):
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
    table = Table(title="Over the best baseline; probabilities deflated by the tries", title_justify="left")
    for label in ("h", "baseline", "saved", "95 % interval", "tries", "skill", "taker's profit"):
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
